"""A bench in HTML: one table a kind of call with its plot, what has no speed, changes against a stored run."""

from __future__ import annotations

import base64
import importlib.util
import re
from collections.abc import Iterator

from attncheck.render import bench, bench_changes, bench_figures, bench_growth
from attncheck.render import bench_words as said
from attncheck.render.bench_tables import BenchTable, never_ran, tables
from attncheck.render.html_markup import Html, bullets, code, coloured, facts, fold, join, scrolled, table, tag
from attncheck.render.symbols import VERDICT
from attncheck.report import Report
from attncheck.semantics.timing import Bench
from attncheck.semantics.timing_changes import BenchChanges
from attncheck.verdicts import Verdict

#: Characters of all plots of a page; the others are for `--plots`.
_PLOTS = 500_000


def sections(report: Report) -> Iterator[tuple[str, str, Html]]:
    """(id, title, content) of each part; nothing without a bench."""
    if report.bench is None:
        return
    yield "device", "Device", facts((label, text) for label, text in bench.header(report) if label != "here")
    plots = _plots(report)
    every = tables(report.bench)
    titles = [said.title(entry.case) for entry in every]
    for number, (entry, title) in enumerate(zip(every, titles), 1):
        alike = titles.count(title) > 1
        title += f" ({said.shape(entry.case)})" if alike else ""
        yield f"table-{number}", title[:1].upper() + title[1:], _table(entry, report.bench, title, with_shape=not alike)
    yield "plots", "Time and memory against length", join(plots)
    symbol, word, colour = VERDICT[Verdict.NOT_RUN]
    idle = (
        join([coloured(f"{symbol} {word}", colour), " ", code(name), f" ({level}): {why}"])
        for (level, name), why in never_ran(report.bench).items()
    )
    yield "idle", "Not timed at all", bullets(idle)
    elsewhere = said.published_elsewhere(report.bench, every)
    yield "published", said.PUBLISHED, bullets(f"{where}: {figure}" for where, figure in elsewhere.items())
    if report.changes is not None:
        yield "changes", f"Against {report.changes.source}", _changes(report.changes)
    yield "columns", "How to read it", facts(said.legend(tables(report.bench)).items())


def _table(entry: BenchTable, measured: Bench, title: str, *, with_shape: bool) -> Html:
    headings, found = bench_figures.columns(entry, measured)
    rows = []
    last = ""
    for length, cell, texts in found:
        name = join([code(said.name(cell)), coloured(f" ✗ {cell.excluded}", "bold red") if cell.excluded else ""])
        rows.append((length if length != last else "", name, *texts))
        last = length
    numeric = tuple(number for number, heading in enumerate(headings, 2) if heading != "published")
    grid = table(("length", "implementation", *headings), rows, label=title, numeric=numeric, class_="bench")
    remarks = []
    for silent in entry.without:
        symbol, word, colour = said.verdict(silent)
        remarks.append(
            join([coloured(f"{symbol} {word}", colour), " ", code(silent.subject), f": {said.why(silent, entry)}"])
        )
    if bound := said.launch_bound(entry):
        remarks.append(join([f"{said.MARK} {bound}"]))
    remarks += [join([f"growth: {line}"]) for line in bench_growth.lines(entry)]
    if calls := said.first_calls(entry):
        remarks.append(join([f"first call: {' · '.join(calls)}"]))
    remarks += [join([coloured("! drift", "yellow"), f" {line}"]) for line in said.drifts(entry)]
    about = [said.shape(entry.case)] if with_shape else []
    about += [f"median of {said.repetitions(entry)}"] if entry.cells else []
    return join([tag("p", "; ".join(about), class_="dim") if about else Html(), grid, bullets(remarks)])


def _plots(report: Report) -> list[Html]:
    """The plots as images inside the page, where matplotlib is installed; the tables above have their numbers."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    from attncheck.render import plots

    found: list[Html] = []
    room = _PLOTS
    for name, svg in plots.plots(report).items():
        data = base64.b64encode(svg.encode()).decode()
        if len(data) > room:
            left = "Further plots would make this page large: attncheck bench --plots DIR writes them all."
            return [*found, tag("p", left, class_="dim")]
        room -= len(data)
        told = re.search(r"<desc>(.*?)</desc>", svg, re.DOTALL)
        alt = f"{name.removesuffix('.svg')}: {told[1] if told else 'the tables above have its numbers'}"
        image = tag("img", src=f"data:image/svg+xml;base64,{data}", alt=alt, class_="plot", **_size(svg))
        found.append(scrolled(image, name.removesuffix(".svg"), "plots"))
    return found


def _size(svg: str) -> dict[str, int]:
    """Width and height in pixels, so that the page does not jump while it is laid out."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    return {} if found is None else {"width": round(float(found[1]) * 4 / 3), "height": round(float(found[2]) * 4 / 3)}


def _changes(changes: BenchChanges) -> Html:
    rows = []
    for change in changes.changes:
        case = change.new.case
        rows.append(
            (
                join([code(case.subject), tag("span", said.title(case), class_="remark")]),
                said.length(case.kv_len),
                said.time(change.old.median or 0.0),
                said.time(change.new.median or 0.0),
                f"{said.ratio(change.ratio)} ({change.low:.2f}..{change.high:.2f})",
                coloured(*bench_changes.verdict(change)),
            )
        )
    told = [coloured(f"! {what}: {old} → {new}", "yellow") for what, (old, new) in changes.differences.items()]
    headings = ("implementation", "length", "old", "new", "ratio (noise)", "")
    grid = table(headings, rows, label=f"Changes against {changes.source}", numeric=(1, 2, 3, 4))
    return join([bullets(told), fold(f"{len(rows)} calls timed in both", grid) if len(rows) > 60 else grid])
