"""`attncheck explain`."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from typing import Annotated

import typer

from attncheck import completion
from attncheck.commands.output import check_file, emit, style
from attncheck.commands.running import guarded
from attncheck.options import Format, Output


def explain(
    code: Annotated[
        str | None,
        typer.Argument(help="A code (ATC101) or its name; without one, all.", autocompletion=completion.rules),
    ] = None,
    format_name: Format = "terminal",
    output: Output = None,
) -> None:
    """Explain a finding: what it means, why it matters, how it is measured, what to do."""
    with guarded():
        check_file(output)
        from attncheck.explain import find_rules
        from attncheck.render import rules

        found = find_rules(code)
        text = rules.render(found, format_name, style(output), full=code is not None)
        if output is not None or format_name != "terminal" or not longer_than_the_screen(text):
            emit(text, output)
            return
        import pydoc

        if "less" in os.environ.get("PAGER", "less"):
            os.environ.setdefault("LESS", "-R")  # what git does: colours act, and the user's own settings win
        else:
            text = rules.render(
                found, format_name, dataclasses.replace(style(None), colour=None), full=code is not None
            )
        pydoc.pager(text)


def longer_than_the_screen(text: str) -> bool:
    """True when somebody looks at a terminal that cannot show the text at once; never in a pipe."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        return False
    return text.count("\n") >= shutil.get_terminal_size().lines
