"""The attention modules of a live model, and what makes two calls of them the same."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch

_WORDS = ("attention", "attn")
#: Arguments that differ from layer to layer without changing what is attended to.
_OWN = (
    "past_key_value", "past_key_values", "layer_past", "hidden_states", "residual", "cache", "s_aux", "sinks",
    "position_bias",
)  # fmt: skip

#: Names under which modules keep the number of their layer.
_NUMBERS = ("layer_idx", "layer_id", "layer_number", "idx", "layer_index")


def attention_modules(model: Any) -> list[Any]:
    """The outermost modules whose class is named after attention and that hold weights; vision towers are left out."""
    found: list[Any] = []
    inside: list[str] = []
    for path, module in model.named_modules():
        if any(path.startswith(f"{outer}.") for outer in inside):
            continue
        if not any(word in type(module).__name__.lower() for word in _WORDS) or isinstance(module, torch.nn.ModuleList):
            continue
        if any(child is not module for child in module.modules()):  # a bare function wrapped as a module holds nothing
            inside.append(path)
            found.append(module)
    return found


class Signatures:
    """Tells calls apart. Tensors and other objects count by identity: layers of a kind are handed the same mask."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, int]] = {}
        self._kept: list[Any] = []
        self._count = 0

    def of(self, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """What two calls must share for one to stand for the other: the code that runs, flags, and the arguments.

        Sizes of queries, keys and values are compared by the caller.
        """
        given = tuple((name, self._named(value)) for name, value in sorted(kwargs.items()) if name not in _OWN)
        there = tuple(name for name in _OWN if kwargs.get(name) is not None)
        patched = vars(module).get("forward")
        code = type(module), None if patched is None else self._named(getattr(patched, "__func__", patched))
        plain = tuple(
            (name, value)
            for name, value in sorted(vars(module).items())
            if isinstance(value, bool | int | float | str) and name not in _NUMBERS
        )
        return (code, plain, tuple(map(self._named, args)), given, there)

    def _named(self, value: Any) -> Any:
        """Plain values by value, tuples (cos, sin) entry by entry, all else by a number of its own."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, tuple | list):
            return tuple(map(self._named, value))
        known = self._known.get(id(value))
        if known is not None and known[0]() is value:
            return type(value).__name__, known[1]
        self._count += 1
        try:
            self._known[id(value)] = weakref.ref(value), self._count  # masks may be large: they are not kept alive
        except TypeError:
            self._kept.append(value)
            self._known[id(value)] = (lambda: value), self._count
        return type(value).__name__, self._count
