"""The timer's own arithmetic, what it does on a CPU, and what the telemetry makes of its sources; no time is judged."""

from __future__ import annotations

import builtins
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from attncheck.probe import telemetry, timing
from attncheck.probe.telemetry import Sample
from attncheck.probe.timing import Budget


def test_median_and_percentiles() -> None:
    assert timing.summary([3.0, 1.0, 2.0, 5.0, 4.0]) == pytest.approx((3.0, 1.8, 4.2))
    assert timing.summary([7.0]) == (7.0, 7.0, 7.0)


def test_drift_compares_the_last_tenth_with_the_first() -> None:
    assert timing.drift([1.0] * 10 + [1.2] * 10) == pytest.approx(0.2)
    assert timing.drift([2.0] * 40) == 0
    assert timing.drift([1.0] * 19) is None


def test_repetitions_fit_the_budget() -> None:
    budget = Budget(repeat=0.06, fewest=5, most=100, slow=0.5)
    assert budget.repetitions(1e-5) == 100
    assert budget.repetitions(0.001) == 60
    assert budget.repetitions(0.1) == 5
    assert budget.repetitions(2.0) == 1
    assert budget.repetitions(0.0) == 100


def test_on_a_cpu_every_call_is_counted() -> None:
    calls = []
    found = timing.measure(lambda: calls.append(1), "cpu", budget=Budget(repeat=0.001))
    assert found.n >= 1
    assert len(calls) > found.n
    assert found.peak is None
    assert not found.launch_bound
    assert 0 < found.p20 <= found.median <= found.p80
    assert found.spent >= found.first_call > 0


