"""What surrounds every command: errors as one line and an exit code, progress on stderr, lists of names."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from attncheck.errors import AttnCheckError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = 3
INTERRUPTED = 130
#: Characters of an error line; what is longer is data that somebody put into a value.
LONGEST_LINE = 1000
#: Seconds between two lines of progress in a log.
BETWEEN_LINES = 30.0


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


@contextlib.contextmanager
def steady_progress() -> Iterator[Callable[[str], None]]:
    """`progress`, and a line now and then where nobody looks at a terminal: for work of many minutes."""
    if sys.stderr is not None and sys.stderr.isatty():
        with progress() as tell:
            yield tell
        return
    import time

    last = time.monotonic()

    def tell_rarely(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= BETWEEN_LINES:
            last = time.monotonic()
            typer.echo(text, err=True)

    yield tell_rarely


def names(option: str, values: list[str] | None) -> tuple[str, ...]:
    """`["a,b", "c", "a"]` as `("a", "b", "c")`. Raises UsageError for an option that names nothing."""
    found = tuple(dict.fromkeys(name.strip() for value in values or () for name in value.split(",") if name.strip()))
    if values and not found:
        raise UsageError(f"{option} {values[-1]!r} names nothing", f"leave out {option}, or name one: {option} NAME")
    return found


def one_of(option: str, values: list[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    """`names` that must all be known. Raises UsageError for another one."""
    found = names(option, values)
    if strange := [name for name in found if name not in known]:
        raise UsageError(f"{option} {strange[0]}: there is no such thing to time", f"choose from {', '.join(known)}")
    return found


def lengths(option: str, values: list[str] | None) -> tuple[int, ...]:
    """`["1k,4096"]` as `(1024, 4096)`, in rising order. Raises UsageError for what is no positive number of tokens."""
    found = set()
    asked = names(option, values)
    if gap := next((value for value in values or () if not all(map(str.strip, value.split(",")))), None):
        raise UsageError(f"{option} {gap!r} lacks a length beside a comma", f"for example {option} {','.join(asked)}")
    for name in asked:
        text, factor = (name[:-1], 1024) if name[-1:] in ("k", "K") else (name, 1)
        if not (text.isascii() and text.isdigit() and int(text)):
            raise UsageError(f"{option} {name!r} is no length in tokens", f"for example {option} 1024,4096 or 1k,4k")
        found.add(int(text) * factor)
    return tuple(sorted(found))
