"""The version x type matrix: letters, dates, and rows that a kill cut off."""

from __future__ import annotations

import json

import pytest

from tests.campaigns.version_matrix import as_data, as_markdown, cell, dated, known
from tests.campaigns.versions import TYPES, missing, stored

RELEASES = ("4.40.2", "4.41.2", "4.42.4", "4.43.4")


def row(version, findings=(), variants=(), **more):
    made = {
        "version": version,
        "type": "mistral",
        "status": {"sdpa": "ok"},
        "cells": {"sdpa": {"plain": {"ok": 2}}},
        "findings": [
            {"slug": slug, "severity": severity, "implementation": "sdpa", "scenario": scenario, "message": slug}
            for slug, severity, scenario in findings
        ],
        "variants": [
            {
                "implementation": "sdpa",
                "scenario": scenario,
                "variant": variant,
                "difference": slug,
                "verdict": "mismatch",
            }
            for slug, scenario, variant in variants
        ],
    }
    return {**made, **more}


WINDOW = ("window-ignored", "error", "plain")


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (None, " "),
        ({"absent": "no such type"}, ""),
        ({"broke": "ValueError"}, "!"),
        ({"skipped": "not built"}, "!"),
        (row("1"), "."),
        (row("1", [WINDOW]), "W"),
        (row("1", [("packing-leak", "warning", "packed")]), "l"),
        (row("1", [WINDOW, ("window-ignored", "warning", "custom-mask")]), "W"),
        (row("1", [("window-ignored", "note", "plain")]), "."),
        (row("1", [("gradient-mismatch", "error", "plain")]), "x"),
        (row("1", status={"sdpa": "rejected"}), "-"),
        (row("1", cells={"sdpa": {"plain": {"not_run": 2}}}), "?"),
    ],
)
def test_letters(made, text):
    assert cell(made, "sdpa") == text


def test_a_mismatch_is_dated_by_its_first_and_last_release():
    rows = [row("4.40.2"), row("4.41.2", [WINDOW]), row("4.42.4", [WINDOW]), row("4.43.4")]
    (found,) = dated(rows, RELEASES)
    assert (found.slug, found.place, found.first, found.last) == ("window-ignored", "core", "4.41.2", "4.42.4")


def test_a_gap_makes_two_and_a_release_that_tells_nothing_none():
    rows = [row("4.40.2", [WINDOW]), row("4.41.2"), row("4.42.4", [WINDOW]), row("4.43.4", [WINDOW])]
    assert [(f.first, f.last) for f in dated(rows, RELEASES)] == [("4.40.2", "4.40.2"), ("4.42.4", "4.43.4")]
    rows[1] = {"version": "4.41.2", "type": "mistral", "broke": "SIGSEGV"}
    assert [(f.first, f.last) for f in dated(rows, RELEASES)] == [("4.40.2", "4.43.4")]


def test_variants_outside_the_core_are_told_apart():
    rows = [row("4.40.2", variants=[("packing-leak", "packed", "no-mask"), ("packing-leak", "packed", "ones-mask")])]
    assert {found.place for found in dated(rows, RELEASES)} == {"packed no-mask", "packed ones-mask"}


def test_what_the_tables_hold_is_named_and_the_rest_is_new():
    rows = [row("4.40.2", [("scale-wrong", "error", "plain")], [("packing-leak", "packed", "no-mask")])]
    known = {found.slug: found.known for found in dated(rows, RELEASES)}
    assert "transformers-packed-not-read" in known["packing-leak"]
    assert known["scale-wrong"] == ()
    data = as_data(rows, RELEASES, tuple(TYPES), ("sdpa",))
    assert data["cells"] == {"sdpa": {"mistral": ["F"]}}
    text = as_markdown(data)
    assert "1 of them in no table yet" in text


def test_entries_must_hold_every_release_of_a_mismatch_between_them():
    where = ("llama", "sdpa", "packing-leak", "packed ones-mask", "4.37.2")
    assert set(known(*where, "5.23.0")) == {"transformers-packed-not-read", "transformers-packed-contamination"}
    assert known(*where, "4.52.4") == ("transformers-packed-not-read",)
    assert known("gpt2", "flash_attention_2", "causal-ignored", "core", "4.56.2", "4.57.6")
    assert known("gpt2", "flash_attention_2", "causal-ignored", "core", "4.55.4", "4.57.6") == ()


def test_rows_survive_a_kill(tmp_path):
    file = tmp_path / "rows"
    lines = [
        {"version": "4.40.2", "type": "llama", "started": True},
        {"version": "4.40.2", "type": "llama", "status": {}},
        {"version": "4.40.2", "type": "mistral", "started": True},
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + '\n{"version": "4.40.2", "type": "mist')
    assert [entry["type"] for entry in stored(file)] == ["llama"]
    assert missing(file, "4.40.2", ("llama", "mistral")) == ["mistral"]
    assert missing(tmp_path / "none", "4.40.2", ("llama",)) == ["llama"]
