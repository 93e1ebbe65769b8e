"""Command: are all mismatches of a survey in the ledger, and does every entry of the ledger still happen?

    python -m tests.survey.ledger attncheck-survey/results.jsonl

Exit 1 on a mismatch that no entry explains and on an entry, or a type of it, that the survey no longer shows. A survey
of some types is held against what the ledger says of those types.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from attncheck.survey.store import load
from attncheck.surveyed import Row, SurveyFinding

LEDGER = Path(__file__).parent / "ledger.toml"
VERDICTS = ("genuine", "limitation")
#: Findings of these levels are mismatches; a note says that nothing is wrong.
LEVELS = ("error", "warning")


@dataclass(frozen=True, slots=True)
class Entry:
    """One cause of mismatches, as triaged.

    slugs, implementations, scenarios: where it shows; each must show somewhere. types: model types, each must show it.
    parts, variants, settings: only there, empty for any; a finding's variants must all be among them.
    verdict: genuine (what runs is not what is declared: `what`, `where` in the code, `confirm` by brute force, `thread`
    upstream if there is one) or limitation (why no verdict of transformers is possible: `what`).
    """

    name: str
    verdict: str
    what: str
    slugs: tuple[str, ...]
    implementations: tuple[str, ...]
    scenarios: tuple[str, ...]
    types: tuple[str, ...]
    parts: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    where: str = ""
    thread: str = ""
    confirm: tuple[Mapping[str, Any], ...] = field(default=())

    def explains(self, row: Row, finding: SurveyFinding) -> bool:
        """True when the finding is one of this entry."""
        return (
            row.model_type in self.types
            and finding.slug in self.slugs
            and finding.implementation in self.implementations
            and finding.scenario in self.scenarios
            and (not self.parts or finding.part in self.parts)
            and (not self.variants or set(finding.variants) <= set(self.variants))
            and (not self.settings or row.setting in self.settings)
        )


def entries(path: Path = LEDGER) -> list[Entry]:
    """The ledger. Raises ValueError for an entry that is not complete."""
    found = []
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["entry"]:
        made = Entry(**{key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()})
        if made.verdict not in VERDICTS:
            raise ValueError(f"{made.name}: verdict {made.verdict!r}, expected one of {VERDICTS}")
        if made.verdict == "genuine" and not (made.where and made.confirm):
            raise ValueError(f"{made.name}: a genuine entry says where in the code, and how brute force confirms it")
        found.append(made)
    if twice := {entry.name for entry in found if [e.name for e in found].count(entry.name) > 1}:
        raise ValueError(f"entries share a name: {sorted(twice)}")
    return found


def mismatches(rows: Iterable[Row]) -> list[tuple[Row, SurveyFinding]]:
    """Every finding that says that something is wrong."""
    return [(row, finding) for row in rows for finding in row.findings if finding.severity in LEVELS]


def unexplained(rows: Iterable[Row], ledger: Sequence[Entry]) -> list[tuple[Row, SurveyFinding]]:
    """The mismatches that no entry explains."""
    return [
        (row, finding) for row, finding in mismatches(rows) if not any(entry.explains(row, finding) for entry in ledger)
    ]


def stale(rows: Sequence[Row], ledger: Sequence[Entry], asked: tuple[Sequence[str], Sequence[str]]) -> list[str]:
    """What the ledger says of the surveyed types and does not happen. asked: implementations, scenarios."""
    surveyed = {row.model_type for row in rows if row.cells}
    complete = mismatches(rows)
    lines = []
    # A finding of no implementation is about how several differ.
    names = {*asked[0], *([""] if len(asked[0]) > 1 else [])}
    for entry in ledger:
        if not set(entry.implementations) & names or not set(entry.scenarios) & set(asked[1]):
            continue
        seen = [(row, finding) for row, finding in complete if entry.explains(row, finding)]
        types = {row.model_type for row, _ in seen}
        gone = [name for name in entry.types if name in surveyed and name not in types]
        if gone:
            lines.append(f"{entry.name}: no longer seen in {', '.join(gone)}")
        if set(entry.types) <= surveyed:  # only a survey of all its types shows all its places
            lines += [
                f"{entry.name}: never seen as {', '.join(sorted(missing))}"
                for missing in (
                    set(entry.slugs) - {finding.slug for _, finding in seen},
                    (set(entry.implementations) & names) - {finding.implementation for _, finding in seen},
                    (set(entry.scenarios) & set(asked[1])) - {finding.scenario for _, finding in seen},
                )
                if missing
            ]
    return lines


def unknown_types(rows: Iterable[Row], ledger: Iterable[Entry]) -> list[str]:
    """Types of the ledger that a whole survey does not even list."""
    listed = {row.model_type for row in rows}
    return sorted({name for entry in ledger for name in entry.types} - listed)


def words(found: Sequence[tuple[Row, SurveyFinding]]) -> list[str]:
    """Unexplained mismatches, those of one kind together."""
    together: dict[tuple[str, ...], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row, finding in found:
        key = finding.slug, finding.implementation, finding.part, ", ".join(finding.variants), finding.message[:160]
        together[key]["types"].add(row.name)
        together[key]["scenarios"].add(finding.scenario)
    lines = []
    for (slug, implementation, part, variants, message), where in sorted(together.items()):
        names = sorted(where["types"])
        lines.append(
            f"{slug} x {implementation} [{part}] in {', '.join(sorted(where['scenarios']))} ({variants}): {message}\n"
            f"    {len(names)} types: {', '.join(names)}"
        )
    return lines


def main() -> None:
    """Parses the arguments and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", help="results.jsonl of a survey")
    arguments = parser.parse_args()
    plan, rows = load(arguments.results)
    sys.exit(report(rows, (plan.implementations, plan.scenarios)))


def report(rows: Sequence[Row], asked: tuple[Sequence[str], Sequence[str]]) -> int:
    """Print what is not explained and what is stale; 1 when there is anything."""
    ledger = entries()
    unknown, gone = unexplained(rows, ledger), stale(rows, ledger, asked)
    count = len(mismatches(rows))
    print(f"{count - len(unknown)} of {count} mismatches explained by {len(ledger)} entries of the ledger")
    for line in words(unknown):
        print(f"NOT IN THE LEDGER: {line}")
    for line in gone:
        print(f"STALE: {line}")
    return 1 if unknown or gone else 0


if __name__ == "__main__":
    main()
