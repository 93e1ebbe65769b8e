"""Mask and score functions for flex_attention: bands, looked-up masks, softcap, ALiBi."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from attncheck.backends.masks import band
from attncheck.semantics.spec import CAUSAL, Window

#: mask_mod (batch, head, query, key) -> visible, or score_mod (score, batch, head, query, key) -> score; the arguments
#: are torch tensors without axes.
Function = Callable[..., Any]


def by_lengths(function: Function) -> Function:
    """Mark a function of (q_len, kv_len) that gives the mask or score function for a call of these lengths."""
    function.by_lengths = True  # type: ignore[attr-defined]
    return function


@lru_cache(maxsize=64)  # the compiler takes a new function object for a new function and compiles again
def resolved(function: Function | None, q_len: int, kv_len: int) -> Function | None:
    """The mask or score function itself, for these lengths."""
    if function is None or not getattr(function, "by_lengths", False):
        return function
    made: Function = function(q_len, kv_len)
    return made


@lru_cache(maxsize=64)
def banded(window: Window, diagonal: int) -> Function:
    """Mask function of a window; diagonal as in `masks.band`."""
    keep = band(window, diagonal)

    def mask_mod(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return keep(query, key)

    return mask_mod


def looked_up(table: Any) -> Function:
    """Reads the cell of a tensor that broadcasts to batch x heads x queries x keys.

    Its attribute `axes` says whether batch rows and heads differ.
    """
    table = table[(None,) * (4 - table.dim())]
    per_batch, per_head, per_query, per_key = (int(size > 1) for size in table.shape)

    def cell(batch: Any, head: Any, query: Any, key: Any) -> Any:
        # Multiplied instead of replaced by a plain 0: torch's vmap wants tensors in every place.
        return table[batch * per_batch, head * per_head, query * per_query, key * per_key]

    cell.axes = bool(per_batch), bool(per_head)  # type: ignore[attr-defined]
    return cell


def scored(softcap: float | None, slopes: Any, diagonal: int, additive: Any) -> Function:
    """Score function: the cap, then the ALiBi bias, then what an additive mask holds; each may be None."""
    import torch

    cell = None if additive is None else looked_up(additive)

    def score_mod(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
        if softcap is not None:
            score = softcap * torch.tanh(score / softcap)
        if slopes is not None:
            score = score - slopes[head] * (query + diagonal - key).abs()
        return score if cell is None else score + cell(batch, head, query, key)

    return score_mod


@by_lengths
def hidden_beyond_eight(q_len: int, kv_len: int) -> Function:
    """Score function that leaves the 8 newest keys and sets the others to -inf, from the top left."""
    import torch

    def score_mod(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
        return torch.where((query >= key) & (query - key < 8), score, -float("inf"))

    return score_mod


@by_lengths
def lower_right(q_len: int, kv_len: int) -> Function:
    """Causal mask function with the diagonal at the bottom right."""
    return banded(CAUSAL, kv_len - q_len)
