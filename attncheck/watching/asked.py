"""What a live call asks of its kernel: mask, causality and window, on the cells that were read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.inside import reader
from attncheck.probe.reading.requested import FORBIDS
from attncheck.semantics.observation import HeadMask
from attncheck.watching import cells as reading
from attncheck.watching.apis import Ask
from attncheck.watching.cells import Cells, Shape

#: Entries of an additive mask that are looked at one by one to name its values.
_MOST_VALUES = 1 << 26
#: Mask objects of xformers are written out up to this many queries and keys.
_WRITTEN_OUT = 2048


def dense(mask: Any, shape: Shape, layout: str) -> Tensor | None:
    """The mask argument as batch x heads x queries x keys, without a copy of tensors; None where it is no dense one."""
    if isinstance(mask, Tensor):
        if mask.dim() > 4 or layout == "thd":
            return None
        if mask.dim() == 3 and shape.heads == 1:  # one a batch row: tensors without an axis of heads
            mask = mask.unsqueeze(1)
        return mask[..., : shape.keys].expand(shape.batch, shape.heads, shape.queries, shape.keys)
    written = getattr(mask, "materialize", None)
    if written is None or max(shape.queries, shape.keys) > _WRITTEN_OUT:
        return None
    made: Tensor = written((1, 1, shape.queries, shape.keys), dtype=torch.float32, device="cpu")
    return made.expand(shape.batch, 1, shape.queries, shape.keys)


def hides(mask: Any) -> bool | None:
    """Whether a mask tensor forbids any cell; None for what is no tensor."""
    if not isinstance(mask, Tensor) or not mask.numel():
        return None
    if mask.dtype == torch.bool:
        return not bool(mask.all())
    return bool(mask.amin() <= FORBIDS) if mask.is_floating_point() else None


def values(mask: Any) -> tuple[float, ...]:
    """The two values of an additive mask that has no others; () for any other mask."""
    if not isinstance(mask, Tensor) or not mask.is_floating_point() or not 0 < mask.numel() <= _MOST_VALUES:
        return ()
    low, high = mask.amin(), mask.amax()
    if not bool(low < high) or not bool(((mask == low) | (mask == high)).all()):
        return ()
    return float(low), float(high)


def emptiest(mask: Tensor | None, shape: Shape) -> int:
    """The batch row to which a dense mask leaves the fewest cells: the one with the most padding; 0 without a mask."""
    if mask is None or shape.batch < 2 or mask.stride(0) == 0 or mask.numel() > _MOST_VALUES:
        return 0
    last = mask[:, 0, -1]  # the last query sees every key that padding does not hide
    kept = last if last.dtype == torch.bool else last > FORBIDS
    return int(kept.sum(-1).argmin())


def flat_enough(ask: Ask, shape: Shape) -> None:
    """Raise Unreadable where the mask argument is a bias so steep that visible keys get a weight of exactly zero."""
    mask = ask.mask if isinstance(ask.mask, Tensor) else dense(ask.mask, shape, ask.api.layout)
    if mask is not None and mask.is_floating_point() and mask.numel():
        reader.flat_enough(mask, ask.query.dtype)


def requested(ask: Ask, shape: Shape, cells: Cells, like: Sequence[HeadMask]) -> tuple[HeadMask, ...]:
    """The mask that the arguments ask for by the function's documentation; empty where they are no dense mask.

    like: what was seen, for its queries. torch counts is_causal from the first query (top-left), flash-attn from the
    last one (bottom-right), and its window too.
    """
    if ask.further:
        return ()
    # Functions of transformers use the mask alone where there is one, and 2D ones for padding.
    within = ask.api.name == "transformers"
    if within and (shape.queries != shape.keys if ask.mask is None else getattr(ask.mask, "dim", int)() != 4):
        return ()
    if within and ask.mask is None and (ask.window is not None or ask.is_causal is None):
        return ()  # flash functions apply a window, others leave it to the mask; without a switch defaults differ
    queries = like[0].queries if like else ()
    indices = list(queries) if queries else list(range(shape.queries))
    keep = _kept(ask, shape, cells, indices)
    if keep is None:
        return ()
    ahead = torch.arange(shape.keys, device="cpu")[None, :] - torch.tensor(indices, device="cpu")[:, None]
    if ask.api.name.startswith("flash"):
        ahead = ahead - (shape.keys - shape.queries)
        for side, outside in zip(ask.window or (), (-ahead, ahead)):
            if isinstance(side, int) and side >= 0:
                keep = keep & (outside <= side)
    if ask.is_causal and not (within and ask.mask is not None):
        keep = keep & (ahead <= 0)
    return reading.masks(keep, cells, queries or None, shape.queries)


def _kept(ask: Ask, shape: Shape, cells: Cells, queries: Sequence[int]) -> Tensor | None:
    """The mask argument, rows x (1 or heads) x queries x keys, on the CPU; None where it is no dense one."""
    rows = list(cells.rows)
    if ask.mask is None:
        if ask.segments is not None:
            return None
        return torch.ones(len(rows), 1, len(queries), shape.keys, dtype=torch.bool, device="cpu")
    full = dense(ask.mask, shape, ask.api.layout)
    if full is None:
        return None
    if full.stride(1) == 0:
        full = full[:, :1]
    cut = full[rows][:, :, queries]
    return (cut > FORBIDS if cut.is_floating_point() else cut.bool()).cpu()
