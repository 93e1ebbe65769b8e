"""The times of `attncheck bench` beside those of triton.testing.do_bench and of torch's profiler, on a GPU.

Start: `python -m tests.benchmarks.bench_agreement` from the repository root. Prints one line a case of at least 0.2 ms:
our median, do_bench's median, the summed time of the launched kernels (the three take turns), both ratios; then the
largest deviation. A case in which do_bench is off itself by more than 3 % from round to round (the GPU is at its power
limit) is shown and not judged. Exits with 1 when fewer than 20 cases are left or one of them is off by more than 3 %.
"""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

#: Shortest call that is compared, in seconds; largest deviation allowed; cases wanted.
SHORTEST, ALLOWED, WANTED = 2e-4, 0.03, 20
#: Rounds of the three ways to measure.
ROUNDS = 3
#: Seconds under load before each measurement.
HEAT = 0.1
#: In the name of the kernel that fills 32-bit integers, which attention does not launch.
FLUSH = "FillFunctor<int>"
KERNELS = ("flash-attn-2", "flash-attn-4", "sdpa-flash", "sdpa-cudnn", "sdpa-efficient", "cudnn-graph", "varlen_attn")


def calls() -> Iterator[tuple[str, Callable[[], object]]]:
    """(words, call) of each case: 16k tokens, heads x head_dim = 2048, bfloat16."""
    import torch

    from attncheck.bench import grid, subjects
    from attncheck.bench.session import described
    from attncheck.environment import read_environment
    from attncheck.probe.kernels import bench, bench_calls
    from attncheck.probe.kernels.subject import subject
    from attncheck.semantics.workload import cells

    apis, environment = subjects.table(), read_environment()
    attentions = tuple(
        grid.plain_attention(2048 // width, width, mask, "bfloat16")
        for width in (64, 128)
        for mask in ("causal", "full")
    )
    made = grid.Grid(attentions, (8192,), passes=("forward", "backward"), tokens=grid.TOKENS)
    for name in KERNELS:
        if reason := subjects.lacks(name, apis, environment, "cuda", "bfloat16"):
            print(f"{name}: not run: {reason}", file=sys.stderr)
            continue
        tested = subject(name, {"device": "cuda", "dtype": "bfloat16", "plugins": subjects.PLUGINS})
        for case, _ in grid.cases(made, "kernel", name):
            case = replace(case, cells=cells(case))
            given = bench_calls.inputs(tested, case)
            upstream = torch.randn_like(given[0]) if case.backward else None
            try:
                call = bench.repetition(bench_calls.call(tested, case, given), given, upstream)
                call()
                torch.cuda.synchronize()
            except Exception as error:  # whatever a library refuses is no case to compare
                print(f"{described(case)}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            yield f"{described(case)}, head_dim {case.head_dim}", call
            del given, upstream, call
            torch.cuda.empty_cache()


def heated(call: Callable[[], object], count: int) -> None:
    """Bring the GPU to the clock that it keeps under this load, whatever it did before."""
    for _ in range(count):
        call()


def profiled(call: Callable[[], object], heat: int, count: int) -> float:
    """Median over `count` calls of the summed seconds of the CUDA kernels that each launches, the L2 flushed before.

    heat: calls before those; the profiler's own start is a pause.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    from attncheck.probe.timing import FLUSHED_BYTES

    flushed = torch.empty(FLUSHED_BYTES // 4, dtype=torch.int32, device="cuda")
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        heated(call, heat)
        for _ in range(count):
            flushed.fill_(1)
            call()
        torch.cuda.synchronize()
    events = [event for event in seen.events() or () if str(event.device_type).endswith("CUDA")]
    sums: list[float] = []
    for event in sorted(events, key=lambda event: float(event.time_range.start)):
        if FLUSH in event.name:
            sums.append(0.0)
        elif sums:
            sums[-1] += float(event.device_time) / 1e6
    return statistics.median(sums)


def measured(call: Callable[[], object]) -> tuple[float, float, float, float]:
    """(ours, do_bench's, the profiler's) seconds of one call: medians over rounds, each in another order.

    The last number is how far do_bench is from itself: its largest round by its smallest, minus one.

    A GPU at its power limit changes its clock within tenths of a second: the three take turns, each for as long as the
    others and each after the same time under load.
    """
    from triton.testing import do_bench

    from attncheck.probe import timing

    budget = timing.Budget()
    once = timing.measure(call, "cuda").median
    heat, count = max(1, int(HEAT / once)), budget.repetitions(once)
    warm_up, repeat = budget.warm_up * 1e3, budget.repeat * 1e3

    def ours() -> float:
        heated(call, heat)
        return timing.measure(call, "cuda").median

    def theirs() -> float:
        heated(call, heat)
        return float(do_bench(call, warmup=warm_up, rep=repeat, return_mode="median")) / 1e3

    ways: list[Callable[[], float]] = [ours, theirs, lambda: profiled(call, heat, count)]
    found: list[list[float]] = [[], [], []]
    for turn in range(ROUNDS):
        for place in range(3):
            way = (turn + place) % 3
            found[way].append(ways[way]())
    medians = [statistics.median(times) for times in found]
    return medians[0], medians[1], medians[2], max(found[1]) / min(found[1]) - 1


def main() -> int:
    """Print the table; 0 where everything agrees."""
    import torch

    if not torch.cuda.is_available():
        print("this needs a CUDA device", file=sys.stderr)
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; milliseconds")
    columns = ("ours", "do_bench", "profiler", "/do_bench", "/profiler")
    print(f"{'case':64} {' '.join(f'{name:>9}' for name in columns)}  do_bench by itself")
    off: list[float] = []
    unsteady = 0
    for words, call in calls():
        gc.collect()
        gc.freeze()  # as the bench does: a collection in the middle would let the GPU cool down
        ours, theirs, summed, spread = measured(call)
        if ours < SHORTEST:
            continue
        if spread > ALLOWED:
            unsteady += 1
        else:
            off += [abs(ours / theirs - 1), abs(ours / summed - 1)]
        ratios = f"{ours / theirs:9.3f} {ours / summed:9.3f}"
        times = " ".join(f"{seconds * 1e3:9.4f}" for seconds in (ours, theirs, summed))
        print(f"{words:64} {times} {ratios}  {spread:.1%}{' unsteady' if spread > ALLOWED else ''}", flush=True)
    worst, steady = max(off, default=0.0), len(off) // 2
    print(f"{steady} steady cases, largest deviation {worst:.1%} (allowed {ALLOWED:.0%}); {unsteady} unsteady ones")
    return 0 if steady >= WANTED and worst <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
