"""Command: do the verdicts of the flash contract agree with those of the real kernels? Needs a GPU and the package.

    python -m tests.campaigns.agreement [--impl flash_attention_2] [--jobs 8] [-o DIR] [--types A,B] [--defaults-only]

The survey on the GPU, with every flash kernel beside its prediction (`attncheck survey --device cuda --agreement`);
every cell on which the two differ is listed. Exit 1 when there is one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from attncheck.render.survey_summary import disagreements
from attncheck.survey.options import SurveyOptions
from attncheck.survey.run import survey
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
    arguments = parser.parse_args()
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
    found = survey(options, told)
    lines = disagreements(found)
    print("\n".join(lines))
    print(f"{found.seconds:.0f} s")
    sys.exit(1 if any(line.startswith("  ") for line in lines) else 0)


if __name__ == "__main__":
    main()
