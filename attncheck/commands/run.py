"""`attncheck run`."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from attncheck.commands.output import check_file, check_output, emit, known_findings, style
from attncheck.commands.running import complain, guarded
from attncheck.errors import UsageError
from attncheck.options import FLAG, REPORT_PANEL, FailOn, Format, KnownReport, Output

if TYPE_CHECKING:
    from attncheck.commands.output import Known
    from attncheck.render.interface import Style
    from attncheck.report import Report


def run(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND ...", help="For example: -- python train.py")],
    calls: Annotated[
        int, typer.Option(min=1, metavar="N", help="Read the first N attention calls of each call site and kind.")
    ] = 3,
    facts_only: Annotated[
        bool,
        typer.Option("--facts-only", metavar=FLAG, help="Repeat no call: record arguments, shapes and kernels only."),
    ] = False,
    format_name: Format = "terminal",
    output: Output = None,
    fail_on: Annotated[
        FailOn,
        typer.Option(
            metavar="LEVEL",
            help="error or warning: findings make the exit code 1 where the script's own is 0. Default: never.",
            rich_help_panel=REPORT_PANEL,
        ),
    ] = FailOn.NEVER,
    baseline: KnownReport = None,
) -> None:
    """Watch a script as it is: which attention really runs, and is it right? Output, exit code and signals pass."""
    with guarded():
        check_output(format_name, output, "run")
        check_file(output)
        known = known_findings(baseline, "run")
        from attncheck.live import child, script

        script.check(command)
        finished = script.run(script.RunOptions(tuple(command), calls, not facts_only))
        report = dataclasses.replace(finished.report, fail_on=fail_on.value)
    with _never_in_the_way():
        from attncheck.commands import github
        from attncheck.render import interface

        report = _marked(report, known)
        if output is not None:
            emit(interface.render(report, format_name, style(output)), output)
        else:
            _say(interface.render(report, format_name, _style()))
        github.tell(report, format_name, output, sys.stderr)
    status = finished.status or (report.exit_code if fail_on is not FailOn.NEVER else 0)
    child.end_like(status, finished.ended_by)


@contextlib.contextmanager
def _never_in_the_way() -> Iterator[None]:
    """Whatever goes wrong with the report, the script's own exit code stands."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        complain(
            f"the report could not be written: {type(error).__name__}: {error}", "the script itself was not touched"
        )


def _marked(report: Report, known: Known | None) -> Report:
    """The report with known findings marked. A baseline of another script costs no report of a run that is over."""
    try:
        return report if known is None else known.mark(report)
    except UsageError as error:
        complain(error.message, error.hint)
        return report


def _style() -> Style:
    """How to write to standard error, where the report goes: standard output is the script's."""
    from rich.console import Console

    from attncheck.render import interface

    console = Console(stderr=True)
    coloured = console.is_terminal and not console.no_color
    try:
        "✓▀█".encode(sys.stderr.encoding or "ascii")
        unicode = True
    except (UnicodeEncodeError, LookupError):
        unicode = False
    return interface.Style(max(60, min(console.width, 140)), console.color_system if coloured else None, unicode)


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(text)
        sys.stderr.flush()
