"""`attncheck explain`."""

from __future__ import annotations

from typing import Annotated

import typer

from attncheck.commands.output import check_file, emit, style
from attncheck.commands.running import guarded
from attncheck.options import Format, Output


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
