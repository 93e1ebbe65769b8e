"""Times one API at one case: prefill or decode, forward or forward and backward, with memory and first call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from attncheck.probe import timing
from attncheck.probe.baselines import SDPA
from attncheck.probe.kernels.bench_calls import call, held, inputs, release, settle
from attncheck.probe.kernels.bench_check import with_repeats
from attncheck.probe.kernels.interface import KernelJob
from attncheck.probe.kernels.subject import Inexpressible, NoBackward, Refused, Subject, refusals, subject
from attncheck.probe.reading.kernel import Call
from attncheck.probe.refusal import memory_words, out_of_memory
from attncheck.semantics.convention import Outcome
from attncheck.semantics.timing import LAUNCH_BOUND, BenchCase, BenchCell

REPEATED = "kv heads repeated before the call: grouped ones are refused"


def run(step: str, arguments: Mapping[str, Any]) -> tuple[BenchCell, float]:
    """(what came of the case, seconds spent in its calls: first one, warm-up and repetitions).

    arguments: device, dtype, seed and plugins as of `subject`; cases: step -> `BenchCase`. Refusals and exhausted
    memory are outcomes; whatever else the library raises is let through.
    """
    case: BenchCase = arguments["cases"][step]
    tested = subject(case.subject, {**arguments, "dtype": case.dtype})
    settle(case.subject, tested.device)
    started = time.perf_counter()
    told = ""
    try:
        with refusals():
            return _timed(tested, case)
    except (Inexpressible, Refused) as error:
        return BenchCell(case, Outcome.REFUSED, detail=str(error)), time.perf_counter() - started
    except Exception as error:
        if not out_of_memory(error):
            raise
        told = f"out of memory: {memory_words(error)}"
    finally:
        release(tested.device)
    return BenchCell(case, Outcome.CRASHED, detail=told), time.perf_counter() - started


def _timed(tested: Subject, case: BenchCase) -> tuple[BenchCell, float]:
    given = inputs(tested, case)
    upstream = None
    if case.backward:
        shape = (*given[0].shape[:3], case.head_dim_v)
        upstream = torch.randn(shape, device=tested.device, dtype=tested.dtype)
    before_calls = held(tested.device)
    bound = call(tested, case, given)
    started = time.perf_counter()
    chosen = bound
    if given[0].shape[1] != given[1].shape[1]:
        chosen, _ = with_repeats(bound, given)
    before = time.perf_counter() - started
    found = timing.measure(repetition(chosen, given, upstream), tested.device, held=before_calls)
    remarks = [REPEATED] if chosen is not bound else []
    if found.launch_bound:
        remarks.append(LAUNCH_BOUND)
    cell = cell_of(case, found, kernel=picked(tested, case, chosen, given), detail="; ".join(remarks), before=before)
    return cell, found.spent + before


def repetition(bound: Call, given: tuple[Tensor, ...], upstream: Tensor | None) -> Callable[[], object]:
    """What is repeated: the forward without a graph, or forward and backward to all inputs."""
    if upstream is None:

        def forward() -> object:
            with torch.no_grad():
                return bound(*given)

        return forward
    leaves = [tensor.detach().requires_grad_() for tensor in given]

    def both() -> object:
        with torch.enable_grad():
            output = bound(*leaves)
            if not output.requires_grad:
                raise NoBackward
            return torch.autograd.grad(output, leaves, upstream)

    return both


def cell_of(
    case: BenchCase, found: timing.Times, *, kernel: str = "", detail: str = "", before: float = 0.0
) -> BenchCell:
    """The cell of a measurement. before: seconds of calls that already compiled what the first call needed."""
    return BenchCell(
        case,
        Outcome.READ,
        median=found.median,
        p20=found.p20,
        p80=found.p80,
        n=found.n,
        first_call=found.first_call + before,
        peak_memory=found.peak,
        tflops=case.flops / found.median / 1e12 if case.cells and found.median else None,
        drift=found.drift,
        detail=detail,
        kernel=kernel,
        launch_bound=found.launch_bound,
    )


def picked(tested: Subject, case: BenchCase, chosen: Call, given: tuple[Tensor, Tensor, Tensor]) -> str:
    """The kernel that torch's dispatch takes for SDPA ("flash", "efficient", "cudnn", "math"); "" for other APIs."""
    if case.subject != SDPA:
        return ""
    arguments = getattr(chosen, "keywords", {})
    query, key, value = given
    groups = query.shape[1] // key.shape[1]
    known = {name: arguments[name] for name in ("attn_mask", "is_causal", "scale") if arguments.get(name) is not None}
    if groups > 1 and arguments.get("enable_gqa") is False:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    elif groups > 1:
        known["enable_gqa"] = True
    if case.backward:
        query, key, value = (tensor.detach().requires_grad_() for tensor in (query, key, value))
    return sdpa_kernel(query, key, value, **known)


def sdpa_kernel(*tensors: Tensor, **arguments: Any) -> str:
    """The kernel that torch would take for this call of scaled_dot_product_attention, "" where it does not say."""
    from torch.nn.attention import SDPBackend

    with suppress(Exception):  # a private function of torch: where it changed, nobody knows
        number = torch._fused_sdp_choice(*tensors, **arguments)
        made: Callable[[int], Any] = SDPBackend
        return str(made(number)).rpartition(".")[2].lower().removesuffix("_attention")
    return ""


JOB = KernelJob("bench", run)
