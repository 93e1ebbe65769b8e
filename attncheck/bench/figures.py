"""What follows from the medians: shares of the device's rates, ratios between subjects, growth with length. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from attncheck.semantics.timing import BenchCase, BenchCell, DeviceRates, Growth
from attncheck.semantics.workload import alike, right, traffic

#: The subject, and the implementation, that others are compared with.
EAGER = "eager"
#: Lengths below which a fit would be a line through anything.
FEWEST_LENGTHS = 3


def with_shares(cell: BenchCell, rates: DeviceRates | None) -> BenchCell:
    """The cell with its shares of the measured matrix rate, and for decode of the measured copy bandwidth."""
    if cell.median is None or not cell.median or rates is None:
        return cell
    matrix = copied = None
    if rates.matrix and cell.tflops is not None:
        matrix = cell.tflops * 1e12 / rates.matrix
    if rates.copy and cell.case.phase == "decode" and cell.case.level == "kernel":
        copied = traffic(cell.case) / cell.median / rates.copy
    return replace(cell, matrix_share=matrix, copy_share=copied)


def with_ratios(cells: Iterable[BenchCell]) -> tuple[BenchCell, ...]:
    """The cells with their ratios to eager and to the best right one of the same case."""
    cells = tuple(cells)
    eager: dict[BenchCase, float] = {}
    best: dict[BenchCase, float] = {}
    for cell in cells:
        if right(cell) and cell.median is not None:
            work = alike(cell.case)
            best[work] = min(best.get(work, math.inf), cell.median)
            if cell.case.subject == EAGER:
                eager[work] = cell.median
    return tuple(_with_ratios(cell, eager, best) for cell in cells)


def _with_ratios(cell: BenchCell, eager: dict[BenchCase, float], best: dict[BenchCase, float]) -> BenchCell:
    if cell.median is None:
        return cell
    work = alike(cell.case)
    return replace(
        cell,
        to_eager=cell.median / eager[work] if work in eager else None,
        to_best=cell.median / best[work] if work in best else None,
    )


def growth(cells: Iterable[BenchCell]) -> tuple[Growth, ...]:
    """The exponents of every series of at least three lengths.

    Times are those of one sequence (median by batch), so that a grid of constant tokens grows like one of single rows.
    Of a window only lengths of at least twice its size count: before, it hides little.
    """
    series: dict[BenchCase, dict[int, float]] = {}
    for cell in cells:
        if not right(cell) or cell.median is None:
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
            )
        )
    return tuple(found)


def fit(lengths: Sequence[int], times: Sequence[float]) -> tuple[float, float]:
    """(exponent, r2) of the least-squares line through log(time) against log(length)."""
    import numpy

    x, y = numpy.log(numpy.asarray(lengths, float)), numpy.log(numpy.asarray(times, float))
    slope, intercept = numpy.polyfit(x, y, 1)
    off, spread = float(((y - (slope * x + intercept)) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    return float(slope), 1 - off / spread if spread > 0 else 1.0
