"""What follows from the medians: shares of the device's rates, ratios between subjects. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from attncheck.semantics.timing import BenchCase, BenchCell, DeviceRates
from attncheck.semantics.workload import alike, right, traffic

#: The subject, and the implementation, that others are compared with.
EAGER = "eager"


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
