"""The figures of a bench's table as plain text, one row a cell, without columns that would be empty; for documents."""

from __future__ import annotations

from attncheck.render import bench_words as words
from attncheck.render.bench_tables import BenchTable
from attncheck.semantics.timing import Bench, BenchCell


def columns(entry: BenchTable, bench: Bench) -> tuple[list[str], list[tuple[str, BenchCell, list[str]]]]:
    """(headings behind length and implementation, rows of (length, cell, texts below those headings))."""
    flop, part = words.flop_unit(entry)
    rates = ("of copy",) if entry.decode else (f"{flop}/s", "of rate")
    headings = ("median", "p20..p80", "memory", "to eager", "to best", *rates, "published")
    rows = [
        (words.block(block), cell, _figures(cell, entry, bench, part)) for block in entry.blocks for cell in block.cells
    ]
    filled = [number for number in range(len(headings)) if any(texts[number] for _, _, texts in rows)]
    return (
        [headings[number] for number in filled],
        [(length, cell, [texts[number] for number in filled]) for length, cell, texts in rows],
    )


def _figures(cell: BenchCell, entry: BenchTable, bench: Bench, part: float) -> list[str]:
    unit, size = words.common_unit(entry)
    rate = [words.share(cell.copy_share)] if entry.decode else []
    if not entry.decode:
        tflops = "" if cell.tflops is None else words.digits(cell.tflops / part)
        rate = [tflops, words.share(cell.matrix_share)]
    return [
        f"{words.digits((cell.median or 0.0) / size)} {unit}",
        words.spread(cell, size),
        words.peak(cell, entry),
        words.ratio(cell.to_eager),
        words.ratio(cell.to_best),
        *rate,
        bench.published.get(words.published_at(cell), ""),
    ]
