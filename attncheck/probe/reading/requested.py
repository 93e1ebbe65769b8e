"""What the framework handed to the attention function: the mask, and every argument that changes the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.reading.kernel import bitsets
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import Requested

#: A finite entry of an additive mask below this forbids its key. Libraries write -inf, the dtype's smallest number
#: or, in old versions, -10000; a real bias on a short sequence stays far above.
FORBIDS = -5000.0
#: Argument under which `Requested.prescaled` travels; no attention function has it.
PRESCALED = "attncheck_prescaled"


class MaskReader:
    """Reads mask arguments; layers share mask objects, so each object is read once and kept alive meanwhile."""

    def __init__(self) -> None:
        self._read: dict[tuple[int, int, int, int], tuple[Any, Tensor | None, tuple[KeepMask, ...]]] = {}

    def keep(self, mask: Any, query: Tensor, key: Tensor) -> tuple[KeepMask, ...]:
        """One `KeepMask` per batch row, the union over heads; empty where the mask is not a dense one."""
        return self._look(mask, query, key)[2]

    def empty_rows(self, mask: Any, query: Tensor, key: Tensor) -> Tensor | None:
        """Batch x queries: rows to which the mask leaves no key in any head; None where the mask is not a dense one."""
        return self._look(mask, query, key)[1]

    def _look(self, mask: Any, query: Tensor, key: Tensor) -> tuple[Any, Tensor | None, tuple[KeepMask, ...]]:
        batch, rows, keys = query.shape[0], query.shape[2], key.shape[2]
        known = self._read.get((id(mask), batch, rows, keys))
        if known is not None:
            return known
        dense = dense_keep(mask, query, key)
        empty, keeps = None, list[KeepMask]()
        if dense is not None:
            seen = dense.any(1)
            empty = ~seen.any(-1)
            words = bitsets(seen.cpu().reshape(-1, dense.shape[-1]))
            keeps = [KeepMask(tuple(words[row * rows : (row + 1) * rows]), dense.shape[-1]) for row in range(batch)]
        self._read[id(mask), batch, rows, keys] = found = mask, empty, tuple(keeps)
        return found


def requested(
    module: Any, query: Tensor, key: Tensor, mask: Any, kwargs: Mapping[str, Any], reader: MaskReader
) -> Requested:
    """The live call's arguments as plain data.

    dropout: as passed while the module is in eval mode, where it should be 0; 0.0 in train mode, where it is meant.
    """
    causal = kwargs.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", None)
    window = kwargs.get("sliding_window")
    return Requested(
        mask_kind=kind(mask),
        mask=reader.keep(mask, query, key),
        is_causal=None if causal is None else bool(causal),
        sliding_window=window if isinstance(window, int) else None,
        scaling=_number(kwargs.get("scaling")),
        softcap=_number(kwargs.get("softcap")),
        sinks=given_sinks(module, kwargs) is not None,
        position_bias=kwargs.get("position_bias") is not None,
        dropout=0.0 if module.training else _number(kwargs.get("dropout")) or 0.0,
        prescaled=_number(kwargs.get(PRESCALED)),
    )


def kind(mask: Any) -> str:
    """The word for a mask argument: "none", "bool", "float", "2d", or the type's name."""
    if mask is None:
        return "none"
    if isinstance(mask, Tensor):
        if mask.dim() == 2:
            return "2d"
        return "bool" if mask.dtype == torch.bool else "float" if mask.is_floating_point() else str(mask.dtype)
    return type(mask).__name__


def dense_keep(mask: Any, query: Tensor, key: Tensor) -> Tensor | None:
    """The mask as booleans, batch x (1 or heads) x queries x keys; None where it is not one value a query and key."""
    if isinstance(mask, Tensor):
        if mask.dim() != 4:
            return None
        cut = mask[..., : key.shape[2]]
        keep = cut > FORBIDS if cut.is_floating_point() else cut.bool()
        return keep.expand(query.shape[0], -1, query.shape[2], -1)
    rule = getattr(mask, "mask_mod", None)
    if rule is None:
        return None
    from torch.nn.attention.flex_attention import create_mask

    with torch.no_grad():
        # For all heads, as the call itself asks: what it was answered can be reused then.
        keep = create_mask(rule, *query.shape[:3], key.shape[2], device=str(query.device))
    return keep.bool()


def additive_bias(mask: Any, kwargs: Mapping[str, Any], key: Tensor) -> Tensor | None:
    """What the call asks to add to the scaled logits besides the mask, float64, broadcastable to the logits, or None.

    The `position_bias` argument plus the finite part of an additive mask. None too where it is constant in each row,
    since softmax cannot see that.
    """
    total: Tensor | None = None
    given = kwargs.get("position_bias")
    if isinstance(given, Tensor) and given.dim() == 4:
        total = _finite(given[..., : key.shape[2]])
    if isinstance(mask, Tensor) and mask.dim() == 4 and mask.is_floating_point():
        part = _finite(mask[..., : key.shape[2]])
        if bool(part.any()):
            total = part if total is None else total + part
    if total is None or not bool((total - total[..., :1]).any()):
        return None
    return total


def given_sinks(module: Any, kwargs: Mapping[str, Any]) -> Tensor | None:
    """The sink logits of the call, float64: one a head, or batch x heads x queries where they depend on the data."""
    for found in (kwargs.get("s_aux"), kwargs.get("sinks"), getattr(module, "sinks", None)):
        if isinstance(found, Tensor):
            values = found.detach().double()
            return values.squeeze(-1) if values.dim() == 4 else values.flatten()
    return None


def _finite(values: Tensor) -> Tensor:
    wide = values.detach().double().nan_to_num(0.0, 0.0, 0.0)
    return wide.masked_fill(wide < FORBIDS, 0.0)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
