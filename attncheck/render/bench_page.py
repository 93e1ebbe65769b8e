"""One table of a bench in the terminal: a block of rows a length, bars that fit the page, and what has no speed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.findings import Severity
from attncheck.render import bench_growth
from attncheck.render import bench_words as words
from attncheck.render.bench_tables import BenchTable, Block
from attncheck.render.interface import Style
from attncheck.render.symbols import SEVERITY
from attncheck.semantics.timing import Bench, BenchCell

_INDENT = 2
#: Columns of a bar, at least and at most.
_BAR = (8, 40)
#: Where the slowest of a block takes more than this many times as long as the fastest, bars are logarithmic.
_LINEAR = 12.0
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class _Column:
    """Two lines of heading, the text of a cell, and its width on this page."""

    above: str
    heading: str
    text: Callable[[BenchCell], str]
    width: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a table is laid out. bar: columns of the bars, 0 for none."""

    columns: tuple[_Column, ...]
    name: int
    bar: int
    logarithmic: bool


def table(entry: BenchTable, bench: Bench, style: Style) -> list[RenderableType]:
    """Title, blocks, remarks."""
    title = words.title(entry.case)
    parts: list[RenderableType] = [Text(title[:1].upper() + title[1:], style="bold underline")]
    said = [words.shape(entry.case)]
    if not entry.cells:
        return [*parts, _inset(Text("; ".join(said), style="dim")), *_remarks(entry)]
    plan = _plan(entry, style.width - _INDENT)
    said.append(f"median of {words.repetitions(entry)}")
    if plan.bar:
        said.append(f"bars: time{', logarithmic' if plan.logarithmic else ''}")
    parts.append(_inset(Text("; ".join(said), style="dim")))
    for number, block in enumerate(entry.blocks):
        parts += [*_headings(block, plan, first=not number), *_block(block, bench, plan, style)]
    return [*parts, *_remarks(entry)]


def _columns(entry: BenchTable, *, narrow: bool) -> tuple[_Column, ...]:
    """Those that would be empty are left out. narrow: the spread as one figure."""
    unit, size = words.common_unit(entry)
    spread = _Column("p20..p80", unit, lambda cell: words.spread(cell, size))
    if narrow:
        spread = _Column("", "spread", words.short_spread)
    rate = [_Column("of", "copy", lambda cell: words.share(cell.copy_share))]
    if not entry.decode:
        flop, part = words.flop_unit(entry)
        rate = [
            _Column(flop, "/s", lambda cell: words.digits(cell.tflops / part) if cell.tflops is not None else ""),
            _Column("of", "rate", lambda cell: words.share(cell.matrix_share)),
        ]
    every = [
        _Column("median", unit, lambda cell: words.digits((cell.median or 0.0) / size)),
        spread,
        *rate,
        _Column("", "memory", lambda cell: words.peak(cell, entry)),
        _Column("to", "eager", lambda cell: words.ratio(cell.to_eager)),
        _Column("to", "best", lambda cell: words.ratio(cell.to_best)),
    ]
    found = []
    for column in every:
        longest = max(len(column.text(cell)) for cell in entry.cells)
        if longest:
            width = max(longest, len(column.above), len(column.heading))
            found.append(_Column(column.above, column.heading, column.text, width))
    return tuple(found)


def _plan(entry: BenchTable, room: int) -> _Plan:
    """Full columns and a bar where they fit; else a shorter spread; else no bar."""
    name = max(len(words.name(cell)) + 2 * bool(cell.excluded) for cell in entry.cells)
    logarithmic = any(_range(block) > _LINEAR for block in entry.blocks)
    for narrow in (False, True):
        columns = _columns(entry, narrow=narrow)
        left = room - name - 2 - sum(column.width + 1 for column in columns)
        if left >= _BAR[0]:
            return _Plan(columns, name, min(left, _BAR[1]), logarithmic)
    name = min(name, room - sum(column.width + 1 for column in columns))
    return _Plan(columns, name, 0, logarithmic)


def _range(block: Block) -> float:
    times = [cell.median for cell in block.cells if cell.median]
    return max(times) / min(times) if times else 1.0


