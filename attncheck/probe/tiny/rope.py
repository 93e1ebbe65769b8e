"""Rotary parameters cut to a new head width. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def rope(parameters: Mapping[str, Any], head_dim: int, partial: float = 1.0) -> dict[str, Any]:
    """The parameters for heads of `head_dim` elements; nested per-layer-type parameters are handled alike.

    `mrope_section` (three parts of half a rotary width) is rescaled with every part at least 1; `short_factor` and
    `long_factor` (one entry a pair of rotary elements) are cut. Everything else, scales above all, stays.
    partial: share of the head that rotates, unless the parameters say so themselves.
    """
    partial = float(parameters.get("partial_rotary_factor") or partial)
    rotary = int(head_dim * partial)
    half = max(1, rotary // 2)
    out: dict[str, Any] = {}
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            out[key] = rope(value, head_dim, partial)
        elif key == "mrope_section" and isinstance(value, list | tuple) and value:
            out[key] = _sections(list(value), half)
        elif key in ("short_factor", "long_factor") and isinstance(value, list | tuple):
            out[key] = list(value)[:half]
        else:
            out[key] = value
    return out


def _sections(sections: list[int], half: int) -> list[int]:
    """Parts in the same proportion that add up to `half`, each at least 1 where `half` allows it."""
    total = sum(sections)
    if total <= 0 or half < len(sections):
        return sections
    new = [max(1, part * half // total) for part in sections]
    new[0] += half - sum(new)
    while new[0] < 1:
        largest = max(range(1, len(new)), key=new.__getitem__)
        new[largest] -= 1
        new[0] += 1
    return new
