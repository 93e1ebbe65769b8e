"""Times one callable: CUDA events with a flushed L2 before each repetition, torch's own timer on a CPU."""

from __future__ import annotations

import gc
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

#: Written over before each repetition: more than the L2 of any GPU (H100: 50 MB). As in triton.testing.do_bench.
FLUSHED_BYTES = 256 * 1024 * 1024
#: (seconds that a call takes at least, launches of it that are timed beside that of the estimating call). None from
#: 50 ms on: the slowest call on an H100 whose time is Python's, uncompiled flex_attention with backward at 1024
#: tokens, took 20.
_LAUNCHES = ((0.05, 0), (0.01, 2), (0.0, 4))
#: Share of the measured time from which a call is bound by its launch and not by its kernel.
_BOUND = 0.8


@dataclass(frozen=True, slots=True)
class Budget:
    """How long one measurement may take. warm_up, repeat: seconds. fewest, most: repetitions.

    warm_up is that of triton.testing.do_bench: at its power limit a GPU lowers its clock only after a time under load.
    slow: seconds that the repetitions of a slow call may take; those that do not fit are left out, but for one.
    """

    warm_up: float = 0.025
    repeat: float = 0.060
    fewest: int = 5
    most: int = 100
    slow: float = 0.5

    def repetitions(self, estimate: float) -> int:
        """How often a call of this many seconds is repeated."""
        wanted = max(self.fewest, min(self.most, int(self.repeat / max(estimate, 1e-9))))
        return max(1, min(wanted, int(self.slow / max(estimate, 1e-9))))


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one call. median, p20, p80: of n repetitions. first_call: of the very first, compiling included.

    drift: median of the last tenth of the repetitions against that of the first tenth, minus one; None for fewer than
    20, and where launching takes the time. peak: bytes that the device held at most beyond what it held before, None on
    a CPU. launch_bound: the time is that of the launch from Python, so a faster kernel would not show. spent: seconds
    that all this took.
    """

    median: float
    p20: float
    p80: float
    n: int
    first_call: float
    drift: float | None = None
    peak: int | None = None
    launch_bound: bool = False
    spent: float = 0.0


def measure(call: Callable[[], object], device: str, *, held: int | None = None, budget: Budget = Budget()) -> Times:
    """Time `call`. device: "cuda" or "cpu". held: bytes of the device that count as inputs, None: what is held now.

    On a GPU: one first call, one for memory and an estimate, a warm-up by time, then repetitions between two events,
    each after a write over 256 MiB that empties the L2, all as triton.testing.do_bench has it. That function is not
    used itself: it gives no first call, no account of its own time, and calls slow kernels seven times at least. Raises
    what the call raises.
    """
    started = time.perf_counter()
    found = _on_gpu(call, held, budget) if device == "cuda" else _on_cpu(call, budget)
    return replace(found, spent=time.perf_counter() - started)


def summary(times: Sequence[float]) -> tuple[float, float, float]:
    """(median, 20th percentile, 80th percentile), linearly interpolated."""
    ordered = sorted(times)
    return statistics.median(ordered), _quantile(ordered, 0.2), _quantile(ordered, 0.8)


def drift(times: Sequence[float]) -> float | None:
    """Median of the last tenth against the first tenth, minus one; None for fewer than 20 repetitions."""
    tenth = len(times) // 10
    if tenth < 2:
        return None
    return statistics.median(times[-tenth:]) / statistics.median(times[:tenth]) - 1


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _on_gpu(call: Callable[[], object], held: int | None, budget: Budget) -> Times:
    import torch

    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated() if held is None else held
    started = time.perf_counter()
    call()
    torch.cuda.synchronize()
    first_call = time.perf_counter() - started
    gc.collect()  # what a library left in reference cycles would count as held by the next call
    torch.cuda.reset_peak_memory_stats()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    launch = _launch(call)
    end.record()
    torch.cuda.synchronize()
    peak: int | None = int(torch.cuda.max_memory_allocated() - before)
    if peak is not None and peak < 0:  # the call freed what was there before it: no figure is better than a wrong one
        peak = None
    estimate = start.elapsed_time(end) / 1e3
    further = _warm_up(call, estimate, budget)
    torch.cuda.synchronize()
    times, flush = _repeat(call, budget.repetitions(estimate))
    median, p20, p80 = summary(times)
    # While the device writes over its L2, Python is at the launch already: that much of it does not show.
    bound = bool(further) and statistics.median([launch, *further]) - flush > _BOUND * median
    # A call that is bound by its launch wavers with Python, not with the clock of the GPU.
    return Times(median, p20, p80, len(times), first_call, None if bound else drift(times), peak, bound)


def _warm_up(call: Callable[[], object], estimate: float, budget: Budget) -> list[float]:
    """Seconds of each further launch, none for very slow calls; the other calls follow each other without a pause.

    A launch is timed while the device is idle: a call that waits for the device inside (transformers' flash attention
    does in every layer, to look at position_ids) would else wait for the whole call before it. It still waits for its
    own kernels up to there, which count as launching: where they are most of the call, it is taken for bound.
    """
    import torch

    timed = next(count for seconds, count in _LAUNCHES if estimate >= seconds)
    taken = []
    for _ in range(timed):
        torch.cuda.synchronize()
        taken.append(_launch(call))
    for _ in range(min(budget.most, int(budget.warm_up / max(estimate, 1e-9))) - timed):
        call()
    return taken


def _launch(call: Callable[[], object]) -> float:
    """Seconds until Python has the call back, its kernels launched."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _repeat(call: Callable[[], object], count: int) -> tuple[list[float], float]:
    """(seconds of each call, seconds of one flush of the L2)."""
    import torch

    flushed = torch.empty(FLUSHED_BYTES // 4, dtype=torch.int32, device="cuda")
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    flushed.zero_()
    before.record()
    flushed.zero_()  # behind the other one: the device does not wait for its launch
    after.record()
    starts = [torch.cuda.Event(enable_timing=True) for _ in range(count)]
    ends = [torch.cuda.Event(enable_timing=True) for _ in range(count)]
    for start, end in zip(starts, ends):
        flushed.zero_()
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    times = [start.elapsed_time(end) / 1e3 for start, end in zip(starts, ends)]
    return times, before.elapsed_time(after) / 1e3


def _on_cpu(call: Callable[[], object], budget: Budget) -> Times:
    from torch.utils.benchmark import Timer

    started = time.perf_counter()
    call()
    first_call = time.perf_counter() - started
    timer = Timer("call()", globals={"call": call}, num_threads=cpu_threads())
    found = timer.blocked_autorange(min_run_time=budget.repeat)
    times = [float(seconds) for seconds in found.times]
    median, p20, p80 = summary(times)
    return Times(median, p20, p80, len(times), first_call, drift(times))


def cpu_threads() -> int:
    """Threads of a measurement on a CPU: what OMP_NUM_THREADS says, else every core."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdigit() and int(said) else os.cpu_count() or 1
