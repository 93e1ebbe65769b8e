"""The version x type matrix of a campaign: one letter a cell, and every mismatch dated and looked up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

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
    """The entries of known_transformers.toml and the cases of bank.toml that hold a mismatch in all those releases."""
    from attncheck.checks.defect_table import table
    from tests.legacy.table import cases

    found = []
    for defect in table():
        ranges = defect.versions.get("transformers", ())
        fits = (
            slug in defect.slugs
            and implementation in defect.implementations
            and set(defect.versions) == {"transformers"}
        )
        fits = fits and (not defect.models or model_type in defect.models) and _same_place(defect, place)
        if fits and any(r.contains(first) for r in ranges) and any(r.contains(last) for r in ranges):
            found.append(defect.id)
    for case in cases():
        same = (case.target, case.slug) == (model_type, slug) and implementation in case.impl
        if (
            same
            and (case.scenario in CORE) == (place == "core")
            and (place == "core" or place.startswith(case.scenario))
        ):
            found.append(case.id)
    return tuple(found)


def _same_place(defect: Any, place: str) -> bool:
    """True when the entry speaks of that place: of core scenarios, or of the scenario and variant of its check."""
    check = defect.check
    if check is None or check.scenario in CORE:
        return place == "core" or place.split()[0] not in (defect.needs, "packed", "custom-mask")
    scenario, _, variant = place.partition(" ")
    return scenario == check.scenario and check.variant in ("", variant)


def as_markdown(rows: Sequence[Row], releases: Sequence[str], types: Sequence[str], names: Sequence[str]) -> str:
    """The matrix of each implementation, then every mismatch with its first and last release."""
    by_key = {(row["version"], row["type"]): row for row in rows}
    shown = [version for version in releases if any(key[0] == version for key in by_key)]
    legend = ", ".join(f"{letter} {slug}" for slug, letter in LETTERS.items())
    lines = [
        f"{len(by_key)} of {len(releases) * len(types)} release x type pairs.",
        f"Letters: {legend}. Capitals: core scenarios; small: packed, custom-mask. '.' right, '-' refused, "
        "'?' no verdict, '!' not built, empty: the release does not know the type, blank: not run.",
    ]
    for name in names:
        lines += ["", f"## {name}", "| type | " + " | ".join(shown) + " |", "|" + "---|" * (len(shown) + 1)]
        for kind in types:
            cells = [cell(by_key.get((version, kind)), name) for version in shown]
            if any(text.strip() for text in cells):
                lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    found = dated(rows, releases)
    lines += [
        "",
        "## Mismatches, dated",
        "| type | implementation | slug | where | first | last | known | what |",
        "|" + "---|" * 8,
    ]
    for entry in found:
        cells = (
            entry.type, entry.implementation, entry.slug, entry.place, entry.first, entry.last,
            ", ".join(entry.known) or "**new**", entry.message.replace("|", "/")[:140],
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    new = sum(not entry.known for entry in found)
    lines += ["", f"{len(found)} dated mismatches, {new} of them in no table yet."]
    return "\n".join(lines)


def as_json(rows: Sequence[Row], releases: Sequence[str], names: Iterable[str]) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "releases": list(releases),
        "cells": [
            {"version": row["version"], "type": row["type"], "implementation": name, "cell": cell(row, name)}
            for row in rows
            for name in names
        ],
        "mismatches": [asdict(entry) for entry in dated(rows, releases)],
    }
