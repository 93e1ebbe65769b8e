"""`attncheck survey`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from attncheck.commands.output import check_file, emit, style
from attncheck.commands.running import INTERRUPTED, complain, guarded, names, steady_progress
from attncheck.errors import UsageError
from attncheck.options import (
    DAY,
    FLAG,
    PROBE_PANEL,
    REPORT_PANEL,
    USE_PANEL,
    Device,
    DeviceName,
    DtypeName,
    Fail,
    FailOn,
    Impl,
    Plugin,
    Scenarios,
    Seed,
)

if TYPE_CHECKING:
    from attncheck.surveyed import Survey

#: The tables beside the results, and the forms of the summary on standard output.
HTML, MARKDOWN = "matrix.html", "matrix.md"
FORMATS = ("terminal", "json")

Folder = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        help="Where results.jsonl, matrix.html and matrix.md go. A second run with the same folder goes on.",
        rich_help_panel=REPORT_PANEL,
    ),
]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--types",
        metavar="A,B",
        help="Model types, e.g. llama,gemma2. Default: all that transformers knows.",
        rich_help_panel=USE_PANEL,
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Workers at the same time. Default: one a core, as far as memory goes (1.4 GB each).",
        rich_help_panel=PROBE_PANEL,
    ),
]
DefaultsOnly = Annotated[
    bool,
    typer.Option(
        "--defaults-only",
        metavar=FLAG,
        help="Only the class defaults, not the settings that make windows and other features bind.",
        rich_help_panel=PROBE_PANEL,
    ),
]
Agreement = Annotated[
    bool,
    typer.Option(
        "--agreement",
        metavar=FLAG,
        help="On a GPU: beside each real flash kernel also what is predicted without one, and where they differ.",
        rich_help_panel=PROBE_PANEL,
    ),
]
SummaryFormat = Annotated[
    str,
    typer.Option(
        "--format", metavar="NAME", help="terminal or json: the summary to print.", rich_help_panel=REPORT_PANEL
    ),
]
ScenarioLimit = Annotated[
    float,
    typer.Option(min=0.1, max=DAY, metavar="SECONDS", help="Limit of one scenario.", rich_help_panel=PROBE_PANEL),
]
TypeLimit = Annotated[
    float,
    typer.Option(
        min=1.0, max=DAY, metavar="SECONDS", help="Limit of one type in one setting.", rich_help_panel=PROBE_PANEL
    ),
]


def survey(
    types: Types = None,
    impl: Impl = None,
    scenario: Scenarios = None,
    defaults_only: DefaultsOnly = False,
    jobs: Jobs = 0,
    device: DeviceName = Device.CPU,
    dtype: DtypeName = None,
    agreement: Agreement = False,
    plugin: Plugin = None,
    seed: Seed = 0,
    timeout: ScenarioLimit = 60.0,
    type_timeout: TypeLimit = 240.0,
    output: Folder = "attncheck-survey",
    format_name: SummaryFormat = "terminal",
    fail_on: Fail = FailOn.ERROR,
) -> None:
    """May I use X with Y? Every model type of the installed transformers, as one support matrix."""
    with guarded():
        if format_name not in FORMATS:
            raise UsageError(f"--format {format_name!r} is not a format of survey; there are {', '.join(FORMATS)}")
        check_file(None)
        from attncheck.survey.options import SurveyOptions
        from attncheck.survey.run import Interrupted, stored
        from attncheck.survey.run import survey as run

        options = SurveyOptions(
            folder=output,
            types=names("--types", types),
            impl=names("--impl", impl),
            scenario=names("--scenario", scenario),
            jobs=jobs,
            settings=not defaults_only,
            agreement=agreement,
            plugins=tuple(plugin or ()),
            device=device.value,
            dtype=dtype.value if dtype else None,
            seed=seed,
            timeout=timeout,
            type_timeout=type_timeout,
        )
        try:
            with steady_progress() as tell:
                found = run(options, tell)
        except Interrupted as stopped:
            _write(stored(options, stopped.survey), output)
            complain(f"interrupted with {stopped.survey.left} types left", "the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
        _write(stored(options, found), output)
        _print(found, output, format_name)
        raise typer.Exit(found.exit_code(fail_on.value))


def _write(found: Survey, folder: str) -> None:
    """The two tables of all that the folder holds, whole or not at all."""
    from attncheck.render import survey_html, survey_markdown

    emit(survey_html.page(found), os.path.join(folder, HTML))
    emit(survey_markdown.text_of(found), os.path.join(folder, MARKDOWN))


def _print(found: Survey, folder: str, format_name: str) -> None:
    from attncheck.render import survey_summary, survey_terminal

    if format_name == "json":
        emit(survey_summary.json_text(found), None)
        return
    emit(survey_terminal.terminal(found, style(None), [os.path.join(folder, name) for name in (HTML, MARKDOWN)]), None)
