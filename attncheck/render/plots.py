"""Plots of a bench as SVG: time and memory against length, log-log, one line an implementation; matplotlib draws."""

from __future__ import annotations

import importlib.util
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attncheck.errors import UsageError
from attncheck.render import bench_words as words
from attncheck.render.bench_tables import BenchTable, tables
from attncheck.render.redact import redacted
from attncheck.report import Report
from attncheck.semantics.timing import Bench, BenchCell

#: Palette of Okabe and Ito (https://jfly.uni-koeln.de/color/), made for all kinds of colour blindness, without its
#: yellow, which nobody can read on white: (on a light page, on a dark page).
_COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#c25400", "#ff8a3d"),
    ("#007d5a", "#2fc79b"),
    ("#a8488a", "#e59ac9"),
    ("#1f1f1f", "#f2f2f2"),
    ("#8a6100", "#e6a817"),
    ("#24739a", "#a6dcff"),
)
#: Parts that are the same in every plot: text, faint lines, page.
_INK, _FAINT, _PAGE = ("#24292f", "#e6edf3"), ("#d0d7de", "#3d444d"), ("#ffffff", "#0d1117")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES = ("-", "--", "-.")
#: Of an implementation that an error finding excludes.
_WRONG = ":"
#: Distance of two labels in points below which the upper one is moved up.
_LINE_HEIGHT = 11.0


@dataclass(frozen=True, slots=True)
class _Quantity:
    """What stands on the vertical axis. base: of its logarithm. band: from p20 to p80."""

    label: str
    value: Callable[[BenchCell], float | None]
    said: Callable[[float], str]
    base: int = 10
    band: bool = False


_TIME = _Quantity(
    "time (median, band from p20 to p80)",
    lambda cell: cell.median,
    lambda seconds: re.sub(r"\.0+ ", " ", words.time(seconds)),
    band=True,
)
_MEMORY = _Quantity(
    "peak memory above the inputs",
    lambda cell: cell.peak_memory or None,
    lambda size: re.sub(r"\.0+ ", " ", words.memory(round(size))),
    base=2,
)


