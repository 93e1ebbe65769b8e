"""The documentation of rules (`explain`), and the list of doctor's checks, for people, as JSON or Markdown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.checks.machine import MachineCheck
from attncheck.errors import UsageError
from attncheck.findings import Rule
from attncheck.render import markup
from attncheck.render.interface import Style
from attncheck.render.terminal import to_text

FORMATS = ("terminal", "json", "markdown")
#: Field of `checks.machine.Machine` -> what it takes to fill it, the dearest first; all others are read from files.
_COSTS = {
    **dict.fromkeys(("conventions", "abilities", "confirmations"), "kernels"),
    **dict.fromkeys(("torch", "imports"), "imports"),
}


def render(rules: Sequence[Rule], format_name: str, style: Style, *, full: bool) -> str:
    """Full pages or a list. Raises UsageError for a format that has no form for rules."""
    if format_name not in FORMATS:
        raise UsageError(f"explain prints {', '.join(FORMATS)}, not {format_name!r}")
    if format_name == "json":
        entries = [dataclasses.asdict(rule) for rule in rules]
        return json.dumps({"schema": 1, "command": "explain", "rules": entries}, indent=1) + "\n"
    if format_name == "markdown":
        return _markdown(rules) if full else markup.table(("code", "name", ""), _rows(rules)) + "\n"
    if not full:
        return to_text([_list(rules)], style)
    return to_text([part for rule in rules for part in _page(rule)], style)


def render_checks(checks: Sequence[MachineCheck], format_name: str, style: Style) -> str:
    """What `doctor` can check and what each check takes. Raises UsageError for a format that has no form for them."""
    if format_name not in FORMATS:
        raise UsageError(f"--list-checks prints {', '.join(FORMATS)}, not {format_name!r}")
    if format_name == "json":
        entries = [{**dataclasses.asdict(check.rule), "needs": list(check.needs)} for check in checks]
        return json.dumps({"schema": 1, "command": "doctor", "checks": entries}, indent=1) + "\n"
    if format_name == "markdown":
        rows = [(*row[:2], _cost(check), row[2]) for check, row in zip(checks, _rows([c.rule for c in checks]))]
        return markup.table(("code", "check", "takes", "what it finds"), rows) + "\n"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    table.add_column("code", style="dim", no_wrap=True)
    table.add_column("check", style="bold", no_wrap=True)
    table.add_column("takes", no_wrap=True)
    table.add_column("what it finds")
    for check in checks:
        table.add_row(check.rule.code, check.rule.slug, _cost(check), check.rule.title)
    hint = "--check CODE runs one of them; --static runs those that take files only; attncheck explain CODE says more."
    return to_text([table, Text(), Text(hint, style="dim")], style)


def _cost(check: MachineCheck) -> str:
    """The dearest thing that has to be done before the check can judge."""
    return next((words for needed, words in _COSTS.items() if needed in check.needs), "files")


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
    for title, text in sections(rule):
        parts += [Text(title, style="bold underline"), Padding(Text(text), (0, 0, 0, 2)), Text()]
    return parts


def sections(rule: Rule) -> list[tuple[str, str]]:
    """(title, text) of every part of a rule's page that is not empty."""
    parts = (
        ("What it finds", rule.finds),
        ("Why it matters", rule.why),
        ("How it is measured", rule.measured),
        ("What to do", rule.fix),
        ("References", ", ".join(rule.references)),
    )
    return [(title, text) for title, text in parts if text]


def _markdown(rules: Sequence[Rule]) -> str:
    parts = []
    for rule in rules:
        parts.append(f"### {rule.code} {markup.code(rule.slug)}: {markup.text(rule.title)}")
        parts += [f"**{title}.** {markup.text(text)}" for title, text in sections(rule)]
    return "\n\n".join(parts) + "\n"


def _rows(rules: Sequence[Rule]) -> list[tuple[str, ...]]:
    return [(rule.code, markup.code(rule.slug), markup.text(rule.title)) for rule in rules]
