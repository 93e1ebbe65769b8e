"""Before a kernel is timed: is it right at these sizes? A short call against float64 attention."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.kernels import rows, sparse
from attncheck.probe.kernels.accuracy import plain
from attncheck.probe.kernels.bench_calls import (
    PACKED,
    asked_window,
    call,
    inputs,
    mask,
    release,
    repeated,
)
from attncheck.probe.kernels.bench_calls import sinks as sink_logits
from attncheck.probe.kernels.bench_calls import slopes as head_slopes
from attncheck.probe.kernels.interface import KernelJob
from attncheck.probe.kernels.subject import Inexpressible, NoBackward, Refused, Subject, refusals, subject
from attncheck.probe.reading import gradients
from attncheck.probe.reading.kernel import Call
from attncheck.probe.reading.reference import Terms, attention
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis, Reason
from attncheck.semantics.shape import Errors, Shape, ShapeReading
from attncheck.semantics.timing import BenchCase
from attncheck.semantics.workload import lengths

#: Queries that are compared with float64 where all would not fit; cells of all heads that do: 256 MiB in float64.
ROWS, DENSE_CELLS = 16, 1 << 25


def run(step: str, arguments: Mapping[str, Any]) -> tuple[ShapeReading, float]:
    """(what was read, seconds that loading the library and its first call took).

    arguments: device, dtype, seed and plugins as of `subject`; cases: step -> (`BenchCase` at the length of the check,
    whose subject is the API). A refusal is an outcome of the reading; whatever else the library raises is let through.
    """
    case: BenchCase = arguments["cases"][step]
    started = time.perf_counter()
    tested = subject(case.subject, {**arguments, "dtype": case.dtype})
    loaded = time.perf_counter() - started
    try:
        with refusals():
            first, reading = _checked(tested, case)
    except (Inexpressible, Refused) as error:
        return _refused(tested, case, str(error)), loaded
    finally:
        release(tested.device)
    return reading, loaded + first


def _refused(tested: Subject, case: BenchCase, why: str) -> ShapeReading:
    reason = Reason(why, source=tested.api.call)
    return ShapeReading(
        tested.api.name,
        case.shape,
        Outcome.REFUSED,
        Basis.MEASURED,
        reasons=(reason,),
        q_len=case.q_len,
        kv_len=case.kv_len,
    )


def _checked(tested: Subject, case: BenchCase) -> tuple[float, ShapeReading]:
    given = inputs(tested, case)
    bound = call(tested, case, given)
    started = time.perf_counter()
    bound, output = with_repeats(bound, given)
    if case.backward:
        _backward_once(bound, given)
    if tested.device == "cuda":
        torch.cuda.synchronize()
    first = time.perf_counter() - started
    _require_shape(output, case, given)
    dense = case.inputs != "plain" or case.chunk is not None
    reading = _whole(tested, case, bound, given) if dense else _plain(tested, case, bound, given)
    return first, reading


def _backward_once(bound: Call, given: tuple[Tensor, Tensor, Tensor]) -> None:
    """The first backward loads or compiles a kernel of its own."""
    leaves = [tensor.detach().requires_grad_() for tensor in given]
    with torch.enable_grad():
        output = bound(*leaves)
        if not output.requires_grad:
            raise NoBackward
        torch.autograd.grad(output, leaves, torch.zeros_like(output))


def with_repeats(bound: Call, given: tuple[Tensor, Tensor, Tensor]) -> tuple[Call, Tensor]:
    """The call that works, and its output: with grouped heads, or with kv heads repeated where those are refused."""
    query, key, value = given
    try:
        with refusals(), torch.no_grad():
            return bound, bound(query, key, value)
    except Refused:
        other = repeated(bound) if query.shape[1] != key.shape[1] else None
        if other is None:
            raise
    with torch.no_grad():
        return other, other(query, key, value)


def _plain(tested: Subject, case: BenchCase, bound: Call, given: tuple[Tensor, Tensor, Tensor]) -> ShapeReading:
    """A plain call of one row: who sees the chosen keys, and numbers and gradients of all queries or of chosen ones."""
    shape = replace(case.shape, window=asked_window(case)) if case.phase == "decode" else case.shape
    query, key, value = given
    columns = sparse.plan(shape, case.kv_len)
    wrong, heads = None, None
    nan: tuple[str, ...] = ()
    if not case.alibi:  # its slopes drive the weight of old keys to 0
        with torch.no_grad():
            seen = bound(torch.zeros_like(query), torch.zeros_like(key), sparse.marked_values(value, columns))
        nan = () if bool(seen.isfinite().all()) else ("output",)
        wrong = None if nan else sparse.wrong_cells(seen, columns, shape, case.kv_len)
        heads = None if nan or (wrong is not None and wrong.nothing) else sparse.head_map(seen, columns, shape)
    small = case.num_heads * case.q_len * case.kv_len <= DENSE_CELLS
    numbers = _whole(tested, case, bound, given) if small else _of_rows(tested, case, shape, bound, given)
    return replace(
        numbers, shape=shape, wrong=wrong, head_map=heads, nan=tuple(dict.fromkeys((*nan, *numbers.nan))), detail=""
    )


def _of_rows(
    tested: Subject, case: BenchCase, shape: Shape, bound: Call, given: tuple[Tensor, Tensor, Tensor]
) -> ShapeReading:
    """Numbers and gradients of chosen queries, one kv head after another: memory O(tokens)."""
    query, key, value = given
    places = torch.tensor(sparse.interesting_rows(shape, case.q_len, case.kv_len, ROWS), device=query.device)
    keys = torch.arange(case.kv_len, device=query.device)
    bias = None
    if case.alibi:
        distance = (places[:, None] - keys[None, :]).abs().double()
        bias = -head_slopes(tested, case).double().view(1, -1, 1, 1) * distance
    generator = torch.Generator(tested.device).manual_seed(tested.seed + 2)
    upstream = torch.randn(
        (1, case.num_heads, len(places), case.head_dim_v),
        generator=generator,
        device=tested.device,
        dtype=tested.dtype,
    )
    chosen = rows.Chosen(
        places - (case.kv_len - case.q_len), sparse.declared(shape, places, keys), upstream, _terms(tested, case, bias)
    )
    measured = _measured(bound, given, chosen, case.backward)
    kernel, usual = rows.errors(query, key, value, chosen, measured)
    found = {"output": measured.output, "dq": measured.dq, "dk": measured.dk, "dv": measured.dv}
    broken = [name for name, tensor in found.items() if tensor is not None and not bool(tensor.isfinite().all())]
    return ShapeReading(
        tested.api.name,
        shape,
        Outcome.READ,
        Basis.MEASURED,
        q_len=case.q_len,
        kv_len=case.kv_len,
        nan=tuple(broken),
        kernel=kernel,
        plain=usual,
        backward=Outcome.READ if case.backward else Outcome.NOT_RUN,
    )


def _measured(bound: Call, given: tuple[Tensor, Tensor, Tensor], chosen: rows.Chosen, backward: bool) -> rows.Measured:
    if not backward:
        with torch.no_grad():
            return rows.Measured(bound(*given))
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in given]
        output = bound(*leaves)
        if not output.requires_grad:
            raise NoBackward
        upstream = torch.zeros_like(output)
        upstream[:, :, chosen.rows] = chosen.upstream
        found = torch.autograd.grad(output, leaves, upstream)
    return rows.Measured(output.detach(), *found)


def _whole(tested: Subject, case: BenchCase, bound: Call, given: tuple[Tensor, Tensor, Tensor]) -> ShapeReading:
    """Numbers and gradients of every query that is no padding, against a dense reference."""
    query, key, value = given
    keep, real = _dense(tested, case)
    bias = None
    if case.alibi:
        places = torch.arange(key.shape[2], device=query.device, dtype=torch.float64)
        distance = (places[-query.shape[2] :, None] - places[None, :]).abs()
        bias = -head_slopes(tested, case).double().view(1, -1, 1, 1) * distance
    terms = _terms(tested, case, bias)
    with torch.no_grad():
        exact = attention(query, key, value, keep, terms)
        output, usual = bound(query, key, value), plain(query, key, value, keep, terms)
    chosen = real[:, None, :].expand(output.shape[:3])
    kernel, reference = Errors(_off(output, exact, chosen)), Errors(_off(usual, exact, chosen))
    if case.backward:
        kernel = _with_gradients(kernel, _differentiable(bound), tested, given, keep, real, terms)
        reference = _with_gradients(
            reference, lambda q, k, v: plain(q, k, v, keep, terms), tested, given, keep, real, terms
        )
    nan = () if bool(output[chosen].isfinite().all()) else ("output",)
    return ShapeReading(
        tested.api.name,
        case.shape,
        Outcome.READ,
        Basis.MEASURED,
        q_len=case.q_len,
        kv_len=case.kv_len,
        nan=nan,
        kernel=kernel,
        plain=reference,
        backward=Outcome.READ if case.backward else Outcome.NOT_RUN,
        detail=f"{case.inputs} inputs at {case.kv_len} tokens",
    )


def _with_gradients(
    errors: Errors,
    computed: Call,
    tested: Subject,
    given: tuple[Tensor, Tensor, Tensor],
    keep: Tensor,
    real: Tensor,
    terms: Terms,
) -> Errors:
    found = gradients.compare(computed, *given, keep, real, terms, tested.seed)
    return replace(errors, dq=found.dq, dk=found.dk, dv=found.dv)


def _differentiable(bound: Call) -> Call:
    """The call, raising NoBackward where its output carries no gradient."""

    def checked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = bound(query, key, value)
        if not output.requires_grad:
            raise NoBackward
        return output

    return checked


def _dense(tested: Subject, case: BenchCase) -> tuple[Tensor, Tensor]:
    """(True = visible, batch x 1 x queries x keys; batch x queries that are no padding), as `inputs` lays them out."""
    if tested.api.layout != PACKED or case.phase == "decode":
        keep = mask(case, tested.device)
        ends = torch.tensor(lengths(replace(case, chunk=None)), device=tested.device)
        tokens = torch.arange(case.q_len, device=tested.device)
        if case.inputs == "padded":
            return keep, tokens[None, :] < ends[:, None]
        return keep, torch.ones((case.batch, case.q_len), dtype=torch.bool, device=tested.device)
    parts = lengths(case)
    owner = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor(parts)).to(tested.device)
    places = torch.arange(len(owner), device=tested.device)
    keep = sparse.declared(replace(case.shape, chunk=None), places, places) & (owner[:, None] == owner[None, :])
    return keep[None, None], torch.ones((1, len(owner)), dtype=torch.bool, device=tested.device)


def _off(output: Tensor, exact: Tensor, chosen: Tensor) -> float:
    """The largest distance of a row from the exact one, relative to that row's norm."""
    wrong, size = (output.double() - exact).norm(dim=-1)[chosen], exact.norm(dim=-1)[chosen]
    if not bool(wrong.isfinite().all()):
        return float("nan")
    return float((wrong / size.clamp_min(1e-3 * float(size.max()))).max())


def _terms(tested: Subject, case: BenchCase, bias: Tensor | None) -> Terms:
    scale = case.head_dim**-0.5 if case.scale is None else case.scale
    return Terms(scale, case.softcap, bias, sink_logits(tested, case) if case.sinks else None)


def _require_shape(output: Tensor, case: BenchCase, given: tuple[Tensor, Tensor, Tensor]) -> None:
    wanted = (*given[0].shape[:3], case.head_dim_v)
    if tuple(output.shape) != wanted:
        raise ValueError(f"{case.subject} gave an output of {tuple(output.shape)}, expected {wanted}")


JOB = KernelJob("bench-check", run)
