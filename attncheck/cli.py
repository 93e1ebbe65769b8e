"""The command line: parse, call the pipeline, render, exit. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from attncheck import __version__
from attncheck.errors import AttnCheckError, UsageError
from attncheck.options import (
    FLAG,
    Assign,
    AssignUnknown,
    Device,
    DeviceName,
    DtypeName,
    Fail,
    FailOn,
    Format,
    Impl,
    Offline,
    Output,
    Packing,
    Plugin,
    Revision,
    Scenarios,
    Seed,
    SeqLen,
    Target,
    Timeout,
    TrustRemoteCode,
    Use,
    UseFor,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from attncheck.render.interface import Style
    from attncheck.report import Report

FAILED = 3
INTERRUPTED = 130
#: Characters of an error line; what is longer is data that somebody put into a value.
LONGEST_LINE = 1000

app = typer.Typer(
    name="attncheck",
    epilog="Exit codes: 0 nothing found, 1 findings, 2 wrong usage or target, 3 no verdict was reached.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def attncheck(
    version: Annotated[bool, typer.Option("--version", metavar=FLAG, help="Print the version.")] = False,
) -> None:
    """Does the attention that runs equal the attention that the model declares? Measured, not guessed."""
    if version:
        typer.echo(f"attncheck {__version__}")
        raise typer.Exit


@app.command()
def compare(
    target: Target,
    assign: Assign = None,
    assign_unknown: AssignUnknown = None,
    revision: Revision = None,
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
    use: UseFor = Use.GENERATE,
    packing: Packing = False,
    seq_len: SeqLen = None,
    impl: Impl = None,
    scenario: Scenarios = None,
    device: DeviceName = Device.AUTO,
    dtype: DtypeName = None,
    plugin: Plugin = None,
    timeout: Timeout = 120.0,
    seed: Seed = 0,
    format_name: Format = "terminal",
    output: Output = None,
    fail_on: Fail = FailOn.ERROR,
) -> None:
    """Compare the attention a model declares with what each implementation computes."""
    with guarded():
        check_output(format_name, output)
        from attncheck import pipeline

        options = pipeline.CompareOptions(
            target=target,
            impl=names("--impl", impl),
            scenario=names("--scenario", scenario),
            assignments=tuple(assign or ()),
            unchecked=tuple(assign_unknown or ()),
            seq_len=seq_len,
            use=use.value,
            packing=packing,
            device=device.value,
            dtype=dtype.value if dtype else None,
            revision=revision,
            trust_remote_code=trust_remote_code,
            plugins=tuple(plugin or ()),
            offline=offline,
            timeout=timeout,
            seed=seed,
        )
        with progress() as tell:
            report = pipeline.compare(options, tell)
        finish(report, format_name, output, fail_on)


@app.command()
def doctor(
    static: Annotated[
        bool, typer.Option("--static", metavar=FLAG, help="Read only; import nothing, not even elsewhere.")
    ] = False,
    list_checks: Annotated[bool, typer.Option("--list-checks", metavar=FLAG, help="List the checks and exit.")] = False,
    check: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Run only this check (code or name). Repeatable."),
    ] = None,
    format_name: Format = "terminal",
    output: Output = None,
    fail_on: Fail = FailOn.ERROR,
) -> None:
    """Show what is installed, what can run here, and what is broken."""
    with guarded():
        check_output(format_name, output)
        from attncheck.doctor import CHECKS, examine

        if list_checks:
            emit("".join(f"{rule.code}  {rule.slug}: {rule.title}\n" for rule in CHECKS), output)
            return
        with progress() as tell:
            report = examine(static=static, only=names("--check", check), progress=tell)
        finish(report, format_name, output, fail_on)


@app.command()
def explain(
    code: Annotated[str | None, typer.Argument(help="A code (ATC101) or its name; without one, all.")] = None,
    format_name: Format = "terminal",
    output: Output = None,
) -> None:
    """Explain a finding: what it means, why it matters, how it is measured, what to do."""
    with guarded():
        check_file(output)
        from attncheck.explain import find_rules
        from attncheck.render import rules

        emit(rules.render(find_rules(code), format_name, style(output), full=code is not None), output)


def names(option: str, values: list[str] | None) -> tuple[str, ...]:
    """`["a,b", "c", "a"]` as `("a", "b", "c")`. Raises UsageError for an option that names nothing."""
    found = tuple(dict.fromkeys(name.strip() for value in values or () for name in value.split(",") if name.strip()))
    if values and not found:
        raise UsageError(f"{option} {values[-1]!r} names nothing", f"leave out {option}, or name one: {option} NAME")
    return found


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Every way a command can fail, as one line on stderr and an exit code."""
    try:
        yield
    except AttnCheckError as error:
        complain(error.message, error.hint)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except typer.Exit:
        raise
    except Exception as error:
        complain(
            f"attncheck itself failed: {type(error).__name__}: {error}",
            "ATTNCHECK_DEBUG=1 shows the traceback; please report it",
        )
        raise typer.Exit(FAILED) from None


def complain(message: str, hint: str) -> None:
    """One line what, one line what helps; the traceback only when asked for."""
    if os.environ.get("ATTNCHECK_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    from attncheck.render.redact import redact

    line = redact(" ".join(message.split()))
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE // 2]} [...] {line[-LONGEST_LINE // 2 :]}"
    typer.echo(f"attncheck: error: {line}", err=True)
    if hint:
        typer.echo(f"  hint: {redact(hint)}", err=True)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done, only where somebody looks at it."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("attncheck", refresh_per_second=4) as status:
        yield lambda text: status.update(text)


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


def check_output(format_name: str, output: str | None) -> None:
    """Fail before the work, not after it: unknown format, a file that cannot be written."""
    from attncheck.render import interface

    interface.find(format_name)
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


def finish(report: Report, format_name: str, output: str | None, fail_on: FailOn) -> None:
    """Render, write, and exit with the report's code."""
    from attncheck.render import interface

    report = dataclasses.replace(report, fail_on=fail_on.value)
    emit(interface.render(report, format_name, style(output)), output)
    raise typer.Exit(report.exit_code)


def emit(text: str, output: str | None) -> None:
    """The report to stdout or to a file. A reader that closes the pipe early is no error."""
    if output is not None:
        try:
            with open(output, "w", encoding="utf-8") as file:
                file.write(text)
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


def occupy_standard_streams() -> None:
    """Open what the caller closed (`2>&-`): else the next pipe gets that number, and native chatter runs into it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def main() -> None:
    """Entry point of the `attncheck` command."""
    occupy_standard_streams()
    app()