class FakeGpu:
    """A device on a clock of its own: Python goes on while the device works off what was launched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.busy_until = 0.0
        gpu = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                self.at = 0.0

            def record(self) -> None:
                self.at = max(gpu.now, gpu.busy_until)

            def elapsed_time(self, later: Event) -> float:
                return (later.at - self.at) * 1e3

        monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "synchronize", self.wait)
        for name in ("memory_allocated", "max_memory_allocated", "reset_peak_memory_stats"):
            monkeypatch.setattr(torch.cuda, name, lambda: 0)
        flushed = SimpleNamespace(zero_=lambda: self.work(0.1))
        monkeypatch.setattr(torch, "empty", lambda *size, **kwargs: flushed)

    def python(self, milliseconds: float) -> None:
        self.now += milliseconds / 1e3

    def work(self, milliseconds: float) -> None:
        self.busy_until = max(self.now, self.busy_until) + milliseconds / 1e3

    def wait(self) -> None:
        self.now = max(self.now, self.busy_until)


@pytest.mark.parametrize(
    ("parts", "median", "bound"),
    [
        pytest.param([(0.05, 0.5)], 0.5, False, id="kernel"),
        pytest.param([(2.0, 0.1)], 2.0, True, id="launch"),
        pytest.param([(0.09, 0.05)], 0.05, False, id="launch hidden by the flush"),
        pytest.param([(0.5, 4.0), (0.5, 4.0)], 8.5, False, id="waits inside"),
        pytest.param([(2.0, 0.1), (2.0, 0.1)], 4.1, True, id="waits inside, launch"),
        pytest.param([(0.05, 30.0)], 30.0, False, id="slow kernel"),
        pytest.param([(20.0, 1.0)], 21.0, True, id="slow launch"),
        pytest.param([(0.5, 95.0), (0.3, 0.5)], 96.0, False, id="waits late inside a very slow call"),
    ],
)
def test_a_call_bound_by_its_launch(
    monkeypatch: pytest.MonkeyPatch, parts: list[tuple[float, float]], median: float, bound: bool
) -> None:
    """parts: milliseconds of (Python, the device); between two parts Python waits for the device."""
    gpu = FakeGpu(monkeypatch)

    def call() -> None:
        for number, (python, kernel) in enumerate(parts):
            if number:
                gpu.wait()
            gpu.python(python)
            gpu.work(kernel)

    found = timing.measure(call, "cuda")
    assert found.launch_bound is bound
    assert found.median * 1e3 == pytest.approx(median, rel=0.12)
    assert (found.drift is None) == (bound or found.n < 20)


@pytest.mark.parametrize("slow", [1, 2])
def test_one_slow_launch_of_five_is_not_theirs(monkeypatch: pytest.MonkeyPatch, slow: int) -> None:
    """slow: which call of Python takes long; the second is the one that gives the estimate."""
    gpu, calls = FakeGpu(monkeypatch), []

    def call() -> None:
        calls.append(1)
        gpu.python(8.0 if len(calls) == slow + 1 else 0.05)
        gpu.work(1.0)

    assert not timing.measure(call, "cuda").launch_bound


@pytest.mark.parametrize(("python", "bound"), [(0.85, False), (0.95, True)])
def test_four_fifths_of_the_time_are_enough(monkeypatch: pytest.MonkeyPatch, python: float, bound: bool) -> None:
    """Beside a flush of 0.1 ms: 0.75 and 0.85 of the millisecond that the device takes."""
    gpu = FakeGpu(monkeypatch)

    def call() -> None:
        gpu.python(python)
        gpu.work(1.0)

    found = timing.measure(call, "cuda")
    assert found.launch_bound is bound


@pytest.mark.parametrize(("estimate", "calls", "launches"), [(1e-5, 100, 4), (0.009, 4, 4), (0.02, 2, 2), (0.06, 0, 0)])
def test_the_launch_is_read_of_every_call_that_may_be_bound_by_it(
    monkeypatch: pytest.MonkeyPatch, estimate: float, calls: int, launches: int
) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    made: list[int] = []
    assert len(timing._warm_up(lambda: made.append(1), estimate, Budget())) == launches
    assert len(made) == calls


def test_what_the_call_raises_gets_through() -> None:
    def broken() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        timing.measure(broken, "cpu")


def test_the_answer_of_nvidia_smi() -> None:
    assert telemetry.parsed("1755, 700.00, 0x0000000000000004\n") == Sample(1755, 700.0, "software power cap")
    assert telemetry.parsed("1980, 700.00, 0x0000000000000001") == Sample(1980, 700.0, "")
    assert telemetry.parsed("[N/A], [N/A], [N/A]") == Sample()
    assert telemetry.parsed("No devices were found") == Sample()


def test_reasons_in_words() -> None:
    assert telemetry.words(0x44) == "software power cap, hardware thermal slowdown"
    assert telemetry.words(0x3) == ""


class _NvmlError(Exception):
    pass


def _nvml(**changes: Any) -> ModuleType:
    module = ModuleType("pynvml")
    entries: dict[str, Any] = {
        "NVMLError": _NvmlError,
        "NVML_CLOCK_SM": 1,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetClockInfo": lambda handle, kind: 1410,
        "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 400_000,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 0x20,
    }
    vars(module).update({**entries, **changes})
    return module


def test_nvml_under_its_old_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _nvml())
    assert telemetry.sample("GPU-1") == Sample(1410, 400.0, "software thermal slowdown")


def test_nvml_that_fails_midway(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise _NvmlError

    monkeypatch.setitem(sys.modules, "pynvml", _nvml(nvmlDeviceGetClockInfo=lost))
    assert telemetry.sample("") == Sample()


def test_without_nvml_nvidia_smi_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "pynvml":
            raise ImportError(name)
        return real(name, *rest, **named)

    asked: list[list[str]] = []

    def answer(command: list[str], **_: Any) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(stdout="1755, 700.00, 0x0\n")

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(telemetry.subprocess, "run", answer)
    assert telemetry.sample("GPU-7") == Sample(1755, 700.0)
    assert "--id=GPU-7" in asked[0]


def test_without_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(telemetry.subprocess, "run", missing)
    assert telemetry.sample("") == Sample()
