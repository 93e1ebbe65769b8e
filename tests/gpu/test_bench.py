"""The bench on a CUDA device: memory, rates and kernels are read there. No time is judged."""

from __future__ import annotations

import pytest

from attncheck.bench import run
from attncheck.bench.options import BenchOptions
from attncheck.report import Report
from attncheck.semantics.convention import Outcome
from attncheck.semantics.timing import BenchCell

pytestmark = pytest.mark.gpu


def cells(report: Report) -> tuple[BenchCell, ...]:
    assert report.bench is not None
    return report.bench.cells


def test_kernels_are_timed_with_memory_and_rates() -> None:
    report = run.bench(BenchOptions(impl=("eager", "sdpa", "sdpa-flash"), seq_lens=(1024,), masks=("causal",)))
    assert report.bench is not None
    rates = report.bench.rates
    assert rates is not None
    assert rates.matrix is not None
    assert rates.copy is not None
    assert rates.matrix > 1e12
    assert all(cell.outcome is Outcome.READ and cell.peak_memory for cell in cells(report))
    peaks = {cell.case.subject: cell.peak_memory or 0 for cell in cells(report) if not cell.case.backward}
    assert peaks["eager"] > peaks["sdpa-flash"]
    assert {cell.kernel for cell in cells(report) if cell.case.subject == "sdpa"} <= {"flash", "cudnn"}


def test_a_window_pushes_sdpa_off_its_flash_kernel() -> None:
    report = run.bench(BenchOptions(preset="swa", impl=("sdpa",), seq_lens=(4096,)))
    kernels = {cell.case.mask: cell.kernel for cell in cells(report)}
    assert kernels["window 1024"] not in ("flash", "")
    assert kernels["causal"] in ("flash", "cudnn")


def test_a_call_that_does_not_fit_is_an_outcome() -> None:
    report = run.bench(
        BenchOptions(impl=("eager", "sdpa"), seq_lens=(512, 131072), masks=("causal",), passes=("forward",))
    )
    became = {(cell.case.subject, cell.case.kv_len): cell for cell in cells(report)}
    assert became["eager", 131072].outcome is Outcome.CRASHED
    assert "out of memory" in became["eager", 131072].detail
    assert became["sdpa", 131072].outcome is Outcome.READ
