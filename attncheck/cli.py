"""The command line: parse, call the pipeline, render, exit. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from attncheck import __version__
from attncheck.errors import AttnCheckError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attncheck.render.interface import Style
    from attncheck.report import Report

FAILED = 3
INTERRUPTED = 130

app = typer.Typer(
    name="attncheck",
    epilog="Exit codes: 0 nothing found, 1 findings, 2 wrong usage or target, 3 no verdict was reached.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Use(str, Enum):
    """What the model will be used for."""

    GENERATE = "generate"
    TRAIN = "train"


class Device(str, Enum):
    """Where probes run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Dtype(str, Enum):
    """Number format of the probes."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class FailOn(str, Enum):
    """Lowest severity that makes a command exit with 1."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"


Format = Annotated[
    str, typer.Option("--format", metavar="NAME", help="terminal, json, ... A wrong name lists them all.")
]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Write the report there.")]
Fail = Annotated[FailOn, typer.Option("--fail-on", help="Lowest severity that makes the exit code 1.")]
Plugin = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE", help="Import this module first; it may register attention functions. Repeatable."),
]


@app.callback(invoke_without_command=True)
def attncheck(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Does the attention that runs equal the attention that the model declares? Measured, not guessed."""
    if version:
        typer.echo(f"attncheck {__version__}")
        raise typer.Exit


@app.command()
def compare(
    target: Annotated[str, typer.Argument(help="Hub id, directory, config.json, or a model type such as qwen2.")],
    impl: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Implementations, e.g. sdpa,flash_attention_2. Default: all that apply."),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B", help="Scenarios, e.g. plain,decode; what you name counts as used. Default: all that apply."
        ),
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a config key. Repeatable; dots reach sub-configs."),
    ] = None,
    assign_unknown: Annotated[
        list[str] | None,
        typer.Option("--set-unknown", metavar="KEY=VALUE", help="The same for a key nobody knows, unchecked."),
    ] = None,
    seq_len: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Longest sequence you will run. Default: what the checkpoint says."),
    ] = None,
    use: Annotated[Use, typer.Option(help="train makes gradient differences errors.")] = Use.GENERATE,
    packing: Annotated[bool, typer.Option("--packing", help="You pack several documents into a sequence.")] = False,
    device: Annotated[Device, typer.Option(help="Where probes run.")] = Device.AUTO,
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="Default: float32 on CPU, bfloat16 on CUDA."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub target.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run the target's own code.")] = False,
    plugin: Plugin = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Limit of one scenario.")] = 120.0,
    seed: Annotated[int, typer.Option(help="Seed of weights and inputs.")] = 0,
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
            impl=names(impl),
            scenario=names(scenario),
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
    static: Annotated[bool, typer.Option("--static", help="Read only; import nothing, not even elsewhere.")] = False,
    list_checks: Annotated[bool, typer.Option("--list-checks", help="List the checks and exit.")] = False,
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
            report = examine(static=static, only=names(check), progress=tell)
        finish(report, format_name, output, fail_on)


@app.command()
def explain(
    code: Annotated[str | None, typer.Argument(help="A code (ATC101) or its name; without one, all.")] = None,
    format_name: Format = "terminal",
    output: Output = None,
) -> None:
    """Explain a finding: what it means, why it matters, how it is measured, what to do."""
    with guarded():
        from attncheck.explain import find_rules
        from attncheck.render import rules

        emit(rules.render(find_rules(code), format_name, style(output), full=code is not None), output)


def names(values: list[str] | None) -> tuple[str, ...]:
    """`["a,b", "c"]` as `("a", "b", "c")`."""
    return tuple(name.strip() for value in values or () for name in value.split(",") if name.strip())


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

    typer.echo(f"attncheck: error: {redact(' '.join(message.split()))}", err=True)
    if hint:
        typer.echo(f"  hint: {redact(hint)}", err=True)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done, only where somebody looks at it."""
    if not sys.stderr.isatty():
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
    """Fail before the work, not after it: unknown format, folder that is not there."""
    from attncheck.render import interface

    interface.find(format_name)
    folder = os.path.dirname(output) if output else ""
    if folder and not os.path.isdir(folder):
        raise UsageError(f"-o {output}: there is no folder {folder}")


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
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain at exit when it flushes again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Entry point of the `attncheck` command."""
    app()