def _headings(block: Block, plan: _Plan, *, first: bool) -> Sequence[RenderableType]:
    """The length, and once in a table what the columns are."""
    label = words.block(block)
    if not first:
        return [_inset(Text(label, style="cyan"))]
    space = plan.name + (plan.bar + 1 if plan.bar else 0)
    lines = [
        Text(" ".join(["", *(text.rjust(column.width) for column, text in zip(plan.columns, texts))]), style="dim")
        for texts in ([c.above for c in plan.columns], [c.heading for c in plan.columns])
    ]
    if len(label) > space:
        return [_inset(Text.assemble(" " * space, line)) for line in lines] + [_inset(Text(label, style="cyan"))]
    above, below = lines
    return [
        _inset(Text.assemble(" " * space, above)),
        _inset(Text.assemble((label.ljust(space), "cyan"), below)),
    ]


def _block(block: Block, bench: Bench, plan: _Plan, style: Style) -> list[RenderableType]:
    """The rows of one length; a published figure stands below the row that it belongs to."""
    parts: list[RenderableType] = []
    grid = _fixed(plan)
    times = [cell.median for cell in block.cells if cell.median]
    for cell in block.cells:
        wrong = SEVERITY[Severity.ERROR][1] if cell.excluded else ""
        name = Text(("✗ " if cell.excluded else "") + words.name(cell), style=wrong or "bold")
        bar = [Text(_bar(cell.median or 0.0, times, plan, style), style=wrong)] if plan.bar else []
        grid.add_row(name, *bar, *(Text(column.text(cell), style=wrong) for column in plan.columns))
        if figure := bench.published.get(words.published_at(cell), ""):
            parts += [_inset(grid), Padding(Text(f"published: {figure}", style="dim"), (0, 0, 0, _INDENT + 4))]
            grid = _fixed(plan)
    return [*parts, *([_inset(grid)] if grid.row_count else [])]


def _bar(value: float, times: Sequence[float], plan: _Plan, style: Style) -> str:
    """Linear from zero, or logarithmic with the fastest one decade long; the slowest is as wide as there is room."""
    fastest, slowest = min(times), max(times)
    part = value / slowest
    if plan.logarithmic:
        part = (1 + math.log10(value / fastest)) / (1 + math.log10(slowest / fastest))
    eighths = max(1, round(part * plan.bar * 8))
    if not style.unicode:
        return "#" * math.ceil(eighths / 8)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _remarks(entry: BenchTable) -> list[RenderableType]:
    """What has no time and why, what is no time of a kernel, growth, first calls, drift."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for silent in entry.without:
        symbol, word, colour = words.verdict(silent)
        reason = Text.assemble((silent.subject, "bold"), ": ", words.why(silent, entry))
        grid.add_row(Text(f"{symbol} {word}", style=colour), reason)
    wrong: dict[tuple[str, str], list[int]] = {}
    for cell in entry.cells:
        if cell.excluded:
            wrong.setdefault((cell.case.subject, cell.excluded), []).append(cell.case.kv_len)
    for (subject, slug), lengths in wrong.items():
        symbol, colour = SEVERITY[Severity.ERROR]
        text = Text.assemble((subject, "bold"), f" at {words.lengths(lengths)}: {slug}; timed all the same, never best")
        grid.add_row(Text(f"{symbol} wrong", style=colour), text)
    if bound := words.launch_bound(entry):
        grid.add_row(Text(f"{words.MARK} launch", style="dim"), bound)
    for line in bench_growth.lines(entry):
        grid.add_row(Text("growth", style="dim"), line)
    if calls := words.first_calls(entry):
        grid.add_row(Text("first call", style="dim"), " · ".join(calls))
    for line in words.drifts(entry):
        symbol, colour = SEVERITY[Severity.WARNING]
        grid.add_row(Text(f"{symbol} drift", style=colour), line)
    return [_inset(grid)] if grid.row_count else []


def _fixed(plan: _Plan) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=plan.name, no_wrap=True, overflow="fold")
    if plan.bar:
        grid.add_column(width=plan.bar, no_wrap=True)
    for column in plan.columns:
        grid.add_column(width=column.width, justify="right", no_wrap=True)
    return grid


def _inset(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, _INDENT))
