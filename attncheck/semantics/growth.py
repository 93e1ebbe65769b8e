"""How the time of a call grows with its length: one exponent for each series of timed cells. Standard library only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from attncheck.semantics.timing import BenchCase, BenchCell, Growth
from attncheck.semantics.workload import of_any_length, right

#: Lengths below which a fit would be a line through anything.
FEWEST_LENGTHS = 3


@dataclass(frozen=True, slots=True)
class Series:
    """The lengths at which one call was timed. case: without its lengths and batch.

    times: length -> seconds of one sequence, of the lengths that count. near: those below twice the window, bound:
    those bound by their launch, which do not.
    """

    case: BenchCase
    times: dict[int, float] = field(default_factory=dict)
    near: set[int] = field(default_factory=set)
    bound: set[int] = field(default_factory=set)


def series(cells: Iterable[BenchCell]) -> tuple[Series, ...]:
    """What the right ones among the cells give to a fit.

    Times are those of one sequence (median by batch), so that a grid of constant tokens grows like one of single rows.
    Of a window only lengths of at least twice its size count: before, it hides little. A call that is bound by its
    launch takes the same time at any length, so it does not count either.
    """
    found: dict[BenchCase, Series] = {}
    for cell in cells:
        if not right(cell) or cell.median is None:
            continue
        case = cell.case
        same = of_any_length(case)
        entry = found.setdefault(same, Series(same))
        if case.kv_len < least(case):
            entry.near.add(case.kv_len)
        elif cell.launch_bound:
            entry.bound.add(case.kv_len)
        else:
            entry.times[case.kv_len] = cell.median / case.batch
    return tuple(found.values())


def least(case: BenchCase) -> int:
    """The length from which on a call counts: twice its window."""
    return 0 if case.window.left is None else 2 * (case.window.left + 1)


def growth(cells: Iterable[BenchCell]) -> tuple[Growth, ...]:
    """The exponents of every series of at least three lengths that count."""
    every = series(cells)
    wide = {entry.case.head_dim for entry in every if entry.times}
    found = []
    for entry in every:
        case, times = entry.case, entry.times
        if len(times) < FEWEST_LENGTHS:
            continue
        lengths = tuple(sorted(times))
        exponent, r2 = fit(lengths, [times[length] for length in lengths])
        found.append(
            Growth(
                case.level,
                case.subject,
                case.phase,
                case.backward,
                case.inputs,
                case.mask,
                exponent,
                r2,
                lengths,
                head_dim=case.head_dim if len(wide) > 1 else None,
                dtype=case.dtype,
            )
        )
    return tuple(found)


def fit(lengths: Sequence[int], times: Sequence[float]) -> tuple[float, float]:
    """(exponent, r2) of the least-squares line through log(time) against log(length)."""
    x, y = [math.log(length) for length in lengths], [math.log(time) for time in times]
    slope, intercept = statistics.linear_regression(x, y)
    mean = statistics.fmean(y)
    off = sum((there - (slope * here + intercept)) ** 2 for here, there in zip(x, y))
    spread = sum((there - mean) ** 2 for there in y)
    return slope, 1 - off / spread if spread > 0 else 1.0
