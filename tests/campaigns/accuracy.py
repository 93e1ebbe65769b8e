"""Command: the accuracy report: planted faults, the bank of real defects, alarms on known-good pairs, coverage.

    python -m tests.campaigns.accuracy [--planted FILE] [--bank FILE] [--survey DIR] [--markdown]

FILE and DIR hold stored results of `tests.campaigns.planted --json`, `tests.legacy.bank --json`, `attncheck survey -o`.
What is not given is run now, which takes long: half an hour for the faults, an hour for the bank, a quarter for the
survey.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attncheck.survey.run import RESULTS
from attncheck.survey.store import load
from attncheck.surveyed import Row, State, Status
from tests.survey import confirm, ledger

Line = tuple[str, str]


def planted(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Faults found of faults planted, by dtype."""
    faults = [row for row in rows if "fault" in row]
    lines = []
    for dtype in dict.fromkeys(row["dtype"] for row in faults):
        mine = [row for row in faults if row["dtype"] == dtype]
        found, named = sum(row["flagged"] for row in mine), sum(row["right"] for row in mine)
        types = len({row["type"] for row in mine})
        text = f"{found} of {len(mine)} found, {named} under their own name, in {types} model types"
        lines.append((f"planted faults, {dtype}", text))
    return lines


def bank(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Cases found in bad releases of cases, and how many fixed releases are clean."""
    cases = list(dict.fromkeys(row["case"] for row in rows if row["bad"]))
    controls = {row["case"] for row in rows} - set(cases)
    good = ("found", "clean", "refused")
    found = [
        case
        for case in cases
        if all(row["verdict"] in good for row in rows if row["case"] == case and row["bad"])
        and any(row["verdict"] == "found" for row in rows if row["case"] == case)
    ]
    fixed = [row for row in rows if not row["bad"]]
    alarms = [row for row in fixed if row["verdict"] == "NOT CLEAN"]
    missing = sorted(set(cases) - set(found))
    return [
        (
            "real defects of released packages",
            f"{len(found)} of {len(cases)} found" + (f"; not: {', '.join(missing)}" if missing else ""),
        ),
        (
            "alarms in releases that mended them",
            f"{len(alarms)} in {len(fixed)} readings, {len(controls)} negative controls among them",
        ),
    ]


def known_good(rows: Sequence[Row]) -> list[Line]:
    """Alarms on the pairs of type and implementation that brute force confirmed beforehand."""
    by_name = {(row.model_type, row.setting): row for row in rows}
    pairs, alarms, unread = set(), [], []
    for model_type, setting, implementation, scenarios in confirm.pairs():
        row = by_name.get((model_type, setting))
        pairs.add((model_type, setting, implementation))
        for scenario in scenarios:
            cell = row.cell(implementation, scenario) if row is not None else None
            place = f"{model_type} {setting} x {implementation} {scenario}".replace("  ", " ")
            if cell is None or cell.state is not State.MEASURED:
                wrong = cell is not None and cell.state in (State.MISMATCH, State.BREAKS)
                (alarms if wrong else unread).append(place)
    types = {model_type for model_type, _, _ in pairs}
    text = f"{len(alarms)} on {len(pairs)} pairs of {len(types)} model types"
    return [
        ("alarms on known-good pairs", text + (f": {', '.join(alarms)}" if alarms else "")),
        *([("known-good places without a verdict", ", ".join(unread))] if unread else []),
    ]


def coverage(rows: Sequence[Row]) -> list[Line]:
    """Model types measured, read through a black box, unknown, not built."""
    own = [row for row in rows if not row.setting]
    groups: dict[str, list[str]] = {}
    for row in own:
        groups.setdefault(group_of(row), []).append(row.model_type)
    text = [row for row in own if row.status is not Status.NO_TEXT]
    lines = [
        (f"model types {name}", f"{len(types)} of {len(text)}")
        for name, types in sorted(groups.items())
        if name != NO_TEXT
    ]
    lines.append((f"model types {NO_TEXT}", str(len(groups.get(NO_TEXT, ())))))
    built = [row for row in own if row.status is Status.SURVEYED]
    for title, causal in (("causal", True), ("other", False)):
        mine = [row for row in built if (row.kind == "causal-lm") is causal and row.declared]
        known = [
            row
            for row in mine
            if not any({"direction", "window", "chunk", "kind"} & set(f) for f in row.declared.values())
        ]
        share = f"{len(known)} of {len(mine)} ({100 * len(known) / max(1, len(mine)):.0f} %)"
        lines.append((f"masks that the oracle knows, {title} types", share))
    return lines


NO_TEXT = "that read no text"


def group_of(row: Row) -> str:
    """What a type counts as."""
    if row.status is Status.NO_TEXT:
        return NO_TEXT
    if row.status is not Status.SURVEYED:
        return "not built"
    if not row.method:
        return "without attention, or not read"
    if any(cell.state in (State.MEASURED, State.MISMATCH) for cell in row.cells if cell.scenario == "plain"):
        return "measured through a black box" if row.method == "black-box" else "measured"
    return "unknown"


def stored(path: Path | None, module: str) -> Any:
    """The rows of a campaign, from its file or by running it."""
    if path is None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.json"
            subprocess.run([sys.executable, "-m", module, "--json", str(path)], check=False, stdout=subprocess.DEVNULL)
            return json.loads(path.read_text())
    return json.loads(path.read_text())


def survey(folder: Path | None) -> tuple[Any, list[Row]]:
    """Plan and rows of a survey, from its folder or by running it."""
    if folder is None:
        folder = Path("attncheck-survey")
        subprocess.run(
            [sys.executable, "-m", "attncheck", "survey", "-o", str(folder), "--fail-on", "never"], check=True
        )
    return load(str(folder / RESULTS))


def main() -> None:
    """Parses the arguments and prints the report; exit 1 where something was missed or invented."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planted", type=Path)
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--survey", type=Path)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    plan, rows = survey(arguments.survey)
    entries = ledger.entries()
    wrong = ledger.mismatches(rows)
    unknown = ledger.unexplained(rows, entries)
    genuine = Counter(entry.verdict for entry in entries)
    lines = [
        *planted(stored(arguments.planted, "tests.campaigns.planted")),
        *bank(stored(arguments.bank, "tests.legacy.bank")),
        *known_good(rows),
        (
            f"mismatches in transformers {plan.versions.get('transformers', '')}",
            f"{len(wrong)}, of which {len(wrong) - len(unknown)} explained by {genuine['genuine']} confirmed "
            f"causes and {genuine['limitation']} limitations",
        ),
        *coverage(rows),
    ]
    width = max(len(label) for label, _ in lines)
    if arguments.markdown:
        print("| | |\n|---|---|")
    for label, text in lines:
        print(f"| {label} | {text} |" if arguments.markdown else f"{label:<{width}}  {text}")
    sys.exit(1 if unknown else 0)


if __name__ == "__main__":
    main()
