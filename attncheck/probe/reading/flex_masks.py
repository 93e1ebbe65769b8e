"""Spares readings of uncompiled flex attention what cannot change a number: most of its time on short sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.forward_only import uncompiled

FLEX = "flex_attention"
#: torch's own switch for uncompiled runs: the operator is called directly, without asking the compiler to do nothing.
_WITHOUT_COMPILER = "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG"


@contextmanager
def evaluated_once(implementation: str) -> Iterator[None]:
    """While it lasts, torch asks each mask function once for the same indices, and reuses the answer.

    Score functions that hand back the scores are not mapped over every score either. Meant for one attention call and
    its repetitions: between two layers a mask function may change its answer, because a cache moves the tensors that it
    looks at. Does nothing for other implementations than flex attention, where that is compiled, where gradients are
    wanted, or where this torch has no such function.
    """
    if implementation != FLEX or not uncompiled() or torch.is_grad_enabled():
        yield
        return
    from torch.nn.attention import flex_attention

    usual = getattr(flex_attention, "_vmap_for_bhqkv", None)
    if usual is None:
        yield
        return
    known: dict[Any, Tensor] = {}

    def lift(function: Callable[..., Any], prefix: Any, suffix: Any = (), *rest: Any, **kwargs: Any) -> Any:
        if suffix or rest or kwargs:
            return usual(function, prefix, suffix, *rest, **kwargs)
        if prefix:
            return _first if _hands_back(function) else usual(function, prefix)
        lifted = usual(function, prefix)

        def once(*indices: Tensor) -> Tensor:
            key = function, *(tuple(index.tolist()) for index in indices)
            if key not in known:
                known[key] = lifted(*indices)
            return known[key]

        return once

    changes = {"_vmap_for_bhqkv": lift, _WITHOUT_COMPILER: True}
    before = {name: getattr(flex_attention, name) for name in changes if hasattr(flex_attention, name)}
    try:
        for name in before:
            setattr(flex_attention, name, changes[name])
        yield
    finally:
        for name, value in before.items():
            setattr(flex_attention, name, value)


def any_value_width(implementation: str) -> bool:
    """True where the width of the values cannot matter to the mask: uncompiled flex only multiplies P by them."""
    return implementation == FLEX and uncompiled()


def _first(scores: Tensor, *indices: Tensor) -> Tensor:
    return scores


def _hands_back(function: Callable[..., Any]) -> bool:
    """True for a function of score and indices that returns the score without looking at anything."""
    score, index = object(), object()
    try:
        return function(score, index, index, index, index) is score
    except Exception:  # whatever looks at an opaque object fails in its own way
        return False
