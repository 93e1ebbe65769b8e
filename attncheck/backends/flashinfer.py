"""flashinfer: what its prefill kernel needs, how it is called, and how its users write a window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Limit, Spelling, Usable, judge
from attncheck.backends.limits import (
    capability,
    half_precision,
    heads_divide,
    is_installed,
    no_argument,
    nvidia_gpu,
    on_every_gpu,
    widths,
)
from attncheck.backends.spelling import bottom_right_only, lacking, rows_first
from attncheck.environment import Environment
from attncheck.semantics.observation import Reason, Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window

PACKAGE = "flashinfer-python"
FUNCTION = "single_prefill_with_kv_cache"
_DOCSTRING = f"flashinfer 0.7.2 prefill.py, {FUNCTION}"
_KERNEL = "flashinfer 0.7.2 attention/prefill.cuh"


#: Head sizes for which the Hopper kernel is picked on compute capability 9.0 (`is_fa3_prefill_head_dim_supported`).
_HOPPER_WIDTHS = (64, 128, 256, None)


def _more_queries(environment: Environment, call: Call) -> str | None:
    """The general kernel checks for this; the Hopper kernel does not, so what it does there is left to the reading."""
    if not call.causal or call.q_len is None or call.kv_len is None or call.q_len <= call.kv_len:
        return None
    general = call.head_dim not in _HOPPER_WIDTHS or on_every_gpu(environment, lambda found: found[0] != 9) is not None
    return f"{call.q_len} queries, {call.kv_len} keys" if general else None


LIMITS = (
    is_installed(PACKAGE),
    *nvidia_gpu(PACKAGE),
    capability((7, 5), "flashinfer 0.7.2 jit/core.py"),
    half_precision(_KERNEL),
    widths(64, 512, 16, f"{_KERNEL}, KernelTraits::IsInvalid"),
    heads_divide(_DOCSTRING),
    Limit("causal attention needs a key for every query", "kv_len >= q_len", _KERNEL, _more_queries),
    Limit(
        "there is no backward pass",
        "forward only",
        "flashinfer 0.7.2 README: kernels for inference",
        lambda _, call: "gradients wanted" if call.backward else None,
    ),
    *no_argument(PACKAGE, _DOCSTRING, "sinks", "alibi", "dropout"),
)


def decide(_: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable when no limit is broken; its kernels are compiled at the first call."""
    if reasons := judge(LIMITS, environment, call):
        return Rejected(reasons)
    return Usable((PACKAGE,), "compiles its kernels at the first call: needs nvcc and ninja, and takes minutes")


def spell(ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """Arguments causal and window_left, or custom_mask; sm_scale and logits_soft_cap where `Ask` sets them."""
    reasons = (
        *lacking(ask, FUNCTION, _DOCSTRING, "sinks", "slopes", "dropout"),
        *bottom_right_only(ask, q_len, kv_len, FUNCTION, _DOCSTRING),
        *_unspeakable(ask),
    )
    if reasons:
        return Rejected(reasons)
    arguments: dict[str, Any] = {}
    if ask.mask is not None:
        arguments["custom_mask"] = ask.mask
    else:
        arguments["causal"] = ask.window.causal
        arguments["window_left"] = -1 if ask.window.left is None else ask.window.left
    if ask.scale is not None:
        arguments["sm_scale"] = ask.scale
    if ask.softcap is not None:
        arguments["logits_soft_cap"] = ask.softcap
    return arguments


def _unspeakable(ask: Ask) -> tuple[Reason, ...]:
    if ask.mask is None:
        if ask.window.right in (None, 0):
            return ()
        actual = f"{ask.window.right} keys ahead"
        return (Reason(f"{FUNCTION} has no right window", "a right side of 0 or unbounded", actual, _DOCSTRING),)
    if ask.mask.dtype.is_floating_point:
        return (Reason("custom_mask is boolean", "a bool mask", "an additive mask", _DOCSTRING),)
    if ask.mask.dim() == 4 and ask.mask.shape[1] != 1:
        actual = f"{ask.mask.shape[1]} masks"
        return (Reason("custom_mask is shared by all heads", "one mask for all heads", actual, _DOCSTRING),)
    return ()


def load() -> Attend:
    """`flashinfer.single_prefill_with_kv_cache`, once a batch row, over batch x heads x tokens x width tensors."""
    from flashinfer import single_prefill_with_kv_cache

    def attend(q: Any, k: Any, v: Any, custom_mask: Any = None, **arguments: Any) -> Any:
        import torch

        rows = []
        for row in range(q.shape[0]):
            if custom_mask is not None:
                # The mask broadcasts to batch x heads x queries x keys; the kernel wants queries x keys.
                whole = custom_mask.expand(q.shape[0], 1, q.shape[2], k.shape[2])
                arguments["custom_mask"] = whole[row, 0].contiguous()
            query, key, value = (tensor[row].transpose(0, 1) for tensor in (q, k, v))
            rows.append(single_prefill_with_kv_cache(query, key, value, **arguments))
        return rows_first(torch.stack(rows))

    return attend


def _row(
    question: str, causal: bool, left: int | None, promise: Window, lengths: tuple[tuple[int, int], ...] = ()
) -> Spelling:
    arguments: dict[str, Any] = {"causal": True} if causal else {}
    if left is not None:
        arguments["window_left"] = left
    text = ", ".join(f"{name}={value}" for name, value in arguments.items()) or "no mask argument"
    alignment = None if promise == FULL else Alignment.BOTTOM_RIGHT
    number = left if question == "window" else None
    pattern = "" if number is None else text.replace(f"window_left={number}", "window_left={}")
    return Spelling(question, text, arguments, promise, alignment, _DOCSTRING, lengths, number, pattern)


#: The docstring calls window_left "inclusive" and shows a causal mask that is aligned at the bottom right.
SPELLINGS = (
    _row("window", True, 7, Window(7, 0)),
    _row("window", True, 8, Window(8, 0), ((32, 64), (64, 32))),
    _row("window", False, 8, Window(8, None), ((32, 64), (64, 32))),
    _row("unbounded", False, -1, FULL),
    _row("unbounded", True, -1, CAUSAL),
    _row("unbounded", False, None, FULL),
    _row("causal", True, None, CAUSAL, ((32, 64), (64, 32))),
)

BACKEND = Backend(
    "flashinfer",
    (),
    decide,
    (
        Api(
            "flashinfer",
            f"flashinfer.{FUNCTION}",
            "bshd",
            load,
            spell,
            SPELLINGS,
            launches="flashinfer::",
            compiles=75.0,
        ),
    ),
)
