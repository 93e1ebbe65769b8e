"""The recorded matrix of releases and types: it renders, the tables hold all of it, and no entry says more than it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attncheck.checks.defect_table import table
from tests.campaigns.version_matrix import as_markdown, known, same_place
from tests.campaigns.versions import IMPLEMENTATIONS, SCENARIOS, TYPES, one_line_each
from tests.legacy.releases import newest_patches

RECORDED = Path(__file__).parent / "recorded" / "versions.json"
DATA = json.loads(RECORDED.read_text(encoding="utf-8"))
#: In these cells something of the type and implementation was judged.
UNJUDGED = ("", " ", "-", "?", "!")
#: Entries that need nothing but what the campaign itself sets, so that the matrix speaks of them.
SPOKEN_OF = [
    entry
    for entry in table()
    if set(entry.versions) == {"transformers"}
    and entry.models
    and entry.check is not None
    and entry.check.scenario in SCENARIOS
    and entry.check.dtype == "float32"
    and "backend-unusable" not in entry.slugs
    and all(
        (key, json.loads(value)) in TYPES.get(entry.check.target, {}).items()
        for key, _, value in (text.partition("=") for text in entry.check.set)
    )
]
#: (entry, implementation) -> first release in which it shows there, as the condition of the entry says.
LATER = {("transformers-qwen2-window-all-layers", "sdpa"): "4.40.2"}


def test_the_whole_campaign_is_recorded():
    ran, asked = DATA["pairs"]
    assert ran == asked == len(newest_patches()) * len(TYPES)
    assert tuple(DATA["releases"]) == newest_patches()
    assert tuple(DATA["cells"]) == IMPLEMENTATIONS
    assert len(DATA["cells"]["eager"]) >= 25
    assert RECORDED.stat().st_size < 300_000


def test_it_renders_and_is_stored_as_it_is_written():
    text = as_markdown(DATA)
    assert "## flash_attention_2" in text
    assert text.endswith("0 of them in no table yet.")
    assert one_line_each(DATA) == RECORDED.read_text(encoding="utf-8")


def test_every_mismatch_is_held_by_the_tables():
    assert len(DATA["mismatches"]) > 400
    assert [where for *where, _ in DATA["mismatches"] if not known(*where)] == []


def test_what_was_not_built_says_why():
    told = {(version, kind) for version, kind, reason in DATA["not_built"] if reason}
    cells = {
        (version, kind)
        for kind, texts in DATA["cells"]["eager"].items()
        for version, text in zip(DATA["releases"], texts, strict=True)
        if text == "!"
    }
    assert told == cells


@pytest.mark.parametrize("entry", SPOKEN_OF, ids=lambda entry: entry.id)
def test_no_entry_claims_a_release_that_the_matrix_shows_right(entry):
    right = [
        (kind, name, version)
        for kind in entry.models
        for name in entry.implementations
        for version, text in zip(DATA["releases"], DATA["cells"].get(name, {}).get(kind, ()), strict=False)
        if text not in UNJUDGED
        and any(specifiers.contains(version) for specifiers in entry.versions["transformers"])
        and DATA["releases"].index(version) >= DATA["releases"].index(LATER.get((entry.id, name), "4.37.2"))
        and not _shown(entry, kind, name, version)
    ]
    assert right == []


def _shown(entry, kind, name, version):
    at = DATA["releases"].index
    return any(
        (row[0], row[1]) == (kind, name)
        and row[2] in entry.slugs
        and same_place(entry, row[3])
        and at(row[4]) <= at(version) <= at(row[5])
        for row in DATA["mismatches"]
    )
