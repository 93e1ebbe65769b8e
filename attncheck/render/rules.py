"""The documentation of rules (`explain`): a page for each, or a list of all, for people or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.errors import UsageError
from attncheck.findings import Rule
from attncheck.render.interface import Style
from attncheck.render.terminal import to_text

FORMATS = ("terminal", "json")


def render(rules: Sequence[Rule], format_name: str, style: Style, *, full: bool) -> str:
    """Full pages or a list. Raises UsageError for a format that has no form for rules."""
    if format_name not in FORMATS:
        raise UsageError(f"explain prints {' or '.join(FORMATS)}, not {format_name!r}")
    if format_name == "json":
        entries = [dataclasses.asdict(rule) for rule in rules]
        return json.dumps({"schema": 1, "command": "explain", "rules": entries}, indent=1) + "\n"
    if not full:
        return to_text([_list(rules)], style)
    return to_text([part for rule in rules for part in _page(rule)], style)


def _list(rules: Sequence[Rule]) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for rule in rules:
        grid.add_row(rule.code, rule.slug, rule.title)
    return grid


def _page(rule: Rule) -> list[RenderableType]:
    parts: list[RenderableType] = [Text.assemble((f"{rule.code} {rule.slug}", "bold"), f"  {rule.title}"), Text()]
    sections = (
        ("What it finds", rule.finds),
        ("Why it matters", rule.why),
        ("How it is measured", rule.measured),
        ("What to do", rule.fix),
        ("References", ", ".join(rule.references)),
    )
    for title, text in sections:
        if text:
            parts += [Text(title, style="bold underline"), Padding(Text(text), (0, 0, 0, 2)), Text()]
    return parts
