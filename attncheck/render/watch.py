"""What a watch saw, for every format: the answer, the facts about the script, and one row for calls that are alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from attncheck.render.parts import grid, heading, inset
from attncheck.render.symbols import VERDICT
from attncheck.render.verdict import counts
from attncheck.render.wording import first_line, layer_ranges, plural
from attncheck.report import Report
from attncheck.semantics.kernel_names import BRIEF, shortened
from attncheck.semantics.watched import Site, Watch
from attncheck.verdicts import Verdict

#: Rows on a page of the terminal; JSON has all of them.
MOST_ROWS = 40
#: Where the effective mask was not read.
_UNREAD = "NOT READ"
HEADINGS = ("", "attention", "layers", "asked", "sees", "calls")


@dataclass(frozen=True, slots=True)
class Row:
    """One row in words. symbol, word, colour: of the verdict. detail: where it is called, sizes, what is missing."""

    symbol: str
    word: str
    colour: str
    attention: str
    layers: str
    asked: str
    sees: str
    calls: str
    detail: str


def answer(report: Report) -> list[Text]:
    """How many sites are right, wrong or without a verdict; then the count of findings."""
    watch = report.watch
    assert watch is not None
    if not watch.sites:
        symbol, _, colour = VERDICT[Verdict.NOT_RUN]
        why = "; ".join(watch.failures[:1]) or (
            "the model called no function that is watched"
            if report.command == "watch"
            else "no process called a function that is watched; a Python started with -I, -E or -S is not watched"
        )
        return [Text(f"{symbol} no attention call was seen: {first_line(why)}", style=colour)]
    lines = []
    by_verdict = {
        verdict: [site for site in watch.sites if Verdict(site.verdict) is verdict]
        for verdict in (Verdict.MISMATCH, Verdict.OK, Verdict.UNKNOWN, Verdict.NOT_RUN)
    }
    words = {
        Verdict.MISMATCH: "wrong",
        Verdict.OK: "as the model's config declares",
        Verdict.UNKNOWN: "read, with nothing wrong that shows without a config",
        Verdict.NOT_RUN: "not read",
    }
    worst = next(verdict for verdict, sites in by_verdict.items() if sites)
    said = [f"{len(sites)} {words[verdict]}" for verdict, sites in by_verdict.items() if sites]
    symbol, _, colour = VERDICT[worst]
    lines.append(
        Text(f"{symbol} {plural(len(watch.sites), 'kind')} of attention call: {', '.join(said)}", style=colour)
    )
    if report.findings:
        lines.append(counts(report))
    return lines


def facts(watch: Watch) -> Iterator[tuple[str, str]]:
    """(label, text) about the script and the watch."""
    if watch.script:
        yield "command", watch.script
    if watch.status is not None:
        yield "ended", f"by {watch.ended_by}" if watch.ended_by else f"with exit code {watch.status}"
    processes = plural(watch.processes, "process") if watch.processes == 1 else f"{watch.processes} processes"
    ranks = f", ranks {layer_ranges(watch.ranks)}" if watch.ranks else ""
    yield "watched", f"{processes}{ranks}; the first {plural(watch.first, 'call')} of each site and kind, then nothing"
    if watch.versions:
        yield "loaded", ", ".join(f"{name} {version}" for name, version in watch.versions.items())
    if watch.compiled:
        yield "not seen", f"calls inside {plural(watch.compiled, 'graph')} of torch.compile"
    for failure in watch.failures:
        yield "failed", first_line(failure)


def rows(watch: Watch) -> list[Row]:
    """Every row, in the order of the calls."""
    return [_row(site, bool(watch.ranks)) for site in watch.sites]


def _row(site: Site, ranked: bool) -> Row:
    symbol, word, colour = VERDICT[Verdict(site.verdict)]
    if site.difference is not None:
        word = site.difference
    elif Verdict(site.verdict) is Verdict.UNKNOWN and not site.reason:
        symbol, word, colour = "·", "seen", "dim"  # there is no config that it could be compared with
    kernel = site.launched and shortened(site.launched, BRIEF)
    names = [site.implementation or site.function, *filter(None, (f"[{site.kernel}]" if site.kernel else "", kernel))]
    layers = f"{site.part.value} {layer_ranges(site.layers)}" if site.part is not None and site.layers else site.module
    asked = [
        "no mask" if site.mask_kind == "none" else f"{site.mask_kind} mask",
        "is_causal" if site.is_causal else "",
        f"window {site.window}" if site.window else "",
    ]
    sees = first_line(site.sees or _UNREAD)
    if site.declared and site.verdict == "mismatch":
        sees += f" (declared {site.declared})"
    ranks = f", ranks {layer_ranges(site.ranks)}" if ranked else ""
    why = first_line(site.reason)
    detail = "; ".join(
        filter(None, (f"{site.where}, {site.phase}, {site.shape}, {site.dtype} on {site.device}{ranks}", why))
    )
    return Row(
        symbol, word, colour, " ".join(names), layers, ", ".join(filter(None, asked)), sees, str(site.calls), detail
    )


def sections(report: Report) -> list[RenderableType]:
    """The table of the terminal: a line with the verdict, and a dim one with the place."""
    watch = report.watch
    if watch is None or not watch.sites:
        return []
    parts: list[RenderableType] = [heading("Attention calls")]
    for row in rows(watch)[:MOST_ROWS]:
        parts.append(
            inset(
                Text.assemble(
                    (f"{row.symbol} {row.word}  ", row.colour),
                    (row.attention, "bold"),
                    f"  {row.layers}" if row.layers else "",
                    f"  {row.asked}",
                )
            )
        )
        parts.append(inset(inset(Text(f"sees {row.sees}" if row.sees != _UNREAD else row.sees))))
        parts.append(inset(inset(Text(f"{row.detail}, {plural(int(row.calls), 'call')}", style="dim"))))
    if (more := len(watch.sites) - MOST_ROWS) > 0:
        parts.append(inset(Text(f"... and {more} more; --format json lists them all", style="dim")))
    return parts


def header(watch: Watch) -> RenderableType:
    """The facts as two columns."""
    table = grid()
    for label, text in facts(watch):
        table.add_row(label, text)
    return table


def closing(report: Report) -> str:
    """The end of the last line: what the script itself ended with."""
    watch = report.watch
    if watch is None or watch.status is None:
        return ""
    return f"ended by {watch.ended_by}" if watch.ended_by else f"the script's exit code {watch.status}"
