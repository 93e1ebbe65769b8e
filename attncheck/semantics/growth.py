"""How the time of a call grows with its length: one exponent for each series of timed cells. Standard library only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace

from attncheck.semantics.timing import BenchCase, BenchCell, Growth
from attncheck.semantics.workload import right

#: Lengths below which a fit would be a line through anything.
FEWEST_LENGTHS = 3


def growth(cells: Iterable[BenchCell]) -> tuple[Growth, ...]:
    """The exponents of every series of at least three lengths.

    Times are those of one sequence (median by batch), so that a grid of constant tokens grows like one of single rows.
    Of a window only lengths of at least twice its size count: before, it hides little. A call that is bound by its
    launch takes the same time at any length, so it does not count either.
    """
    series: dict[BenchCase, dict[int, float]] = {}
    for cell in cells:
        if not right(cell) or cell.median is None or cell.launch_bound:
            continue
        case = cell.case
        if case.window.left is not None and case.kv_len < 2 * (case.window.left + 1):
            continue
        same = replace(case, q_len=0, kv_len=0, cells=0, batch=0)
        series.setdefault(same, {})[case.kv_len] = cell.median / case.batch
    wide = {case.head_dim for case in series}
    found = []
    for case, times in series.items():
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
