"""What flash-attention 2, 3 and 4 share: their arguments, their two functions, and how a row of their table reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attncheck.backends.interface import Ask, Attend, Spelling
from attncheck.backends.spelling import Bounds, first, numbered_pair, packed, rows_first, unpacked
from attncheck.semantics.spec import FULL, Alignment, Window

Pair = tuple[int | None, int | None]


def shared_arguments(ask: Ask, window: Pair) -> dict[str, Any]:
    """What all of them call alike. window: both sides in the function's own numbers.

    What `Ask` leaves at its default is left out, except causal and window_size.
    """
    arguments: dict[str, Any] = {"causal": ask.window.causal, "window_size": window}
    if ask.scale is not None:
        arguments["softmax_scale"] = ask.scale
    if ask.softcap is not None:
        arguments["softcap"] = ask.softcap
    if ask.deterministic:
        arguments["deterministic"] = True
    return arguments


def dense(function: Callable[..., Any]) -> Attend:
    """`flash_attn_func` over batch x heads x tokens x width tensors; a log-sum-exp that comes along is dropped."""

    def attend(q: Any, k: Any, v: Any, **arguments: Any) -> Any:
        return rows_first(first(function(rows_first(q), rows_first(k), rows_first(v), **arguments)))

    return attend


def varlen(function: Callable[..., Any]) -> Attend:
    """`flash_attn_varlen_func` over such tensors: every batch row is one sequence, unless `bounds` say otherwise."""

    def attend(q: Any, k: Any, v: Any, *, bounds: tuple[Bounds, Bounds] | None = None, **arguments: Any) -> Any:
        q_ends, k_ends = bounds or (None, None)
        (flat_q, q_bounds, q_len), (flat_k, k_bounds, kv_len) = packed(q, q_ends), packed(k, k_ends)
        flat = function(
            flat_q,
            flat_k,
            packed(v)[0],
            cu_seqlens_q=q_bounds,
            cu_seqlens_k=k_bounds,
            max_seqlen_q=q_len,
            max_seqlen_k=kv_len,
            **arguments,
        )
        return unpacked(first(flat), q.shape[0])

    return attend


def row(
    question: str, causal: bool, window: Pair | None, promise: Window, source: str, *, lengths: bool = False
) -> Spelling:
    """One way to write a window; the diagonal is promised at the bottom right. lengths: read at unequal ones too."""
    arguments: dict[str, Any] = {"causal": True} if causal else {}
    if window is not None:
        arguments["window_size"] = window
    text = ", ".join(f"{name}={value}" for name, value in arguments.items())
    alignment = None if promise == FULL else Alignment.BOTTOM_RIGHT
    number, pattern = numbered_pair(question, text, window)
    further = ((32, 64), (64, 32)) if lengths else ()
    return Spelling(question, text, arguments, promise, alignment, source, further, number, pattern)
