"""The version x type matrix of a campaign: one letter a cell, and every mismatch dated and looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.legacy.releases import newest_patches

Row = Mapping[str, Any]

#: Slug -> letter in the matrix; another slug is "x". Capitals stand for core scenarios, small letters for the others.
LETTERS = {
    "window-ignored": "W",
    "window-off-by-one": "O",
    "window-size-wrong": "Z",
    "window-unexpected": "U",
    "causal-ignored": "C",
    "causal-unexpected": "B",
    "causal-misaligned": "A",
    "padding-ignored": "P",
    "packing-leak": "L",
    "packing-split": "S",
    "mask-dropped": "M",
    "softcap-dropped": "T",
    "scale-wrong": "F",
    "sinks-dropped": "I",
    "cache-mismatch": "K",
    "nan-rows": "N",
    "backend-unusable": "E",
}
CORE = ("plain", "left-pad", "right-pad", "decode", "chunked-prefill")


@dataclass(frozen=True)
class Dated:
    """A mismatch and the releases between which it shows without a gap. place: "core", else scenario and variant.

    known: entries and cases that hold it.
    """

    type: str
    implementation: str
    slug: str
    place: str
    first: str
    last: str
    message: str
    known: tuple[str, ...] = ()


def cell(row: Row | None, implementation: str) -> str:
    """What one type did in one release under one implementation, in at most a few letters.

    "." every cell right, "-" refused, "?" no verdict, "!" not built or broke, "" the release does not know the type.
    """
    if row is None:
        return " "
    if "absent" in row:
        return ""
    if "status" not in row:
        return "!"
    status = row["status"].get(implementation)
    if status == "rejected":
        return "-"
    found = [f for f in row["findings"] if f["implementation"] == implementation and f["severity"] != "note"]
    core = {LETTERS.get(f["slug"], "x") for f in found if f["scenario"] in CORE}
    other = {LETTERS.get(f["slug"], "x").lower() for f in found if f["scenario"] not in CORE}
    letters = "".join(sorted(core)) + "".join(sorted(letter for letter in other if letter.upper() not in core))
    judged = any(verdicts.get("ok") for verdicts in row["cells"].get(implementation, {}).values())
    return letters or ("." if judged else "?")


def places(row: Row, implementation: str) -> dict[tuple[str, str], str]:
    """(slug, place) of every mismatch of a row under an implementation -> what the finding of that scenario says.

    Core scenarios are one place: what is wrong there meets everybody. Others are told apart by scenario and variant.
    """
    mine = [f for f in row.get("findings", ()) if f["implementation"] == implementation and f["severity"] != "note"]
    found: dict[tuple[str, str], str] = {}
    for entry in mine:
        if entry["scenario"] in CORE and entry["slug"] != "backend-unusable":
            found.setdefault((entry["slug"], "core"), entry["message"])
    for cell in row.get("variants", ()):
        if cell["implementation"] == implementation and cell["scenario"] not in CORE:
            slug, scenario = cell["difference"], cell["scenario"]
            message = next((f["message"] for f in mine if (f["slug"], f["scenario"]) == (slug, scenario)), "")
            found.setdefault((slug, f"{scenario} {cell['variant']}"), message)
    return found


def dated(rows: Sequence[Row], releases: Sequence[str]) -> list[Dated]:
    """Every mismatch with the runs of releases that show it. Releases in which it could not be looked for end none."""
    by_key = {(row["version"], row["type"]): row for row in rows}
    kinds: dict[tuple[str, str, str, str], None] = {}
    for row in rows:
        for implementation in row.get("status", ()):
            for slug, place in places(row, implementation):
                kinds[row["type"], implementation, slug, place] = None
    result = []
    for name, implementation, slug, place in sorted(kinds):
        run: list[str] = []
        message = ""
        for version in (*releases, ""):
            row = by_key.get((version, name))
            if version and (row is None or "status" not in row):
                continue
            said = None if row is None else places(row, implementation).get((slug, place))
            if said is not None:
                message = message or said
                run.append(version)
                continue
            if run:
                known_as = known(name, implementation, slug, place, run[0], run[-1])
                result.append(Dated(name, implementation, slug, place, run[0], run[-1], message, known_as))
            run, message = [], ""
    return result


@cache
def known(model_type: str, implementation: str, slug: str, place: str, first: str, last: str) -> tuple[str, ...]:
    """The entries of known_transformers.toml that hold a mismatch, if together they hold it in every release from first
    to last, else the cases of bank.toml that show it; () where neither does.
    """
    from attncheck.checks.defect_table import table
    from tests.legacy.table import cases

    newest = newest_patches()
    shown = newest[newest.index(first) : newest.index(last) + 1]
    entries = {
        defect.id: {v for v in shown if any(r.contains(v) for r in defect.versions["transformers"])}
        for defect in table()
        if set(defect.versions) == {"transformers"}
        and slug in defect.slugs
        and implementation in defect.implementations
        and (not defect.models or model_type in defect.models)
        and same_place(defect, place)
    }
    held = {name: releases for name, releases in entries.items() if releases}
    if set(shown) == set().union(*held.values()):
        return tuple(held)
    return tuple(
        case.id
        for case in cases()
        if (case.target, case.slug) == (model_type, slug)
        and implementation in case.impl
        and (case.scenario in CORE) == (place == "core")
        and (place == "core" or place.startswith(case.scenario))
    )


def same_place(defect: Any, place: str) -> bool:
    """True when the entry speaks of that place.

    What is wrong in core scenarios is wrong in packed rows too, and what is wrong without a mask beside one of ones.
    """
    check = defect.check
    if check is None or check.scenario in CORE:
        return place == "core" or place.startswith("packed")
    scenario, _, variant = place.partition(" ")
    return scenario == check.scenario and check.variant in ("", "no-mask", variant)


def as_data(rows: Sequence[Row], releases: Sequence[str], types: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """What is kept of a campaign, as plain data: a cell per implementation, type and release, and dated mismatches.

    not_built: (release, type, reason) of every pair that neither ran nor is absent.
    """
    by_key = {(row["version"], row["type"]): row for row in rows}
    shown = [version for version in releases if any(key[0] == version for key in by_key)]
    lines = {
        name: {kind: [cell(by_key.get((version, kind)), name) for version in shown] for kind in types} for name in names
    }
    return {
        "pairs": [len(by_key), len(releases) * len(types)],
        "releases": shown,
        "cells": {name: {t: c for t, c in kinds.items() if any(map(str.strip, c))} for name, kinds in lines.items()},
        "not_built": [
            [version, kind, str(row.get("skipped") or row.get("broke"))[:200]]
            for (version, kind), row in sorted(by_key.items())
            if "status" not in row and "absent" not in row
        ],
        "mismatches": [
            [e.type, e.implementation, e.slug, e.place, e.first, e.last, e.message[:140]] for e in dated(rows, releases)
        ],
    }


def as_markdown(data: Mapping[str, Any]) -> str:
    """The matrix of each implementation, then every mismatch with its first and last release. data: of `as_data`."""
    shown = data["releases"]
    legend = ", ".join(f"{letter} {slug}" for slug, letter in LETTERS.items())
    lines = [
        f"{data['pairs'][0]} of {data['pairs'][1]} release x type pairs.",
        f"Letters: {legend}. Capitals: core scenarios; small: packed, custom-mask. '.' right, '-' refused, "
        "'?' no verdict, '!' not built, empty: the release does not know the type, blank: not run.",
    ]
    for name, kinds in data["cells"].items():
        lines += ["", f"## {name}", "| type | " + " | ".join(shown) + " |", "|" + "---|" * (len(shown) + 1)]
        lines += [f"| {kind} | " + " | ".join(cells) + " |" for kind, cells in kinds.items()]
    lines += ["", *(f"Not built: {kind} in {version}: {reason}" for version, kind, reason in data["not_built"])]
    lines += [
        "",
        "## Mismatches, dated",
        "| type | implementation | slug | where | first | last | known | what |",
        "|" + "---|" * 8,
    ]
    new = 0
    for *where, message in data["mismatches"]:
        held = known(*where)
        new += not held
        lines.append("| " + " | ".join((*where, ", ".join(held) or "**new**", message.replace("|", "/"))) + " |")
    lines += ["", f"{len(data['mismatches'])} dated mismatches, {new} of them in no table yet."]
    return "\n".join(lines)
