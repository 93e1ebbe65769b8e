"""The timer's own arithmetic, what it does on a CPU, and what the telemetry makes of its sources; no time is judged."""

from __future__ import annotations

import builtins
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

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


@pytest.mark.parametrize(("estimate", "calls", "known"), [(1e-5, 100, True), (0.009, 5, True), (0.02, 1, False)])
def test_the_launch_is_read_of_every_call_that_may_be_bound_by_it(estimate: float, calls: int, known: bool) -> None:
    made: list[int] = []
    launch = timing._warm_up(lambda: made.append(1), estimate, Budget())
    assert len(made) == calls
    assert (launch is not None) is known


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
