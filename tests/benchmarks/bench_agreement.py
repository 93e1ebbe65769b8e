"""The times of `attncheck bench` beside those of triton.testing.do_bench and of torch's profiler, on a GPU.

Start: `python -m tests.benchmarks.bench_agreement` from the repository root. Prints one line a case of at least 0.2 ms:
our median, do_bench's median, the summed time of the launched kernels (the three take turns), both ratios, and how
far the middle half of the rounds' ratios is spread; then the largest deviation. A case whose ratios are spread by more
than 3 % (the GPU is at its power limit and changes its clock from one measurement to the next) is shown and not judged.
Exits with 1 when fewer than 20 cases are left or one of them is off by more than 3 %.
"""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

#: Shortest call that is compared, in seconds; largest deviation allowed; cases wanted.
SHORTEST, ALLOWED, WANTED = 2e-4, 0.03, 20
#: Rounds of the three ways to measure.
ROUNDS = 5
#: Seconds under load before each measurement.
HEAT = 0.1
#: In the name of the kernel that fills 32-bit integers, which attention does not launch.
FLUSH = "FillFunctor<int>"
KERNELS = ("flash-attn-2", "flash-attn-4", "sdpa-flash", "sdpa-cudnn", "sdpa-efficient", "cudnn-graph", "varlen_attn")


def calls() -> Iterator[tuple[str, Callable[[], object]]]:
    """(words, call) of each case in bfloat16 with 16 heads of 128: the fused kernels on 16k tokens, which draw the most
    power; eager on 2k; and decoding 8 rows of 16k and 32k keys, which is bound by memory.
    """
    import torch

    from attncheck.bench import grid, subjects
    from attncheck.bench.session import described
    from attncheck.environment import read_environment
    from attncheck.probe.kernels import bench, bench_calls
    from attncheck.probe.kernels.subject import subject
    from attncheck.semantics.workload import cells

    apis, environment = subjects.table(), read_environment()
    causal, full = (grid.plain_attention(16, 128, mask, "bfloat16") for mask in ("causal", "full"))
    prefill = grid.Grid((causal, full), (8192,), tokens=grid.TOKENS)
    short = grid.Grid((causal, full), (2048,))
    decode = grid.Grid((causal,), (16384, 32768), phases=("decode",), batch=8)
    wanted = (("eager", short), *((name, made) for made in (decode, prefill) for name in KERNELS))
    for name, made in wanted:
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
            yield described(case), call
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


def measured(call: Callable[[], object]) -> list[list[float]]:
    """Seconds of one call in each round, by ours, by do_bench and by the profiler.

    A GPU at its power limit changes its clock within tenths of a second: the three take turns, each round in another
    order, each for as long as the others and each after the same time under load.
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
    return found


def compared(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """(median, distance of the quartiles) of the rounds' ratios: what one round has in common cancels."""
    ratios = [own / other for own, other in zip(ours, theirs, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return statistics.median(ratios), high - low


def main() -> int:
    """Print the table; 0 where everything agrees."""
    import torch

    if not torch.cuda.is_available():
        print("this needs a CUDA device", file=sys.stderr)
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; milliseconds")
    columns = ("ours", "do_bench", "profiler", "/do_bench", "/profiler", "spread")
    print(f"{'case':52} {' '.join(f'{name:>9}' for name in columns)}")
    off: list[float] = []
    unsteady = 0
    for words, call in calls():
        gc.collect()
        gc.freeze()  # as the bench does: a collection in the middle would let the GPU cool down
        found = measured(call)
        medians = [statistics.median(times) for times in found]
        if medians[0] < SHORTEST:
            continue
        ratios, spreads = zip(*(compared(found[0], others) for others in found[1:]), strict=True)
        steady = max(spreads) <= ALLOWED
        unsteady += not steady
        off += [abs(ratio - 1) for ratio in ratios if steady]
        times = " ".join(f"{seconds * 1e3:9.4f}" for seconds in medians)
        said = " ".join(f"{ratio:9.3f}" for ratio in ratios)
        print(f"{words:52} {times} {said} {max(spreads):9.1%}{'' if steady else ' unsteady'}", flush=True)
    worst, judged = max(off, default=0.0), len(off) // 2
    print(f"{judged} steady cases, largest deviation {worst:.1%} (allowed {ALLOWED:.0%}); {unsteady} unsteady ones")
    return 0 if judged >= WANTED and worst <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
