"""`attncheck render`."""

from __future__ import annotations

from typing import Annotated

import typer

from attncheck import completion
from attncheck.commands.output import check_file, check_output, finish
from attncheck.commands.running import guarded
from attncheck.options import REPORT_PANEL, FailOn, Output


def render(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A report written with --format json; - reads a pipe.")],
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="terminal, html (one page for the browser), json, markdown (to paste into a GitHub issue), "
            "sarif (for code scanning), junit (for CI), or csv (of a bench).",
            autocompletion=completion.formats,
            rich_help_panel=REPORT_PANEL,
        ),
    ] = "terminal",
    output: Output = None,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(
            metavar="LEVEL",
            help="error, warning or never: what makes the exit code 1. Default: as when it was measured.",
            rich_help_panel=REPORT_PANEL,
        ),
    ] = None,
) -> None:
    """Show a stored report again, in any format and on any machine; nothing is measured."""
    with guarded():
        check_file(output)
        from attncheck.stored import report as stored

        report = stored.read(file)
        check_output(format_name, output, report.command)
        finish(report, format_name, output, fail_on or FailOn(report.fail_on))
