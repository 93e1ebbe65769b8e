"""The measured convention table in the terminal: what to write for W tokens, every call, every ability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.render import features, readings
from attncheck.render.interface import Style
from attncheck.render.symbols import VERDICT
from attncheck.render.wording import BASIS_WORDS
from attncheck.report import Report
from attncheck.semantics.convention import WINDOW
from attncheck.verdicts import Verdict

_INDENT = 2


def sections(report: Report, style: Style) -> list[RenderableType]:
    """The tables, or why there are none."""
    parts: list[RenderableType] = []
    if report.conventions:
        heading, *rules = summary(report)
        tables = _blocks(report, style)
        parts += [heading, *rules, *([Text()] if rules and tables else []), *tables]
        parts += _never(readings.never_ran(report.conventions))
    elif reason := report.missing.get("conventions"):
        parts += [_heading("What the numbers mean", report), *_never({reason: ["convention table"]})]
    if report.abilities:
        parts += [Text(), _heading("What each API can do", report), *_abilities(report, style)]
        told = {api for apis in readings.never_ran(report.conventions).values() for api in apis}
        silent = features.never_ran(report.abilities).items()
        parts += _never({reason: left for reason, apis in silent if (left := [api for api in apis if api not in told])})
    elif reason := report.missing.get("abilities"):
        parts += [Text(), _heading("What each API can do", report), *_never({reason: ["abilities"]})]
    return parts


def summary(report: Report) -> list[RenderableType]:
    """The table in short: one line an API."""
    return [_heading("What the numbers mean", report), *_rules(report)]


def _heading(title: str, report: Report) -> Text:
    bases = {entry.basis for entry in report.conventions} | {entry.basis for entry in report.abilities}
    words = ", ".join(sorted(BASIS_WORDS[basis] for basis in bases if basis is not None))
    return Text.assemble((title, "bold underline"), (f"  [{words}]" if words else "", "dim"))


def _rules(report: Report) -> list[RenderableType]:
    """The legend: one line an API."""
    rules = readings.rules(report.conventions)
    table = _table("API", f"{WINDOW} is", "for W tokens write", readings.lengths_heading(report.conventions))
    for rule in rules:
        write = Text(rule.write, style="bold") if rule.write else Text(rule.without, style="dim")
        table.add_row(rule.api, rule.means, write, rule.alignment)
    words = "W counts the query's own token, as `sliding_window=W` of a causal model does."
    if legend := readings.lengths_legend(report.conventions):
        words += f" {legend}"
    below = [_inset(Text(remark, style="dim")) for remark in readings.remarks(report.conventions)]
    return [_inset(Text(words, style="dim")), Text(), _inset(table), *below] if rules else []


def _blocks(report: Report, style: Style) -> list[RenderableType]:
    """One table an API, all with columns of the same widths: numbers stand below each other on the whole page."""
    shapes = readings.lengths_heading(report.conventions)
    blocks = readings.blocks(report.conventions)
    every = [row for block in blocks for row in block.rows]
    narrow = [max(len(text) for text in ("keys", *(row.keys for row in every))), 4, 5]
    last = max((len(text) for text in (shapes, *(row.alignment for row in every))), default=0)
    names = [", ".join(block.apis) for block in blocks]
    longest = max((len(text) for text in (*names, *(row.call for row in every))), default=0)
    room = style.width - _INDENT - sum(narrow) - last - 1 - 2 * (len(narrow) + 2)
    widths = (1, max(20, min(longest, room)), *narrow, last)
    parts: list[RenderableType] = []
    for block, name in zip(blocks, names):
        grid = _fixed(widths)
        headings = (Text(text, style="dim") for text in ("keys", "back", "ahead", shapes))
        grid.add_row("", Text(name, style="bold"), *headings)
        after = iter(block.rows[1:])
        for row in block.rows:
            symbol, colour = _symbol(row.mark)
            wrong = colour if row.mark in (Verdict.MISMATCH, Verdict.ERROR) else ""
            cells = (Text(text, style=wrong) for text in (row.call, row.keys, row.back, row.ahead, row.alignment))
            grid.add_row(Text(symbol, style=colour), *cells)
            following = next(after, None)
            if row.remarks and (following is None or (following.mark, following.remarks) != (row.mark, row.remarks)):
                parts += [
                    _inset(grid),
                    *(Padding(Text(text, style=wrong or "dim"), (0, 0, 0, 7)) for text in row.remarks),
                ]
                grid = _fixed(widths)
        parts += [*([_inset(grid)] if grid.row_count else []), Text()]
    marks = {row.mark for row in every}
    words = {
        Verdict.OK: "as its documentation says",
        Verdict.MISMATCH: "not as its documentation says",
        Verdict.NOT_APPLICABLE: "refused by the library",
        Verdict.ERROR: "the library broke",
        Verdict.NOT_RUN: "NOT RUN",
    }
    legend = ["   ".join(f"{VERDICT[mark][0]} {text}" for mark, text in words.items() if mark in marks)]
    if any(readings.NOTHING in (row.keys, row.back, row.ahead, *row.alignment.split()) for row in every):
        legend.append(f"{readings.NOTHING} in a column: nothing to count or to tell")
    return [*parts, *(_inset(Text(line, style="dim")) for line in legend if line)]


def _abilities(report: Report, style: Style) -> list[RenderableType]:
    """Feature, mark, answer and the APIs that gave it; remarks go over the whole page."""
    rows = features.rows(report.abilities)
    label = max((len(row.feature) for row in rows), default=0)
    room = style.width - _INDENT - label - 1 - 6
    longest = max((len(row.value) for row in rows), default=0)
    widest = max((len(row.who) for row in rows), default=0)
    value = min(longest, max(room * 2 // 5, room - widest))
    widths = (label, 1, value, room - value)
    grid, last = _fixed(widths, numeric=()), ""
    parts: list[RenderableType] = []
    for row in rows:
        symbol, colour = _symbol(row.mark)
        wrong = colour if row.mark in (Verdict.MISMATCH, Verdict.ERROR) else ""
        name = "" if row.feature == last else row.feature.replace("-", " ")
        last = row.feature
        grid.add_row(Text(name, style="dim"), Text(symbol, style=colour), Text(row.value, style=wrong), row.who)
        if remarks := features.remarks(row):
            under = (0, 0, 0, _INDENT + label + 5)
            parts += [_inset(grid), *(Padding(Text(remark, style=wrong or "dim"), under) for remark in remarks)]
            grid = _fixed(widths, numeric=())
    return [*parts, *([_inset(grid)] if grid.row_count else [])]


def _never(reasons: Mapping[str, Sequence[str]]) -> list[RenderableType]:
    if not reasons:
        return []
    symbol, word, colour = VERDICT[Verdict.NOT_RUN]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for reason, apis in reasons.items():
        words = Text.assemble((", ".join(apis), "bold"), f": {' '.join(reason.split())}")
        grid.add_row(Text(f"{symbol} {word}", style=colour), words)
    return [_inset(grid)]


def _symbol(mark: Verdict | None) -> tuple[str, str]:
    return ("", "") if mark is None else (VERDICT[mark][0], VERDICT[mark][2])


def _fixed(widths: Sequence[int], numeric: Sequence[int] = (2, 3, 4)) -> Table:
    """A grid of columns of those widths. numeric: which of them hold numbers."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for number, width in enumerate(widths):
        alone = bool(numeric) and number != 1
        grid.add_column(width=width, justify="right" if number in numeric else "left", no_wrap=alone, overflow="fold")
    return grid


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number != 2, overflow="fold", style="bold" if not number else "")
    return table


def _inset(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, _INDENT))
