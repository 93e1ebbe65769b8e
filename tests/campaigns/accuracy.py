"""Command: the accuracy report: planted faults, the bank of real defects, alarms on known-good pairs, coverage.

    python -m tests.campaigns.accuracy [--planted FILE] [--bank FILE] [--survey DIR] [--markdown]

FILE and DIR hold stored results of `tests.campaigns.planted --json`, `tests.legacy.bank --json`, `attncheck survey -o`.
What is not given is run now, which takes long: half an hour for the faults, an hour and gigabytes of releases for the
bank, a quarter for the survey. Exit 1 where something was missed, wrongly named, invented or not run; the line says
what.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attncheck.survey.run import RESULTS
from attncheck.survey.store import load
from attncheck.surveyed import Row, State, Status
from tests.legacy.table import cases
from tests.survey import confirm, ledger

#: Names that a line gives before it only counts.
NAMED = 12


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report. wrong: it tells of something missed, invented or not run."""

    label: str
    text: str
    wrong: bool = False


def planted(rows: Sequence[Mapping[str, Any]], entries: Sequence[ledger.Entry]) -> list[Line]:
    """Faults found of faults planted, by dtype; what healthy controls said; types without any."""
    faults = [row for row in rows if "fault" in row]
    lines = []
    for dtype in dict.fromkeys(row["dtype"] for row in faults):
        mine = [row for row in faults if row["dtype"] == dtype]
        missed = [f"{row['fault']} in {row['type']}" for row in mine if not row["flagged"]]
        named = [f"{row['fault']} in {row['type']}" for row in mine if row["flagged"] and not row["right"]]
        right, types = len(mine) - len(missed) - len(named), len({row["type"] for row in mine})
        text = f"{len(mine) - len(missed)} of {len(mine)} found, {right} under their own name, in {types} model types"
        text += listed("; missed", missed) + listed("; wrongly named", named)
        lines.append(Line(f"planted faults, {dtype}", text, bool(missed or named)))
    if not faults:
        lines.append(Line("planted faults", "NOT RUN", True))
    lost = [f"{row['type']}: {row['skipped']}" for row in rows if row.get("lost")]
    if lost:
        lines.append(Line("types with faults NOT RUN", "; ".join(lost), True))
    return [*lines, *controls(rows, entries), *unplanted(rows)]


def controls(rows: Sequence[Mapping[str, Any]], entries: Sequence[ledger.Entry]) -> list[Line]:
    """What was said of models in which nothing was planted; the library's own mismatches are in the ledger."""
    healthy = [row for row in rows if row.get("read")]
    loud = [(row, *text.split(": ", 1)) for row in healthy for text in row["control"]]
    alarms = [
        f"{row['type']} {row['dtype']} {row['scenario']} {variant}: {slug}"
        for row, variant, slug in loud
        if not any(_explains(entry, row, variant, slug) for entry in entries)
    ]
    text = f"{len(alarms)} in {len(healthy)} controls"
    text += f", beside {len(loud) - len(alarms)} mismatches of the ledger" if len(loud) > len(alarms) else ""
    return [Line("alarms on healthy controls", text + listed("", alarms), bool(alarms))] if healthy else []


def _explains(entry: ledger.Entry, row: Mapping[str, Any], variant: str, slug: str) -> bool:
    """Whether the ledger knows this of eager, whose mask the healthy function is given."""
    return (
        row["type"] in entry.types
        and slug in entry.slugs
        and "eager" in entry.implementations
        and row["scenario"] in entry.scenarios
        and (not entry.variants or variant in entry.variants)
    )


