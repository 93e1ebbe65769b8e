"""Command: do the verdicts of the flash contract agree with those of the real kernels? Needs a GPU and the package.

    python -m tests.campaigns.agreement [--impl flash_attention_2] [--jobs 8] [-o DIR] [--types A,B] [--defaults-only]
    python -m tests.campaigns.agreement --from DIR [--from DIR ...] --table FILE

The survey on the GPU, with every flash kernel beside its prediction (`attncheck survey --device cuda --agreement`);
every cell on which the two differ is listed. Exit 1 when there is one. With --from, of surveys that ran before: a type
that is in several counts as the last one has it. --table writes every cell, as CSV.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from attncheck.render.survey_summary import disagreements
from attncheck.survey.options import SurveyOptions
from attncheck.survey.run import RESULTS, survey
from attncheck.survey.store import load
from attncheck.surveyed import Plan, Row, Survey, SurveyCell
from tests.campaigns.sweep import told


def main() -> None:
    """Parses the arguments, surveys both sides, prints the agreement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impl", default="flash_attention_2")
    parser.add_argument("--scenario", default="")
    parser.add_argument("--types", default="")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--defaults-only", action="store_true")
    parser.add_argument("-o", dest="folder", type=Path, default=Path("attncheck-agreement"))
    parser.add_argument("--from", dest="stored", type=Path, action="append", default=[])
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    found = merged(arguments.stored) if arguments.stored else surveyed(arguments)
    lines = disagreements(found)
    print("\n".join(lines))
    if not arguments.stored:
        print(f"{found.seconds:.0f} s")
    if arguments.table is not None:
        arguments.table.write_text(table(found), encoding="utf-8")
    sys.exit(1 if any(line.startswith("  ") for line in lines) else 0)


def surveyed(arguments: argparse.Namespace) -> Survey:
    """What a survey finds now."""
    options = SurveyOptions(
        folder=str(arguments.folder),
        types=tuple(filter(None, arguments.types.split(","))),
        impl=tuple(arguments.impl.split(",")),
        scenario=tuple(filter(None, arguments.scenario.split(","))),
        jobs=arguments.jobs,
        settings=not arguments.defaults_only,
        agreement=True,
        device="cuda",
        dtype=arguments.dtype,
    )
    return survey(options, told)


def merged(folders: Sequence[Path]) -> Survey:
    """What surveys of the same plan found."""
    rows: dict[tuple[str, str], Row] = {}
    plans: list[Plan] = []
    for folder in folders:
        plan, found = load(str(folder / RESULTS))
        plans.append(plan)
        rows |= {(row.model_type, row.setting): row for row in found}
    return Survey(plans[0], tuple(rows[key] for key in sorted(rows)))


def table(found: Survey) -> str:
    """One line a type and setting, one column a scenario: what both sides say, or measured|predicted where they differ.

    Empty where neither side judged.
    """
    measured = next(name for name in found.plan.implementations if ":" not in name)
    predicted = next(name for name in found.plan.implementations if ":" in name)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["type", "setting", *found.plan.scenarios])
    for row in found.surveyed:
        words = [_both(row.cell(measured, name), row.cell(predicted, name)) for name in found.plan.scenarios]
        if any(words):
            writer.writerow([row.model_type, row.setting, *words])
    return out.getvalue()


def _both(one: SurveyCell | None, other: SurveyCell | None) -> str:
    if one is None or other is None or not (one.judged or other.judged):
        return ""
    return " | ".join(dict.fromkeys((_said(one), _said(other))))


def _said(cell: SurveyCell) -> str:
    return (", ".join(cell.slugs) or "right") if cell.judged else cell.state.value.replace("_", " ")


if __name__ == "__main__":
    main()