def check() -> None:
    """Raises UsageError where nothing can draw: before the measuring, not after it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plots needs matplotlib, which is not installed", "pip install 'attncheck[plots]'")


def plots(report: Report) -> dict[str, str]:
    """File name -> SVG, one a table of the bench that has times at two lengths or more. The report is redacted here."""
    bench = redacted(report.bench)
    if bench is None:
        return {}
    looks = _looks(bench)
    found: dict[str, str] = {}
    for table in tables(bench):
        if len(table.blocks) > 1:
            found[_name(table, found)] = _figure(table, bench, looks)
    return found


def _looks(bench: Bench) -> dict[str, int]:
    """Subject -> number of its colour, marker and dashes: the same in every plot of one bench."""
    names = sorted({cell.case.subject for cell in bench.cells if cell.median is not None})
    return {name: number for number, name in enumerate(names)}


def _name(table: BenchTable, taken: dict[str, str]) -> str:
    case = table.case
    parts = [case.level, case.phase, "backward" if case.backward else "forward", case.mask]
    parts += [case.inputs] if case.inputs != "plain" else []
    stem = re.sub(r"[^a-z0-9]+", "-", " ".join([*parts, f"d{case.head_dim}"]).lower()).strip("-")
    number = 2
    name = f"{stem}.svg"
    while name in taken:
        name, number = f"{stem}-{number}.svg", number + 1
    return name


def _figure(table: BenchTable, bench: Bench, looks: dict[str, int]) -> str:
    """Two panels: time, and memory where it was measured."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    ink, faint, page = _INK[0], _FAINT[0], _PAGE[0]
    settings = {
        "svg.fonttype": "none",  # text stays text: it can be searched, copied and read aloud
        "svg.hashsalt": "attncheck",  # the same plot gives the same file
        "font.family": ["DejaVu Sans", "sans-serif"],
        "font.size": 10,
        "text.color": ink,
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.facecolor": page,
        "figure.facecolor": page,
        "savefig.facecolor": page,
        "grid.color": faint,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    series = _series(table)
    with_memory = any(cell.peak_memory for cells in series.values() for cell in cells)
    title = words.title(table.case)
    title = f"{title[:1].upper()}{title[1:]}"
    device = bench.rates.name if bench.rates is not None else ""
    below = ", ".join(filter(None, (words.shape(table.case), _batches(table), device)))
    with matplotlib.rc_context(settings):
        layout = ConstrainedLayoutEngine(rect=(0.005, 0.01, 0.975, 0.98), wspace=0.08)  # room for wider fonts
        figure = Figure(figsize=(11.5 if with_memory else 6.2, 4.6), layout=layout)
        FigureCanvasSVG(figure)
        panels = figure.subplots(1, 2 if with_memory else 1, squeeze=False)[0]
        figure.suptitle(f"{title}\n{below}", fontsize=11, x=0.01, ha="left")
        _panel(panels[0], series, looks, _TIME)
        if with_memory:
            _panel(panels[1], series, looks, _MEMORY)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": "attncheck", "Title": title})
    return _described(stream.getvalue(), f"{title}. {_told(series)}", len(looks))


def _series(table: BenchTable) -> dict[str, list[BenchCell]]:
    """Subject -> its cells by length; what an error finding excludes is drawn only because it was asked for."""
    found: dict[str, list[BenchCell]] = {}
    for cell in table.cells:
        found.setdefault(cell.case.subject, []).append(cell)
    return {name: sorted(cells, key=lambda cell: cell.case.kv_len) for name, cells in sorted(found.items())}


def _batches(table: BenchTable) -> str:
    """`batch x length = 16k tokens`, `batch 1`, "" where neither is constant."""
    sizes = {block.batch for block in table.blocks}
    if len(sizes) == 1:
        return f"batch {sizes.pop()}"
    totals = {block.batch * block.kv_len for block in table.blocks}
    return f"batch x length = {words.length(totals.pop())} tokens" if len(totals) == 1 else ""


def _panel(axes: Any, series: dict[str, list[BenchCell]], looks: dict[str, int], quantity: _Quantity) -> None:
    """One log-log plot with a direct label at the end of each line."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=quantity.base)
    tokens = sorted({cell.case.kv_len for cells in series.values() for cell in cells})
    ends: list[tuple[str, float, float]] = []
    for name, cells in series.items():
        points = [(cell.case.kv_len, found, cell) for cell in cells if (found := quantity.value(cell))]
        if not points:
            continue
        number = looks[name]
        colour = _COLOURS[number % len(_COLOURS)][0]
        wrong = any(cell.excluded for cell in cells)
        across, up = [x for x, _, _ in points], [y for _, y, _ in points]
        axes.plot(
            across,
            up,
            color=colour,
            marker=_MARKERS[number % len(_MARKERS)],
            linestyle=_WRONG if wrong else _DASHES[number // len(_COLOURS) % len(_DASHES)],
            linewidth=1.6,
            markersize=5,
            gid=f"line-{name}",
        )
        if quantity.band:
            low = [cell.p20 or y for _, y, cell in points]
            high = [cell.p80 or y for _, y, cell in points]
            axes.fill_between(across, low, high, color=colour, alpha=0.2, linewidth=0)
        ends.append((f"{name}{' (wrong)' if wrong else ''}", across[-1], up[-1]))
    if quantity.base == 2:
        _widen(axes)
    axes.set_xticks(tokens, [words.length(number) for number in tokens])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("length (tokens)")
    axes.set_ylabel(quantity.label)
    if quantity.base == 10:
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if _decades(axes) < 2.2 else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: quantity.said(number)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", linewidth=0.6)
    axes.set_axisbelow(True)
    _labels(axes, ends, looks)


def _widen(axes: Any) -> None:
    """Make the axis span a factor of 4 at least: 64 and 66 MiB shall not look like worlds apart."""
    low, high = (float(side) for side in axes.get_ylim())
    if high < 4 * low:
        middle = math.sqrt(low * high)
        axes.set_ylim(middle / 2, middle * 2)


def _decades(axes: Any) -> float:
    low, high = (float(side) for side in axes.get_ylim())
    return math.log10(high / low)


def _labels(axes: Any, ends: Sequence[tuple[str, float, float]], looks: dict[str, int]) -> None:
    """Names at the ends of the lines, moved apart where they would cover each other."""
    figure = axes.figure
    height = float(figure.get_size_inches()[1] * 72 * 0.72)  # points of the axes, near enough before the layout is made
    low, high = axes.get_ylim()

    def place(value: float) -> float:
        return height * math.log(value / low) / math.log(high / low)

    free: dict[float, float] = {}
    for name, x, y in sorted(ends, key=lambda end: end[2]):
        at = free[x] = max(place(y), free.get(x, float("-inf")) + _LINE_HEIGHT)
        colour = _COLOURS[looks[name.removesuffix(" (wrong)")] % len(_COLOURS)][0]
        axes.annotate(
            name,
            (x, y),
            xytext=(8, at - place(y)),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=9,
            annotation_clip=False,
        )


def _told(series: dict[str, list[BenchCell]]) -> str:
    """The plot in words, for who cannot see it: the last point of each line."""
    ends = [(name, cells[-1]) for name, cells in series.items()]
    ordered = sorted(ends, key=lambda end: end[1].median or 0.0)
    return "At the longest length measured: " + "; ".join(
        f"{name} {words.time(cell.median or 0.0)} at {words.length(cell.case.kv_len)}" for name, cell in ordered
    )


def _described(svg: str, text: str, looks: int) -> str:
    """The SVG with a description for screen readers, and with colours for a dark page."""
    pairs = dict([*_COLOURS[: max(looks, 1)], _INK, _FAINT, _PAGE])
    rules = "\n".join(
        f"[style*='{prop}: {light}'] {{ {prop}: {dark} !important }}"
        for light, dark in pairs.items()
        for prop in ("fill", "stroke")
    )
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    head = f"<desc>{escaped}</desc>\n<style>@media (prefers-color-scheme: dark) {{\n{rules}\n}}</style>\n"
    svg = re.sub(r"<svg ", '<svg role="img" ', svg, count=1)
    place = svg.index("</title>") + len("</title>\n") if "</title>" in svg else svg.index(">", svg.index("<svg ")) + 1
    return svg[:place] + head + svg[place:]
