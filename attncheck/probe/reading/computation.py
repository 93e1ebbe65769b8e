"""An attention computation among torch operations: the record of a running module, and what was found in it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Function = Callable[..., Any]

#: Products: where the two operands stand, by place and by name.
PRODUCTS: Mapping[str, tuple[tuple[int, str], tuple[int, str]]] = {
    "matmul": ((0, "input"), (1, "other")),
    "__matmul__": ((0, "input"), (1, "other")),
    "bmm": ((0, "input"), (1, "mat2")),
    "baddbmm": ((1, "batch1"), (2, "batch2")),
}
CACHES = ("past_key_value", "past_key_values", "layer_past", "cache_params")


@dataclass(slots=True)
class Found:
    """One attention computation of a module. Tensors: batch x heads x tokens x width, kv heads as the product saw them.

    function: `function(module, query, key, value, mask, **arguments)`, the same computation with other operands, output
    with heads behind the queries. query: without the factors it was multiplied by since its projection, which
    `function` puts back, so that a scale fitted from it is the whole one. mask, arguments: for the record of what was
    asked, spelled as transformers' attention functions do. wide: values of any width may be given.
    """

    name: str
    module: Any
    function: Function
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Any
    arguments: Mapping[str, Any]
    output: Tensor
    wide: bool = False


@dataclass(slots=True)
class Frame:
    """One running attention module. products: (left, right, output) in order. factors: of tensors by identity, with the
    tensor so that its identity stays taken. soft: the softmax's output and the number of products before it.
    """

    module: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    products: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    factors: dict[int, tuple[Tensor, float]] = field(default_factory=dict)
    soft: Tensor | None = None
    before: int = 0
    again: bool = False

    def factor(self, tensor: Any) -> float:
        """What the tensor was multiplied by since its projection."""
        return self.factors.get(id(tensor), (None, 1.0))[1]


def snapshot(name: str, value: Any) -> Any:
    """The argument as it is now: caches are changed by the call, everything else may be shared."""
    if name in CACHES or "Cache" in type(value).__name__:
        # Tensors with a history cannot be copied deeply; a clone keeps it.
        return copy.deepcopy(value, {id(tensor): tensor.clone() for tensor in _tensors(value, set())})
    return value


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor that an object holds, in containers and attributes."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from _tensors(vars(value), seen)
