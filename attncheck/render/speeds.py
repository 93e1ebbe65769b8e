"""What a stored bench says for the recommendation of `compare`: its call, a row an implementation, what differs."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from attncheck.findings import Severity
from attncheck.render import bench_words as words
from attncheck.render.parts import grid, heading, inset
from attncheck.render.symbols import SEVERITY
from attncheck.render.wording import plural
from attncheck.semantics.speeds import SpeedRow, Speeds

TITLE = "Times of a bench"
HEADINGS = ("implementation", "time", "p20..p80", "n", "to eager", "timed as", "compare says")
#: Columns that are right-aligned.
NUMBERS = ("time", "n", "to eager")


def call(speeds: Speeds) -> str:
    """`prefill, forward, 16k tokens, 1 layer, bfloat16, kernel level; measured by bench on NVIDIA H100 (old.json)`."""
    source = f"measured by bench on {speeds.device} ({speeds.source})"
    if not speeds.rows:
        return source
    parts = [
        speeds.phase,
        "forward and backward" if speeds.backward else "forward",
        *([speeds.inputs] if speeds.inputs != "plain" else []),
        f"{words.length(speeds.kv_len)} tokens" + (f" x batch {speeds.batch}" if speeds.batch > 1 else ""),
        f"{plural(speeds.layers, 'layer')} together" if speeds.layers > 1 else "1 layer",
        speeds.dtype,
        f"{speeds.level} level",
    ]
    return f"{', '.join(parts)}; {source}"


def table(speeds: Speeds) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings, and the texts of each row under them; the first is the implementation."""
    telling = {
        "to eager": any(row.to_eager is not None for row in speeds.rows),
        "timed as": any(row.subject != row.implementation for row in speeds.rows),
    }
    shown = [number for number, name in enumerate(HEADINGS) if telling.get(name, True)]
    rows = [_cells(row) for row in speeds.rows]
    return tuple(HEADINGS[number] for number in shown), [tuple(row[number] for number in shown) for row in rows]


def _cells(row: SpeedRow) -> tuple[str, ...]:
    _, size = words.time_unit(row.median)
    spread = f"{words.digits(row.p20 / size)}..{words.digits(row.p80 / size)}"
    eager = words.ratio(row.to_eager)
    return row.implementation, words.time(row.median), spread, str(row.n), eager, row.subject, row.standing


def remarks(speeds: Speeds) -> list[tuple[str, str, str]]:
    """(symbol, text, colour): why nothing was taken from it, and what was not the same there."""
    warning, note = SEVERITY[Severity.WARNING], SEVERITY[Severity.NOTE]
    found = [(warning[0], f"not used: {speeds.unused}", warning[1])] if speeds.unused else []
    return found + [(note[0], text, note[1]) for text in speeds.remarks]


def sections(speeds: Speeds) -> list[RenderableType]:
    """In the terminal."""
    parts: list[RenderableType] = [heading(TITLE), inset(Text(call(speeds), style="dim"))]
    if speeds.rows:
        headings, rows = table(speeds)
        shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
        for name in headings:
            shown.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=name != HEADINGS[-1])
        for row, (name, *others) in zip(speeds.rows, rows, strict=True):
            shown.add_row(Text(name, style="bold"), *others, style="" if row.ordered else "dim")
        parts.append(inset(shown))
    if found := remarks(speeds):
        told = grid(labels="")
        for symbol, text, colour in found:
            told.add_row(Text(symbol, style=colour), text)
        parts.append(inset(told))
    return parts
