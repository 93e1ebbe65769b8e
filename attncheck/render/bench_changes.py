"""A bench against a stored one, in the terminal: ratios with their noise, and what only one of the runs has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

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
#: Rates of a device that differ by more than this are told: copies of six H100 runs lie within 0.2 %, but their matrix
#: products between 714 and 792 TFLOP/s, by the clock that the power limit leaves.
_SAME_RATE = 0.04
_BOUND = "bound by its launch"
#: What makes room for names, in this order; never the ratio, its noise and the verdict.
_DROPPED: tuple[tuple[str, ...], ...] = ((), ("old", "new"), ("old", "new", "memory"))
#: Columns that the verdict keeps where even that is not enough: `slower (n 2)`; `bound by its` and `launch` below it.
_VERDICT = 12
_GAP = 2


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
        if earlier and later and not 1 / (1 + _SAME_RATE) <= later / earlier <= 1 + _SAME_RATE:
            found[name] = (said(earlier), said(later))
    return found


def verdict(change: BenchChange) -> tuple[str, str]:
    """(words, colour): `slower`, `faster`, `within noise` or `bound by its launch`."""
    if change.launch_bound:
        return _BOUND, "dim"
    if not change.beyond_noise:
        return "within noise", "dim"
    return ("slower", SEVERITY[Severity.ERROR][1]) if change.ratio > 1 else ("faster", "green")


def sections(changes: BenchChanges | None, width: int) -> list[RenderableType]:
    """Nothing without a stored run. width: columns of the page."""
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
        parts += [_inset(Text(title[:1].upper() + title[1:], style="bold")), _inset(_rows(found, width - 4), 4)]
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
    counts = Counter(verdict(change)[0] for change in changes.changes)
    bound = f", {counts[_BOUND]} bound by their launch from Python, so not judged" if counts[_BOUND] else ""
    return (
        f"{plural(len(changes.changes), 'call')} timed in both: {counts['slower']} slower, {counts['faster']} faster, "
        f"{counts['within noise']} within noise{bound}. ratio: new median by old; noise: from p20 and p80 of "
        f"both, at least {BETWEEN_RUNS:.0%} to either side, wider by what a run drifted"
    )


def _rows(changes: Sequence[BenchChange], room: int) -> Table:
    """The name folds where it has no room, after old, new and memory were left out."""
    texts = _texts(changes)
    name = max(len(change.new.case.subject) for change in changes)
    for dropped in _DROPPED:
        widths = {head: max(map(len, (head, *found))) for head, found in texts.items() if head not in dropped}
        left = room - sum(width + _GAP for width in widths.values())
        if left >= name:
            break
    else:
        left += max(0, widths[""] - _VERDICT)
        widths[""] = min(widths[""], _VERDICT)
    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_edge=False, header_style="dim")
    grid.add_column(width=min(name, left), overflow="fold")
    for head, width in widths.items():
        grid.add_column(head, width=width, justify="right" if head in ("old", "new", "ratio", "memory") else "left")
    for number, change in enumerate(changes):
        colour = verdict(change)[1] if texts[""][number] else ""
        cells = (Text(texts[head][number], style=colour if head in ("ratio", "") else "") for head in widths)
        grid.add_row(Text(change.new.case.subject, style="bold"), *cells)
    return grid


def _texts(changes: Sequence[BenchChange]) -> Mapping[str, Sequence[str]]:
    """Heading -> texts from top to bottom; the verdict has no heading, a memory that never differs no column."""
    found = {
        "length": [words.length(change.new.case.kv_len) for change in changes],
        "old": [words.time(change.old.median or 0.0) for change in changes],
        "new": [words.time(change.new.median or 0.0) for change in changes],
        "ratio": [words.ratio(change.ratio) for change in changes],
        "noise": [f"{change.low:.2f}..{change.high:.2f}" for change in changes],
        "": [_judged(change) for change in changes],
        "memory": [_memory(change) for change in changes],
    }
    return {head: texts for head, texts in found.items() if head != "memory" or any(texts)}


def _judged(change: BenchChange) -> str:
    """The verdict, with the repetitions where they are few; nothing within noise."""
    if change.beyond_noise and change.repetitions < FEWEST:
        return f"{verdict(change)[0]} (n {change.repetitions})"
    return verdict(change)[0] if change.beyond_noise or change.launch_bound else ""


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
