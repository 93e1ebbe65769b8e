"""A bench against a stored one, in the terminal: ratios with their noise, and what only one of the runs has."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.findings import Severity
from attncheck.render import bench_words as words
from attncheck.render.symbols import SEVERITY
from attncheck.render.wording import first_line, plural
from attncheck.report import Report
from attncheck.semantics.timing import BenchCell
from attncheck.semantics.timing_changes import BETWEEN_RUNS, FEWEST, BenchChange, BenchChanges

#: Memory is counted, not timed: peaks that differ by more than this are another way of computing.
_SAME_MEMORY = 0.01


def _conditions_of(report: Report) -> dict[str, str]:
    """What times depend on -> its value; only what is known."""
    found: dict[str, str] = {}
    rates = report.bench.rates if report.bench is not None else None
    if rates is not None and rates.name:
        found["device"] = rates.name
    if rates is not None and rates.power_limit is not None:
        found["power limit"] = f"{rates.power_limit:.0f} W"
    environment = report.environment
    found |= {name: value for name, value in (("driver", environment.driver), ("python", environment.python)) if value}
    return found | {library.name: library.version or "absent" for library in environment.libraries}


def differing(old: Report, report: Report) -> dict[str, tuple[str, str]]:
    """Conditions that both runs know and that differ -> (old, new); with the device's own rates beyond noise."""
    before, now = _conditions_of(old), _conditions_of(report)
    found = {name: (before[name], value) for name, value in now.items() if name in before and before[name] != value}
    before_rates, rates = (run.bench.rates if run.bench is not None else None for run in (old, report))
    if before_rates is None or rates is None:
        return found
    pairs = {
        "matrix product": (before_rates.matrix, rates.matrix, words.flops),
        "copy": (before_rates.copy, rates.copy, words.bandwidth),
    }
    for name, (earlier, later, said) in pairs.items():
        if earlier and later and not 1 / (1 + BETWEEN_RUNS) <= later / earlier <= 1 + BETWEEN_RUNS:
            found[name] = (said(earlier), said(later))
    return found


def sections(changes: BenchChanges | None) -> list[RenderableType]:
    """Nothing without a stored run."""
    if changes is None:
        return []
    parts: list[RenderableType] = [Text(f"Against {changes.source}", style="bold underline"), *_conditions(changes)]
    together: dict[str, list[BenchChange]] = {}
    for change in changes.changes:
        case = change.new.case
        together.setdefault(f"{words.title(case)}; {words.shape(case)}", []).append(change)
    if together:
        parts.append(_inset(Text(_legend(changes), style="dim")))
    for title, found in together.items():
        parts += [_inset(Text(title[:1].upper() + title[1:], style="bold")), _inset(_rows(found), 4)]
    parts += _only("timed before, not now", ((old, new.excluded or new.detail) for old, new in changes.lost))
    parts += _only("timed now, not before", ((new, old.excluded or old.detail) for old, new in changes.gained))
    parts += _only(f"only in {changes.source}", ((cell, "") for cell in changes.only_old))
    parts += _only("only in this run", ((cell, "") for cell in changes.only_new))
    return parts


def _conditions(changes: BenchChanges) -> list[RenderableType]:
    """The warning that the runs were not made under the same conditions."""
    symbol, colour = SEVERITY[Severity.WARNING]
    lines = []
    if changes.differences:
        told = "; ".join(f"{what} {old} → {new}" for what, (old, new) in changes.differences.items())
        lines.append(f"not the same conditions, so a change need not be the software's: {told}")
    if not changes.complete:
        lines.append("that run was interrupted: it has only what had been measured until then")
    if not changes.changes:
        lines.append("no call was timed in both runs")
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(style=colour)
    grid.add_column(style=colour)
    for line in lines:
        grid.add_row(symbol, line)
    return [_inset(grid)] if lines else []


def _legend(changes: BenchChanges) -> str:
    beyond = [change for change in changes.changes if change.beyond_noise]
    slower = sum(change.ratio > 1 for change in beyond)
    return (
        f"{plural(len(changes.changes), 'call')} timed in both: {slower} slower, {len(beyond) - slower} faster, "
        f"{len(changes.changes) - len(beyond)} within noise. ratio: new median by old; noise: from p20 and p80 of "
        f"both, at least {BETWEEN_RUNS:.0%} to either side"
    )


def _rows(changes: Iterable[BenchChange]) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    changes = list(changes)
    memory = any(_memory(change) for change in changes)
    for heading in ("", "length", "old", "new", "ratio", "noise", "", *(["memory"] if memory else [])):
        numeric = heading in ("old", "new", "ratio", "memory")
        grid.add_column(heading, justify="right" if numeric else "left", no_wrap=True)
    for change in changes:
        mark, colour = "", ""
        if change.beyond_noise:
            mark, severity = ("slower", Severity.ERROR) if change.ratio > 1 else ("faster", None)
            colour = SEVERITY[severity][1] if severity is not None else "green"
        if mark and change.repetitions < FEWEST:
            mark += f" (n {change.repetitions})"
        grid.add_row(
            Text(change.new.case.subject, style="bold"),
            words.length(change.new.case.kv_len),
            words.time(change.old.median or 0.0),
            words.time(change.new.median or 0.0),
            Text(words.ratio(change.ratio), style=colour),
            f"{change.low:.2f}..{change.high:.2f}",
            Text(mark, style=colour),
            *([_memory(change)] if memory else []),
        )
    return grid


def _memory(change: BenchChange) -> str:
    """The ratio of the peaks where they differ."""
    found = change.memory_ratio
    return words.ratio(found) if found is not None and abs(found - 1) > _SAME_MEMORY else ""


def _only(title: str, found: Iterable[tuple[BenchCell, str]]) -> list[RenderableType]:
    """One line a subject, kind of call and reason, with the lengths."""
    together: dict[tuple[str, str, str], list[int]] = {}
    for cell, reason in found:
        key = (cell.case.subject, words.title(cell.case), first_line(reason))
        together.setdefault(key, []).append(cell.case.kv_len)
    if not together:
        return []
    parts: list[RenderableType] = [_inset(Text(title, style="bold"))]
    for (subject, kind, reason), tokens in together.items():
        text = f"{subject} at {words.lengths(sorted(set(tokens)))} ({kind})" + (f": {reason}" if reason else "")
        parts.append(_inset(Text(text), 4))
    return parts


def _inset(part: RenderableType, columns: int = 2) -> Padding:
    return Padding(part, (0, 0, 0, columns))