def unplanted(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Types in which no fault could be planted."""
    seen = dict.fromkeys(row["type"] for row in rows if not row.get("lost"))
    types = sorted(set(seen) - {row["type"] for row in rows if "fault" in row})
    return [Line("types in which nothing can be planted", f"{len(types)}: {', '.join(types)}")] if types else []


def bank(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Cases found in bad releases of cases, how many fixed releases are clean, and what was not run."""
    ids = list(dict.fromkeys(row["case"] for row in rows if row["bad"]))
    negative = {row["case"] for row in rows} - set(ids)
    found = [case for case in ids if _found([row for row in rows if row["case"] == case and row["bad"]])]
    missed = [_place(row) for row in rows if row["verdict"] == "MISSED"]
    missed += [f"{case} nowhere" for case in ids if case not in found and not any(_of(case, text) for text in missed)]
    fixed = [row for row in rows if not row["bad"]]
    alarms = [_place(row) for row in fixed if row["verdict"] == "NOT CLEAN"]
    unread = [_place(row) for row in rows if row["verdict"] == "NOT RUN"]
    unread += [f"{case.id}, no row" for case in cases() if case.id not in {row["case"] for row in rows}]
    text = f"{len(found)} of {len(ids)} found" + listed("; not", missed)
    clean = f"{len(alarms)} in {len(fixed)} readings, {len(negative)} negative controls among them"
    lines = [
        Line("real defects of released packages", text, len(found) < len(ids)),
        Line("alarms in releases that mended them", clean + listed("", alarms), bool(alarms)),
    ]
    return [*lines, *([Line("bank readings NOT RUN", f"{len(unread)}{listed('', unread)}", True)] if unread else [])]


def _found(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a case shows in every bad release that lets it be seen."""
    verdicts = [row["verdict"] for row in rows]
    return "found" in verdicts and set(verdicts) <= {"found", "refused"}


def _place(row: Mapping[str, Any]) -> str:
    return f"{row['case']} {row['package']} {row['version']} {row['implementation']}"


def _of(case: str, text: str) -> bool:
    return text.split()[0] == case


def listed(label: str, names: Sequence[str]) -> str:
    """ ": a, b" behind a label; nothing without names."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{label}: {', '.join(names[:NAMED])}{more}" if names else ""


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
    text = f"{len(alarms)} on {len(pairs)} pairs of {len(types)} model types" + listed("", alarms)
    lines = [Line("alarms on known-good pairs", text, bool(alarms))]
    return [
        *lines,
        *([Line("known-good places NOT RUN", f"{len(unread)}{listed('', unread)}", True)] if unread else []),
    ]


def mismatches(rows: Sequence[Row], entries: Sequence[ledger.Entry], version: str) -> Line:
    """Mismatches of the survey, and how many of them the ledger explains."""
    wrong, unknown = ledger.mismatches(rows), ledger.unexplained(rows, entries)
    verdicts = Counter(entry.verdict for entry in entries)
    text = (
        f"{len(wrong)}, of which {len(wrong) - len(unknown)} explained by {verdicts['genuine']} confirmed "
        f"causes and {verdicts['limitation']} limitations"
    )
    places = [f"{row.name} x {found.implementation} {found.scenario} {found.slug}" for row, found in unknown]
    return Line(f"mismatches in transformers {version}", text + listed("; not", places), bool(unknown))


def coverage(rows: Sequence[Row]) -> list[Line]:
    """Model types measured, read through a black box, unknown, not built."""
    own = [row for row in rows if not row.setting]
    groups: dict[str, list[str]] = {}
    for row in own:
        groups.setdefault(group_of(row), []).append(row.model_type)
    text = [row for row in own if row.status is not Status.NO_TEXT]
    lines = [
        Line(f"model types {name}", f"{len(types)} of {len(text)}")
        for name, types in sorted(groups.items())
        if name != NO_TEXT
    ]
    lines.append(Line(f"model types {NO_TEXT}", str(len(groups.get(NO_TEXT, ())))))
    built = [row for row in own if row.status is Status.SURVEYED]
    for title, causal in (("causal", True), ("other", False)):
        mine = [row for row in built if (row.kind == "causal-lm") is causal and row.declared]
        known = [
            row
            for row in mine
            if not any({"direction", "window", "chunk", "kind"} & set(f) for f in row.declared.values())
        ]
        share = f"{len(known)} of {len(mine)} ({100 * len(known) / max(1, len(mine)):.0f} %)"
        lines.append(Line(f"masks that the oracle knows, {title} types", share))
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


def stored(path: Path | None, module: str, *options: str) -> tuple[Any, list[Line]]:
    """The rows of a campaign, from its file or by running it, and a line about how it ended where not well."""
    if path is not None:
        return json.loads(path.read_text()), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", module, "--json", str(path), *options]
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        rows = json.loads(path.read_text()) if path.exists() else []
    return rows, ended(f"python -m {module}", done.returncode)


def survey(folder: Path | None) -> tuple[Any, list[Row], list[Line]]:
    """Plan and rows of a survey, from its folder or by running it, and a line about how it ended where not well."""
    lines = []
    if folder is None:
        folder = Path("attncheck-survey")
        command = [sys.executable, "-m", "attncheck", "survey", "-o", str(folder), "--fail-on", "never"]
        lines = ended("attncheck survey", subprocess.run(command, check=False).returncode)
    return (*load(str(folder / RESULTS)), lines)


def ended(command: str, code: int) -> list[Line]:
    """A line for an exit code other than 0."""
    return [Line(f"{command} ended with", f"exit code {code}", True)] if code else []


def printed(lines: Sequence[Line], markdown: bool) -> Iterable[str]:
    """The report's lines."""
    width = max(len(line.label) for line in lines)
    if markdown:
        yield "| | |\n|---|---|"
    for line in lines:
        yield f"| {line.label} | {line.text} |" if markdown else f"{line.label:<{width}}  {line.text}"


def main() -> None:
    """Parses the arguments and prints the report; exit 1 where something was missed, invented or not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planted", type=Path)
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--survey", type=Path)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    for path in (arguments.planted, arguments.bank, arguments.survey and arguments.survey / RESULTS):
        if path is not None and not path.is_file():
            parser.error(f"{path}: no such file")
    entries = ledger.entries()
    plan, rows, ran = survey(arguments.survey)
    faults, planted_ran = stored(arguments.planted, "tests.campaigns.planted")
    defects, bank_ran = stored(arguments.bank, "tests.legacy.bank", "--torch")
    lines = [
        *planted(faults, entries),
        *bank(defects),
        *known_good(rows),
        mismatches(rows, entries, plan.versions.get("transformers", "")),
        *coverage(rows),
        *ran,
        *planted_ran,
        *bank_ran,
    ]
    for text in printed(lines, arguments.markdown):
        print(text)
    sys.exit(1 if any(line.wrong for line in lines) else 0)


if __name__ == "__main__":
    main()
