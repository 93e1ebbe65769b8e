"""Saying an `Ask` in a library's arguments: the refusals and the tensor layouts that several libraries share."""

from __future__ import annotations

from typing import Any

from attncheck.backends.interface import Ask
from attncheck.semantics.observation import Reason
from attncheck.semantics.spec import FULL, Alignment, Window

_WORDS = {
    "mask": "a mask tensor",
    "sinks": "sinks",
    "slopes": "ALiBi slopes",
    "softcap": "a softcap",
    "dropout": "dropout",
}


def lacking(ask: Ask, call: str, source: str, *names: str) -> tuple[Reason, ...]:
    """One reason for each field of `Ask` among `names` that is asked for; call: the function that has no such argument.

    names: out of "mask", "sinks", "slopes", "softcap", "dropout".
    """
    return tuple(
        Reason(f"{call} has no argument for {_WORDS[name]}", f"no {name}", f"{_WORDS[name]} asked for", source)
        for name in names
        if _asked(ask, name)
    )


def bottom_right_only(ask: Ask, q_len: int, kv_len: int, call: str, source: str) -> tuple[Reason, ...]:
    """Why a function that puts the diagonal at the bottom right cannot serve; empty where it makes no difference."""
    aligned = ask.alignment is Alignment.BOTTOM_RIGHT or q_len == kv_len
    if aligned or ask.mask is not None or ask.window == FULL:
        return ()
    limit = "bottom-right alignment, or as many queries as keys"
    return (Reason(f"{call} aligns at the bottom right only", limit, f"top-left, {q_len} x {kv_len}", source),)


def integer_window(window: Window) -> tuple[int, int]:
    """(left, right) as flash-attention 2 and 3 write it: inclusive distances, -1 unbounded."""
    return (-1 if window.left is None else window.left, -1 if window.right is None else window.right)


def optional_window(window: Window) -> tuple[int | None, int | None]:
    """(left, right) as flash-attention 4 writes it: inclusive distances, None unbounded."""
    return window.left, window.right


def numbered_pair(question: str, text: str, window: tuple[int | None, int | None] | None) -> tuple[int | None, str]:
    """`number` and `pattern` of a `Spelling` whose text holds the window as "(left, right)": left is the number."""
    if question != "window" or window is None or window[0] is None:
        return None, ""
    return window[0], text.replace(f"({window[0]}, ", "({}, ")


def rows_first(tensor: Any) -> Any:
    """Batch x heads x tokens x width <-> batch x tokens x heads x width; a view, and its own inverse."""
    return tensor.transpose(1, 2)


#: (cumulative lengths, int32, from 0 on the device of the call; the longest sequence) of packed sequences.
Bounds = tuple[Any, int]


def packed(tensor: Any, bounds: Bounds | None = None) -> tuple[Any, Any, int]:
    """Batch x heads x tokens x width -> (batch * tokens) x heads x width, cumulative lengths (int32), longest sequence.

    The cumulative lengths start at 0, on the tensor's device. bounds: where sequences end, None: each row is one.
    """
    import torch

    batch, heads, tokens, width = tensor.shape
    flat = rows_first(tensor).reshape(batch * tokens, heads, width)
    if bounds is not None:
        return flat, *bounds
    ends = torch.arange(batch + 1, dtype=torch.int32, device=tensor.device) * tokens
    return flat, ends, tokens


def unpacked(flat: Any, batch: int) -> Any:
    """(batch * tokens) x heads x width -> batch x heads x tokens x width, the inverse of `packed`."""
    return rows_first(flat.reshape(batch, -1, *flat.shape[1:]))


def first(result: Any) -> Any:
    """The output of a function that may return (output, log-sum-exp, ...)."""
    return result[0] if isinstance(result, tuple) else result


def _asked(ask: Ask, name: str) -> bool:
    value = getattr(ask, name)
    return value is not None and not (name == "dropout" and value == 0.0)
