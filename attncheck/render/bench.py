"""A `bench` report in the terminal: who is fastest, then a table a kind of call, then published figures unmatched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.findings import Severity
from attncheck.render import bench_page
from attncheck.render import bench_words as words
from attncheck.render.bench_tables import BenchTable, never_ran, right, tables
from attncheck.render.interface import Style
from attncheck.render.symbols import SEVERITY, VERDICT
from attncheck.render.verdict import counts
from attncheck.render.wording import platform_line, plural
from attncheck.report import Report
from attncheck.semantics.timing import Bench, BenchCell
from attncheck.verdicts import Verdict

_INDENT = 2
#: Stands for the next one where there is none.
_ALONE = "alone"
#: What the mark behind a name says, where names of several tables stand together.
_MARKED = f"{words.MARK} launching it from Python takes as long"
INTERRUPTED = "interrupted: only what had been measured until then stands below"


def answer(report: Report) -> list[Text]:
    """For the top of the page: the fastest right ones, what is wrong, whether the run came to its end."""
    bench = report.bench
    if bench is None:
        return []
    found = [] if bench.complete else [_marked(SEVERITY[Severity.WARNING], INTERRUPTED)]
    best = [(table, cells) for table in tables(bench) if table.blocks and (cells := right(table.blocks[-1].cells))]
    if not best:
        symbol, _, colour = VERDICT[Verdict.NOT_RUN]
        found.append(_marked((symbol, colour), "no right implementation was timed"))
    else:
        found.append(_marked((VERDICT[Verdict.OK][0], VERDICT[Verdict.OK][2]), _fastest(best)))
    wrong = dict.fromkeys((cell.case.subject, cell.excluded) for cell in bench.cells if cell.excluded)
    if wrong:
        names = ", ".join(f"{subject} ({slug})" for subject, slug in wrong)
        found.append(_marked(SEVERITY[Severity.ERROR], f"wrong, so never the fastest: {names}"))
    return [*found, counts(report)] if report.findings else found


def _marked(mark: tuple[str, str], text: str) -> Text:
    return Text(f"{mark[0]} {text}", style=mark[1])


def _fastest(best: Sequence[tuple[BenchTable, Sequence[BenchCell]]]) -> str:
    """Who is first where there is somebody to be first of, and in how many tables there is nobody else."""
    met = [(table, cells[0]) for table, cells in best if len(cells) > 1]
    alone = Counter(words.winner(cells[0]) for _, cells in best if len(cells) == 1)
    if len(best) == 1 or len(met) == 1:
        table, cell = met[0] if met else (best[0][0], best[0][1][0])
        said = f"fastest right one at {words.block(table.blocks[-1])}: {words.winner(cell)}, {_pace(cell, table)}"
        alone = alone if met else Counter()
    else:
        names = Counter(words.winner(cell) for _, cell in met).most_common()
        said = "fastest right ones at the longest length: " if names else "nothing to compare with another: "
        said += ", ".join(f"{name} (in {count} of {plural(len(met), 'table')})" for name, count in names)
    left = ", ".join(f"{name} {_ALONE} in {plural(n, 'table')}" for name, n in alone.most_common())
    said += f"{'; ' if met and left else ''}{left}"
    return f"{said} ({_MARKED})" if any(cells[0].launch_bound for _, cells in best) else said


def _pace(cell: BenchCell, table: BenchTable) -> str:
    figures = [words.time(cell.median or 0.0)]
    if table.decode:
        figures += [f"{words.share(cell.copy_share)} of copy bandwidth"] if cell.copy_share is not None else []
    elif cell.tflops is not None:
        rate = f" ({words.share(cell.matrix_share)} of this device's rate)" if cell.matrix_share is not None else ""
        figures.append(f"{words.flops(cell.tflops * 1e12)}{rate}")
    return ", ".join(figures)


def header(report: Report) -> list[tuple[str, str]]:
    """(label, text) of the lines below the title: software, device with its measured rates, time taken."""
    bench = report.bench
    if bench is None:
        return []
    lines = [] if report.model is not None else [("here", f"{platform_line(report)}, attncheck {report.version}")]
    if bench.rates is not None:
        lines.append(("device", words.device(bench.rates)))
    return [*lines, *([("took", took)] if (took := words.overhead(bench)) else [])]


def sections(report: Report, style: Style) -> list[RenderableType]:
    """Nothing without a bench. The summary of the fastest, then the tables, then published figures without a match."""
    bench = report.bench
    if bench is None:
        return []
    every = tables(bench)
    parts: list[RenderableType] = [*_summary(every)]
    for table in every:
        parts += [*([Text()] if parts else []), *bench_page.table(table, bench, style)]
    parts += _never(bench)
    if parts:
        grid = _grid(2)
        for label, text in words.legend(every).items():
            grid.add_row(Text(label, style="dim"), Text(text, style="dim"))
        parts += [Text(), _inset(grid)]
    left = words.published_elsewhere(bench, every)
    if left:
        parts += [Text(), Text(words.PUBLISHED, style="bold underline")]
    for key, figure in left.items():
        parts += [_inset(Text(f"{key}:", style="dim")), Padding(Text(figure), (0, 0, 0, 2 * _INDENT))]
    return parts


def _summary(every: Sequence[BenchTable]) -> list[RenderableType]:
    """One line a table: who is fastest at its longest length. Left out where there is one table only."""
    rows = [(table, cells) for table in every if table.blocks and (cells := right(table.blocks[-1].cells))]
    if len(rows) < 2:
        return []
    widths, dtypes = ({getattr(table.case, name) for table, _ in rows} for name in ("head_dim", "dtype"))
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for heading, justify in (("call", "left"), ("length", "left"), ("fastest", "left"), ("median", "right")):
        grid.add_column(heading, justify=justify, style="bold" if heading == "fastest" else "")  # type: ignore[arg-type]
    grid.add_column("next", justify="left")
    marked = False
    for table, cells in rows:
        name = words.title(table.case) + (f", head_dim {table.case.head_dim}" if len(widths) > 1 else "")
        name += f", {table.case.dtype}" if len(dtypes) > 1 else ""
        first = cells[0]
        follower = f"{words.winner(cells[1])} {words.ratio(_by(cells[1], first))}" if len(cells) > 1 else _ALONE
        marked = marked or any(cell.launch_bound for cell in cells[:2])
        where = words.length(table.blocks[-1].kv_len)
        grid.add_row(name, where, words.winner(first), words.time(first.median or 0.0), follower)
    below = [_inset(Text(_MARKED, style="dim"))] if marked else []
    return [Text("Fastest at the longest length", style="bold underline"), _inset(grid), *below]


def _never(bench: Bench) -> list[RenderableType]:
    """What was not tried at all, by reason."""
    together: dict[str, list[str]] = {}
    for (level, subject), reason in never_ran(bench).items():
        together.setdefault(reason, []).append(subject if level == "kernel" else f"{subject} ({level})")
    if not together:
        return []
    symbol, word, colour = VERDICT[Verdict.NOT_RUN]
    grid = _grid(2)
    for reason, names in together.items():
        grid.add_row(Text(f"{symbol} {word}", style=colour), Text.assemble((", ".join(names), "bold"), f": {reason}"))
    return [Text(), Text("Not timed at all", style="bold underline"), _inset(grid)]


def _by(cell: BenchCell, first: BenchCell) -> float | None:
    return cell.median / first.median if cell.median and first.median else None


def _grid(columns: int) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(columns - 1):
        grid.add_column(no_wrap=True)
    grid.add_column()
    return grid


def _inset(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, _INDENT))
