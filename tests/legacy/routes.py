"""How a case of the bank is run: by `compare`, by a live model, or by doctor's kernel probes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.legacy.runs import Report, command, compare, folders, report, version_of
from tests.legacy.table import Case

#: Verdicts of the matrix that say that a cell was judged.
_JUDGED = ("ok", "mismatch")


@dataclass(frozen=True)
class Reading:
    """What one implementation showed. status: "read", "rejected", or "not_run" when some cell has no verdict."""

    slugs: tuple[str, ...]
    figures: str
    status: str = "read"


def run(case: Case, version: str, root: Path) -> dict[str, Reading]:
    """What each implementation of the case shows in a release. Raises what the install or the command raises."""
    path = folders(case.package, version, root)
    if case.route == "doctor":
        return _doctor(case, version, path, root)
    if case.route == "verify":
        return _verify(case, version, path, root)
    settings = [word for text in case.set for word in ("--set", text)]
    wanted = ("--impl", ",".join((*case.beside, *case.impl)), "--scenario", case.scenario)
    _, found = compare(case.target, *settings, *wanted, path=path, root=root)
    _require(found, case.package, version)
    return {name: _reading(case, found, name) for name in case.impl}


def _require(found: Report, package: str, version: str) -> None:
    """The report must be about the release that was asked for, or nothing of it means anything."""
    seen = version_of(found, package).partition("+")[0]
    if seen != version:
        raise RuntimeError(f"the report is about {package} {seen}, not {version}")


def _reading(case: Case, found: Report, name: str) -> Reading:
    entry = next((i for i in found["implementations"] if i["name"] == name), None)
    if entry is None or entry["status"] == "rejected":
        reasons = entry["reasons"] if entry is not None else [{"text": f"{name} is not known"}]
        return Reading((), "; ".join(reason["text"] for reason in reasons)[:200], "rejected")
    scenarios = case.scenario.split(",")
    cells = [
        cell
        for cell in found["matrix"]
        if cell["implementation"] == name
        if cell["scenario"] in scenarios and case.variant in ("", cell["variant"])
    ]
    if not cells or any(cell["verdict"] not in _JUDGED for cell in cells):
        reasons = {cell.get("reason") or cell["verdict"] for cell in cells if cell["verdict"] not in _JUDGED}
        if not any(cell["verdict"] in _JUDGED for cell in cells):
            return Reading((), "; ".join(sorted(reasons))[:200] or "no cell", "not_run")
    findings = [
        entry
        for entry in found["findings"]
        if entry["implementation"] == name and entry["scenario"] in scenarios
        if case.basis in ("", entry["basis"]) and case.severity in ("", entry["severity"])
    ]
    findings = [entry for entry in findings if case.variant in ("", *_variants(entry))]
    slugs = {entry["slug"] for entry in findings} | {cell["difference"] for cell in cells if cell["difference"]}
    leading = [entry for entry in findings if entry["slug"] == case.slug] or findings
    return Reading(tuple(sorted(slugs)), _figures(leading[0]) if leading else "all cells right")


def _variants(finding: dict[str, Any]) -> tuple[str, ...]:
    """Every variant in which a finding showed; the leading one alone is a field of its own."""
    listed = str(finding["evidence"].get("figures", {}).get("variants", ""))
    return (finding["variant"], *listed.split(", "))


def _figures(finding: dict[str, Any]) -> str:
    evidence = finding["evidence"]
    cells = (
        f"; {evidence['leaked']} cells leaked, {evidence['missed']} missed"
        if evidence.get("leaked") or evidence.get("missed")
        else ""
    )
    return f"{finding['basis']}: declared {evidence.get('declared')}, effective {evidence.get('effective')}{cells}"[
        :260
    ]


def _doctor(case: Case, version: str, path: tuple[Path, ...], root: Path) -> dict[str, Reading]:
    _, found = report(["doctor"], path, root)
    _require(found, case.package, version)
    return {name: (_alignment if case.slug == "causal-misaligned" else _empty_rows)(found, name) for name in case.impl}


def _alignment(found: Report, name: str) -> Reading:
    """Documented, so no finding: the measured row of the convention table says where the diagonal starts."""
    rows = [
        row
        for row in found["conventions"]
        if row["api"] == name and row["call"] == "is_causal=True" and row["question"] == "short-queries"
    ]
    if not rows or rows[0]["outcome"] != "read":
        return Reading((), "the row was not read", "not_run")
    wrong = rows[0]["alignment"] == "top-left"
    figures = f"measured: {rows[0]['q_len']} queries on {rows[0]['kv_len']} keys: {rows[0]['alignment']}"
    return Reading(("causal-misaligned",) if wrong else (), figures)


def _empty_rows(found: Report, name: str) -> Reading:
    rows = [row for row in found["abilities"] if row["api"] == name and row["feature"].startswith("empty-rows")]
    read = [row for row in rows if row["outcome"] == "read"]
    if not read:
        return Reading((), "rows without keys were not read", "not_run")
    told = [f for f in found["findings"] if f["slug"] == "nan-rows" and name in f["message"]]
    return Reading(
        ("nan-rows",) if told else (), (told[0]["message"] if told else "; ".join(r["value"] for r in read))[:200]
    )


def _verify(case: Case, version: str, path: tuple[Path, ...], root: Path) -> dict[str, Reading]:
    """The live model of `live_is_causal.py`, one process an implementation."""
    readings = {}
    for name in case.impl:
        _, found = command(["-m", "tests.legacy.live_is_causal", name], path, root)
        if found["transformers"] != version:
            raise RuntimeError(f"the answer is about transformers {found['transformers']}, not {version}")
        readings[name] = Reading(tuple(found["slugs"]), found["figures"][:260])
    return readings
