"""A bench in GitHub Markdown: one table a kind of call, what has no speed below it, changes against a stored run."""

from __future__ import annotations

from collections.abc import Iterator

from attncheck.render import bench, bench_changes, bench_figures, bench_growth, bench_words
from attncheck.render.bench_tables import BenchTable, never_ran, tables
from attncheck.render.markup import bullets, code, fold, table, text
from attncheck.report import Report
from attncheck.semantics.timing import Bench
from attncheck.semantics.timing_changes import BenchChanges


def blocks(report: Report) -> Iterator[tuple[str, str]]:
    """(name, block) of each part; nothing without a bench."""
    if report.bench is None:
        return
    yield "the device", bullets(f"{label}: {text(words)}" for label, words in bench.header(report) if label != "here")
    for entry in tables(report.bench):
        title = bench_words.title(entry.case)
        yield title, _table(entry, report.bench, title)
    idle = never_ran(report.bench).items()
    yield "what was not timed", bullets(f"NOT RUN {code(name)} ({level}): {text(why)}" for (level, name), why in idle)
    elsewhere = bench_words.published_elsewhere(report.bench, tables(report.bench)).items()
    if elsewhere:
        lines = bullets(f"{text(where)}: {text(figure)}" for where, figure in elsewhere)
        yield "published figures", f"### {bench_words.PUBLISHED}\n\n{lines}"
    if report.changes is not None:
        yield "changes", _changes(report.changes)
    yield (
        "how to read it",
        fold("Columns", [bullets(f"{k}: {text(v)}" for k, v in bench_words.legend(tables(report.bench)).items())]),
    )


def _table(entry: BenchTable, measured: Bench, title: str) -> str:
    headings, found = bench_figures.columns(entry, measured)
    rows = []
    for length, cell, texts in found:
        name = code(bench_words.name(cell)) + (f" ✗ {text(cell.excluded)}" if cell.excluded else "")
        rows.append((text(length), name, *map(text, texts)))
    grid = table(("length", "implementation", *headings), rows)
    remarks = []
    for silent in entry.without:
        symbol, word, _ = bench_words.verdict(silent)
        remarks.append(f"{symbol} {text(word)} {code(silent.subject)}: {text(bench_words.why(silent, entry))}")
    if bound := bench_words.launch_bound(entry):
        remarks.append(text(f"{bench_words.MARK} {bound}"))
    remarks += [f"growth: {text(line)}" for line in bench_growth.lines(entry)]
    if calls := bench_words.first_calls(entry):
        remarks.append(f"first call: {text(' · '.join(calls))}")
    remarks += [f"! {text(line)}" for line in bench_words.drifts(entry)]
    heading = f"### {text(title[:1].upper() + title[1:])}\n\n{text(bench_words.shape(entry.case))}"
    return "\n\n".join(filter(None, (heading, grid, bullets(remarks))))


def _changes(changes: BenchChanges) -> str:
    rows = []
    for change in changes.changes:
        case = change.new.case
        rows.append(
            (
                text(bench_words.title(case)),
                bench_words.length(case.kv_len),
                code(case.subject),
                bench_words.time(change.old.median or 0.0),
                bench_words.time(change.new.median or 0.0),
                f"{bench_words.ratio(change.ratio)} ({change.low:.2f}..{change.high:.2f})",
                bench_changes.verdict(change)[0],
            )
        )
    told = [f"! {text(what)}: {text(old)} → {text(new)}" for what, (old, new) in changes.differences.items()]
    grid = table(("call", "length", "implementation", "old", "new", "ratio (noise)", ""), rows)
    return "\n\n".join(filter(None, (f"### Against {code(changes.source)}", bullets(told), grid)))
