"""Command: surveys every model type of the installed transformers and holds the result against the ledger.

    python -m tests.campaigns.sweep [--types A,B] [--impl eager,sdpa] [--scenario plain] [--jobs 2] [--seed 0] [-o DIR]
    python -m tests.campaigns.sweep --twice

The survey is that of `attncheck survey`. Exit 1 on a mismatch that the ledger does not explain, and on an entry that no
longer happens. --twice: a second survey with another seed into DIR-again; exit 1 where its findings differ.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from attncheck.survey.options import SurveyOptions
from attncheck.survey.run import survey
from attncheck.surveyed import Row, Survey
from tests.survey.ledger import report

#: Types that show every cause of the ledger that needs no more than a few seconds: what CI surveys.
SAMPLE = (
    "llama",
    "mistral",
    "qwen2_moe",
    "gemma",
    "gemma2",
    "gemma3_text",
    "doge",
    "gpt_neo",
    "bert",
    "bart",
    "t5gemma",
)


def told(text: str) -> None:
    """Progress on stderr, now and then."""
    now = time.monotonic()
    if now - told.last > 20:  # type: ignore[attr-defined]
        told.last = now  # type: ignore[attr-defined]
        print(text, file=sys.stderr, flush=True)


told.last = 0.0  # type: ignore[attr-defined]


def findings(rows: Iterable[Row]) -> set[tuple[str, ...]]:
    """What two surveys must have in common, whatever their seeds."""
    return {
        (row.name, found.severity, *found.key, ",".join(map(str, found.layers)))
        for row in rows
        for found in row.findings
    }


def run(arguments: argparse.Namespace, folder: Path, seed: int) -> Survey:
    """One survey of what was asked for."""

    def names(text: str) -> tuple[str, ...]:
        return tuple(filter(None, text.split(",")))

    options = SurveyOptions(
        folder=str(folder),
        types=names(arguments.types),
        impl=names(arguments.impl),
        scenario=names(arguments.scenario),
        jobs=arguments.jobs,
        seed=seed,
    )
    found = survey(options, told)
    print(f"seed {seed}: {len(found.rows)} rows, {found.seconds:.0f} s, {found.cpu_seconds:.0f} s of processor time")
    return found


def main() -> None:
    """Parses the arguments, surveys, compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", default="")
    parser.add_argument("--impl", default="")
    parser.add_argument("--scenario", default="")
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--twice", action="store_true")
    parser.add_argument("-o", dest="folder", type=Path, default=Path("attncheck-survey"))
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    first = run(arguments, arguments.folder, arguments.seed)
    failed = report(first.rows, (first.plan.implementations, first.plan.scenarios))
    if arguments.twice:
        again = arguments.folder.with_name(f"{arguments.folder.name}-again")
        second = run(arguments, again, arguments.seed + 1)
        apart = sorted(findings(first.rows) ^ findings(second.rows))
        print(f"{len(apart)} findings differ between the seeds, of {len(findings(first.rows))}")
        for entry in apart:
            print(f"  DIFFERS: {' '.join(entry)}")
        failed |= bool(apart)
    sys.exit(failed)


if __name__ == "__main__":
    main()
