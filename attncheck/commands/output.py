"""Where reports go: checked before the work, written to standard output or to a file, with the exit code."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from typing import TYPE_CHECKING

import typer

from attncheck.errors import UsageError
from attncheck.options import FailOn

if TYPE_CHECKING:
    from attncheck.render.interface import Style
    from attncheck.report import Report


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """The report that `--baseline` names, and its file."""

    report: Report
    path: str

    def mark(self, report: Report) -> Report:
        """The report with known findings marked. Raises UsageError for a baseline of another target."""
        from attncheck.stored import baseline

        return baseline.held_against(report, self.report, self.path)


def known_findings(path: str | None, command: str) -> Known | None:
    """Read before the work what `--baseline` names. Raises UsageError for what is no report of that command."""
    if path is None:
        return None
    from attncheck.stored import baseline

    return Known(baseline.read(path, command), path)


def check_output(format_name: str, output: str | None, command: str) -> None:
    """Fail before the work, not after it: no such format of that command, a file that cannot be written."""
    from attncheck.render import interface

    interface.find(format_name, command)
    check_file(output)


def check_file(output: str | None) -> None:
    """Raise UsageError when the report can go neither to that file nor, with None, to standard output."""
    if output is None:
        if sys.stdout is None:
            raise UsageError("standard output is closed", "-o FILE writes the report there")
        return
    folder = os.path.dirname(output) or os.curdir
    if not os.path.isdir(folder):
        raise UsageError(f"-o {output}: there is no folder {folder}", "make it, or name a file in another one")
    if not output or os.path.isdir(output):
        raise UsageError(f"-o {output!r} cannot be written: it is no file name", "name a file, such as -o report.json")
    if not os.access(output if os.path.exists(output) else folder, os.W_OK):
        raise UsageError(f"-o {output} cannot be written: permission denied", "name a file in another folder")


def style(output: str | None) -> Style:
    """How to write to stdout (or to a file: no escape codes, 100 columns)."""
    from attncheck.render.interface import Style

    if output is not None:
        return Style(width=100)
    from rich.console import Console

    console = Console()
    coloured = console.is_terminal and not console.no_color
    try:
        "✓▀█".encode(sys.stdout.encoding or "ascii")
        unicode = True
    except (UnicodeEncodeError, LookupError):
        unicode = False
    return Style(max(60, min(console.width, 140)), console.color_system if coloured else None, unicode)


def finish(report: Report, format_name: str, output: str | None, fail_on: FailOn, known: Known | None = None) -> None:
    """Render, write, tell GitHub where one of its workflows runs this, and exit with the report's code.

    A bench that was interrupted says so in its report; where that goes to a file, one line on stderr says so, too.
    """
    from attncheck.commands import github
    from attncheck.render import interface
    from attncheck.render.wording import plural

    report = dataclasses.replace(report, fail_on=fail_on.value)
    report = report if known is None else known.mark(report)
    emit(interface.render(report, format_name, style(output)), output)
    if output is not None and report.bench is not None and not report.bench.complete:
        count = len(report.bench.cells)
        typer.echo(
            f"attncheck: interrupted: {plural(count, 'cell')} {'is' if count == 1 else 'are'} in {output}", err=True
        )
    github.tell(report, format_name, output)
    raise typer.Exit(report.exit_code)


def emit(text: str, output: str | None) -> None:
    """The report to stdout or to a file. A reader that closes the pipe early is no error."""
    if output is not None:
        from attncheck.render import writing

        try:
            writing.write(output, text)
        except OSError as error:
            raise UsageError(f"-o {output} cannot be written: {error.strerror}") from None
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal need not have every letter of a file name
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Python would complain at exit when it flushes again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UsageError(
                f"standard output cannot be written: {error.strerror}", "-o FILE writes it there"
            ) from None
