"""The call of one case of the bench: what an API is fed, in its own layout, and what is made before it is timed."""

from __future__ import annotations

import functools
import gc
import inspect
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attncheck.backends.interface import Ask
from attncheck.backends.masks import Biased, Drawn
from attncheck.probe.kernels.sparse import declared
from attncheck.probe.kernels.subject import Inexpressible, Subject
from attncheck.probe.reading.kernel import Call
from attncheck.semantics.spec import FULL, Window
from attncheck.semantics.timing import BenchCase
from attncheck.semantics.tolerances import RAISED
from attncheck.semantics.workload import lengths

#: Bytes of device memory that a process may keep between cases.
KEPT = 1 << 30
#: Layout of APIs that take sequences one after another, with their ends in `bounds`.
PACKED = "thd"


def inputs(tested: Subject, case: BenchCase) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of random numbers: batch x heads x tokens x width views of memory in the API's own layout.

    Of an API for packed sequences, padded rows come without their padding, all in one row of the batch. Scaled logits
    are near N(0, 1); with a softcap each is raised by 16, which softmax cannot see but the cap can.
    """
    scale = case.head_dim**-0.5 if case.scale is None else case.scale
    size = math.sqrt(1 / (abs(scale) * math.sqrt(case.head_dim)))
    generator = torch.Generator(tested.device).manual_seed(tested.seed)
    batch, q_len, kv_len = case.batch, case.q_len, case.kv_len
    if tested.api.layout == PACKED and case.phase == "prefill":
        batch, q_len = 1, sum(lengths(case))
        kv_len = q_len

    def normal(heads: int, tokens: int, width: int, factor: float = 1.0) -> Tensor:
        inner = (heads, tokens) if tested.api.layout == "bhsd" else (tokens, heads)
        made = torch.randn((batch, *inner, width), generator=generator, device=tested.device, dtype=tested.dtype)
        made = made.mul_(factor) if factor != 1 else made
        return made if tested.api.layout == "bhsd" else made.transpose(1, 2)

    query = normal(case.num_heads, q_len, case.head_dim, size)
    key = normal(case.num_kv_heads, kv_len, case.head_dim, size)
    if case.softcap is not None:
        query[..., 0] = 4.0
        key[..., 0] = RAISED / (scale * 4.0)
    return query, key, normal(case.num_kv_heads, kv_len, case.head_dim_v)


def call(tested: Subject, case: BenchCase, given: tuple[Tensor, Tensor, Tensor]) -> Call:
    """The API bound to its own words for the case; masks are drawn and sequence ends laid down here, before any timing.

    Raises Inexpressible where the API has no words for it: a mask of padding or documents for one that takes no mask, a
    softcap, sinks, or ALiBi slopes.
    """
    query, key, _ = given
    packed = tested.api.layout == PACKED
    ask = Ask(
        window=asked_window(case),
        scale=case.scale,
        softcap=case.softcap,
        sinks=sinks(tested, case) if case.sinks else None,
        slopes=slopes(tested, case) if case.alibi else None,
        mask=None if packed or not needs_mask(case) else mask(case, tested.device),
    )
    try:
        arguments = dict(tested.arguments(ask, case.q_len, case.kv_len))
    except Inexpressible as error:
        what = f"{case.inputs} inputs: " if case.inputs != "plain" else ""
        raise Inexpressible(f"{what}{error}") from None
    for name, value in arguments.items():
        if isinstance(value, Drawn | Biased):
            arguments[name] = value(query, key)
    if packed:
        arguments["bounds"] = bounds(case, tested.device)
    return tested.bound(arguments)


def held(device: str) -> int | None:
    """Bytes that the device holds, without what earlier calls left in reference cycles; None on a CPU.

    cuDNN's graphs are such cycles: freed in the middle of a measurement, their outputs would count as negative memory.
    """
    if device != "cuda":
        return None
    gc.collect()
    return int(torch.cuda.memory_allocated())


def settle(subject: str, device: str) -> None:
    """Take all that the process holds now out of the collections of `held`, once a subject: with the libraries of a few
    kernels imported, each would walk through it for 40 ms. To be called before a case has made anything that must be
    freed.
    """
    if device == "cuda":
        _settled(subject)


@functools.lru_cache(maxsize=1)
def _settled(subject: str) -> None:
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def release(device: str) -> None:
    """Give memory back to other processes where this one keeps much of it; asking for it again costs time."""
    if device == "cuda" and torch.cuda.memory_reserved() > KEPT:
        torch.cuda.empty_cache()


def repeated(call: Call) -> Call | None:
    """The same with kv heads repeated before the call, as transformers does where SDPA takes no grouped heads; None for
    an API without such a switch.
    """
    attend, arguments = getattr(call, "func", None), getattr(call, "keywords", {})
    if attend is None or "enable_gqa" not in _parameters(attend):
        return None
    return functools.partial(attend, **{**arguments, "enable_gqa": False})


def asked_window(case: BenchCase) -> Window:
    """What to ask of a kernel: a lone newest query has no future to hide, only a window can cut its past."""
    if case.phase != "decode" or case.q_len != 1:
        return case.window
    left = case.window.left
    return FULL if left is None or left >= case.kv_len - 1 else Window(left, 0)


def needs_mask(case: BenchCase) -> bool:
    """True where a window alone does not say who sees whom."""
    return case.phase == "prefill" and (case.inputs != "plain" or case.chunk is not None)


def mask(case: BenchCase, device: str) -> Tensor:
    """True = visible: batch (1 where all rows are alike) x 1 x queries x keys.

    Rows of padding see what a causal mask shows them of the real tokens before; they are nobody's output.
    """
    places = torch.arange(case.kv_len, device=device, dtype=torch.int32)
    keep = declared(case.shape, places[case.kv_len - case.q_len :], places)[None, None]
    if case.inputs == "packed":
        owner = documents(case, device)
        return keep & (owner[:, None] == owner[None, :])[None, None]
    if case.inputs == "padded":
        real = replace(case, chunk=None)
        ends = torch.tensor(lengths(real), device=device, dtype=torch.int32)
        return keep & (places[None, :] < ends[:, None])[:, None, None, :]
    return keep


def documents(case: BenchCase, device: str) -> Tensor:
    """The number of the document that each token of one packed row belongs to."""
    rows = lengths(replace(case, chunk=None, batch=1))
    return torch.repeat_interleave(torch.arange(len(rows), device=device), torch.tensor(rows, device=device))


def bounds(case: BenchCase, device: str) -> tuple[tuple[Tensor, int], tuple[Tensor, int]]:
    """Ends of the sequences and the longest one, of queries and of keys."""
    if case.phase == "decode":
        rows = torch.arange(case.batch + 1, dtype=torch.int32, device=device)
        return (rows * case.q_len, case.q_len), (rows * case.kv_len, case.kv_len)
    parts = lengths(case)
    ends = torch.tensor((0, *parts), device=device).cumsum(0).to(torch.int32)
    return (ends, max(parts)), (ends, max(parts))


def sinks(tested: Subject, case: BenchCase) -> Tensor:
    """One random logit a query head."""
    generator = torch.Generator(tested.device).manual_seed(tested.seed + 1)
    return torch.randn(case.num_heads, generator=generator, device=tested.device, dtype=tested.dtype)


def slopes(tested: Subject, case: BenchCase) -> Tensor:
    """2^(-8 h / heads) for h = 1 .. heads (Press et al. 2021, for powers of two), float32."""
    steps = torch.arange(1, case.num_heads + 1, device=tested.device, dtype=torch.float32)
    return torch.exp2(-8.0 * steps / case.num_heads)


def _parameters(attend: Any) -> Mapping[str, Any]:
    try:
        return inspect.signature(attend).parameters
    except (TypeError, ValueError):
        return {}
