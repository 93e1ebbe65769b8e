"""Command: runs the bank of real defects in pinned releases, each where it is and where it is mended.

    python -m tests.legacy.bank [--only F01,F02] [--ci] [--jobs 2] [--json FILE] [--cache DIR] [--torch]
    python -m tests.legacy.bank --from FILE

Every release is installed into a folder beside the same torch and nothing else of the environment changes. A row is one
case, release and implementation. Exit 1 unless every defect is found in every bad release, with the slug of the table,
and gone in every fixed one; exit 2 on an id that no case has. Cases that need another torch (gigabytes) run with
--torch only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.legacy import routes
from tests.legacy.environments import cache
from tests.legacy.table import Case, cases

#: What a row may say. The first three are as it should be; "not run" is a gap and fails.
FOUND, CLEAN, REFUSED = "found", "clean", "refused"
MISSED, DIRTY, NOT_RUN = "MISSED", "NOT CLEAN", "NOT RUN"
GOOD = (FOUND, CLEAN, REFUSED)


@dataclass(frozen=True)
class Row:
    """One case in one release under one implementation. figures: what was seen, in the report's own words."""

    case: str
    package: str
    version: str
    bad: bool
    implementation: str
    scenario: str
    wanted: str
    seen: tuple[str, ...]
    verdict: str
    figures: str


def rows(case: Case, version: str, bad: bool, root: Path) -> list[Row]:
    """What attncheck says of the case in a release."""
    try:
        readings = routes.run(case, version, root)
    except Exception as error:  # a release that cannot be installed or run is a gap, and said so
        text = f"{type(error).__name__}: {str(error)[-600:]}"
        readings = {name: routes.Reading((), text, "not_run") for name in case.impl}
    return [_row(case, version, bad, name, reading) for name, reading in readings.items()]


def _row(case: Case, version: str, bad: bool, name: str, reading: routes.Reading) -> Row:
    wanted = case.wanted(name, version) if bad else ""
    seen = reading.slugs
    if reading.status == "not_run":
        verdict = NOT_RUN
    elif reading.status == "rejected":
        verdict = REFUSED if bad or case.refused else NOT_RUN
    elif bad:
        verdict = FOUND if wanted in seen else MISSED
    else:
        verdict = DIRTY if set(seen) - case.may_remain(name) else CLEAN
    return Row(case.id, case.package, version, bad, name, case.scenario, wanted, tuple(seen), verdict, reading.figures)


def unfound(done: Sequence[Row]) -> list[str]:
    """What is not as the table says, one line each; a case whose defect showed nowhere included."""
    wrong = [
        f"{row.case} {row.package} {row.version} {row.implementation}: {row.verdict}"
        for row in done
        if row.verdict not in GOOD
    ]
    for case in dict.fromkeys(row.case for row in done if row.bad):
        if not any(row.verdict == FOUND for row in done if row.case == case):
            wrong.append(f"{case}: found nowhere")
    return wrong


def work(chosen: Sequence[Case], jobs: int, root: Path, ci: bool = False) -> Iterator[Row]:
    """All rows of the cases, as they come; releases of one case may run at the same time."""
    tasks = [(case, version, bad) for case in chosen for version, bad in case.ends(ci)]
    with ThreadPoolExecutor(jobs) as pool:
        for done in pool.map(lambda task: rows(*task, root), tasks):
            yield from done


def table(done: Sequence[Row]) -> str:
    """The rows as Markdown, with the totals below."""
    lines = ["| case | release | | implementation | scenario | wanted | seen | verdict | figures |", "|" + "---|" * 9]
    for row in done:
        cells = (
            row.case, f"{row.package} {row.version}", "bad" if row.bad else "fixed", row.implementation, row.scenario,
            row.wanted or "-", ", ".join(row.seen) or "-", row.verdict, row.figures.replace("|", "/"),
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    ids = dict.fromkeys(row.case for row in done)
    wrong = {line.split(":")[0].split()[0] for line in unfound(done)}
    bad = [row for row in done if row.bad and row.verdict != REFUSED]
    fixed = [row for row in done if not row.bad]
    lines += [
        "",
        f"cases as expected: {len(ids) - len(wrong)} of {len(ids)}",
        f"bad releases: {sum(row.verdict == FOUND for row in bad)} of {len(bad)} readings found",
        f"fixed releases: {sum(row.verdict in GOOD for row in fixed)} of {len(fixed)} readings clean",
    ]
    return "\n".join(lines)


def main() -> None:
    """Parses the arguments, runs the cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="ids, separated by commas")
    parser.add_argument("--ci", action="store_true", help="only the small subset of every run")
    parser.add_argument("--torch", action="store_true", help="also cases that need another torch")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cache", type=Path, help="keep installed releases here")
    parser.add_argument("--from", dest="stored", type=Path, help="print the table of a stored run")
    arguments = parser.parse_args()
    if arguments.stored:
        done = [Row(**{**entry, "seen": tuple(entry["seen"])}) for entry in json.loads(arguments.stored.read_text())]
    else:
        wanted = {name for name in arguments.only.split(",") if name}
        if strange := sorted(wanted - {case.id for case in cases()}):
            parser.error(
                f"--only {','.join(strange)}: no such case; there are {', '.join(case.id for case in cases())}"
            )
        chosen = [
            case
            for case in cases()
            if (not wanted or case.id in wanted)
            and (case.ci or not arguments.ci)
            and (case.package != "torch" or arguments.torch or case.id in wanted)
        ]
        done = []
        with cache(arguments.cache) as root:
            for row in work(chosen, arguments.jobs, root, arguments.ci):
                done.append(row)
                print(f"{row.case} {row.version} {row.implementation}: {row.verdict}", file=sys.stderr, flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps([asdict(entry) for entry in done], indent=1))
    print(table(done))
    wrong = unfound(done)
    print("\n".join(wrong))
    sys.exit(1 if wrong or not done else 0)


if __name__ == "__main__":
    main()
