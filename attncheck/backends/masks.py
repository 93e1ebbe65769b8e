"""Masks that are drawn on the tensors of a call: which keys a query sees, as arithmetic on query and key indices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attncheck.semantics.spec import Alignment, Window

#: (query index, key index) -> visible or not; on ints, on tensors that broadcast, and inside torch's vmap or compiler.
Keep = Callable[[Any, Any], Any]


def shift(alignment: Alignment, q_len: int, kv_len: int) -> int:
    """What to add to a query index to get the key index on its diagonal."""
    return kv_len - q_len if alignment is Alignment.BOTTOM_RIGHT else 0


def band(window: Window, diagonal: int) -> Keep:
    """Visible are the keys inside the window, counted from key `query + diagonal`."""
    left, right = window.left, window.right

    # Four closures over plain ints instead of one that asks for None: torch's compiler traces them as they are.
    def both(query: Any, key: Any) -> Any:
        return (query + diagonal - key <= left) & (key - query - diagonal <= right)

    def past(query: Any, key: Any) -> Any:
        return query + diagonal - key <= left

    def future(query: Any, key: Any) -> Any:
        return key - query - diagonal <= right

    def everything(query: Any, key: Any) -> Any:
        return (query >= 0) & (key >= 0)

    if left is None:
        return everything if right is None else future
    return past if right is None else both


@dataclass(frozen=True, slots=True)
class Drawn:
    """A mask tensor that comes into being on the device and in the type of the call's tensors.

    keep: which keys are visible. hidden: None for a bool mask, True = visible; else what an additive mask holds at the
    hidden cells: "-inf", or "min" for the smallest finite number of the type. slopes: ALiBi slopes, one a query head;
    -slope * |distance to the diagonal| is added at the visible cells, which makes the mask additive.
    diagonal: key index on the diagonal of query 0, for the distances.
    """

    keep: Keep
    hidden: str | None = None
    slopes: Any = None
    diagonal: int = 0

    def __call__(self, query: Any, key: Any) -> Any:
        """The tensor for q (batch x heads x q_len x width) and k (batch x heads x kv_len x width).

        queries x keys; with slopes 1 x heads x queries x keys. On the device of q, additive masks in its type.
        """
        import torch

        # int32 halves what the differences of a long sequence take.
        rows = torch.arange(query.shape[-2], device=query.device, dtype=torch.int32)[:, None]
        columns = torch.arange(key.shape[-2], device=query.device, dtype=torch.int32)[None, :]
        visible = self.keep(rows, columns)
        if self.hidden is None and self.slopes is None:
            return visible
        lowest = torch.finfo(query.dtype).min if self.hidden == "min" else float("-inf")
        if self.slopes is None:
            return torch.zeros_like(visible, dtype=query.dtype).masked_fill(~visible, lowest)
        distance = (rows + self.diagonal - columns).abs()
        slopes = self.slopes.to(query.device).view(1, -1, 1, 1)
        return (-slopes * distance).to(query.dtype).masked_fill(~visible, lowest)


@dataclass(frozen=True, slots=True)
class Biased:
    """ALiBi added to a mask tensor that is there already. mask, slopes: as in `Ask`; diagonal: as in `Drawn`."""

    mask: Any
    slopes: Any
    diagonal: int = 0

    def __call__(self, query: Any, key: Any) -> Any:
        """The additive tensor for q and k, batch x heads x queries x keys where the mask has those axes."""
        import torch

        bias = Drawn(band(Window(), 0), slopes=self.slopes, diagonal=self.diagonal)(query, key)
        mask = self.mask.to(query.device)
        return bias.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else bias + mask.to(query.dtype)
