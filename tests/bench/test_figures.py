"""Ratios and shares from medians that are given, not measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attncheck.bench import figures
from attncheck.semantics.convention import Outcome
from attncheck.semantics.spec import CAUSAL
from attncheck.semantics.timing import BenchCase, BenchCell, DeviceRates
from attncheck.semantics.workload import cells, traffic

CASE = BenchCase("kernel", "eager", "prefill", False, "plain", 1, 64, 64, 4, 2, 32, 32, "bfloat16", CAUSAL, "causal")


def cell(subject: str, median: float | None, length: int = 64, **changes: object) -> BenchCell:
    case = replace(CASE, subject=subject, q_len=length, kv_len=length, **changes)  # type: ignore[arg-type]
    case = replace(case, cells=cells(case))
    outcome = Outcome.READ if median is not None else Outcome.REFUSED
    return BenchCell(case, outcome, median=median, tflops=case.flops / median / 1e12 if median else None)


def test_ratios_to_eager_and_to_the_best_right_one() -> None:
    wrong = replace(cell("fast-but-wrong", 0.5), excluded="window-ignored")
    given = (cell("eager", 8.0), cell("sdpa", 4.0), cell("flash", 2.0), wrong, cell("absent", None))
    found = {entry.case.subject: entry for entry in figures.with_ratios(given)}
    assert found["sdpa"].to_eager == 0.5
    assert found["sdpa"].to_best == 2.0
    assert found["flash"].to_best == 1.0
    assert found["fast-but-wrong"].to_best == 0.25
    assert found["absent"].to_best is None


def test_ratios_stay_within_one_case() -> None:
    given = (cell("eager", 8.0), cell("sdpa", 4.0, 128), replace(cell("flash", 1.0), outcome=Outcome.CRASHED))
    found = figures.with_ratios(given)
    assert found[1].to_eager is None
    assert found[1].to_best == 1.0
    assert found[0].to_best == 1.0


def test_shares_of_the_device() -> None:
    rates = DeviceRates("made", matrix=1e12, copy=1e9)
    prefill = figures.with_shares(cell("flash", 1e-3), rates)
    assert prefill.tflops is not None
    assert prefill.matrix_share == pytest.approx(prefill.tflops)
    assert prefill.copy_share is None
    decode = cell("flash", 1e-3, phase="decode")
    share = figures.with_shares(decode, rates).copy_share
    assert share == pytest.approx(traffic(decode.case) / 1e-3 / 1e9)
    assert figures.with_shares(decode, None) is decode
    assert figures.with_shares(cell("flash", None), rates).matrix_share is None
