"""Refuses indices that are out of bounds before a GPU sees them, where a device-side assert would end the process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class IndicesChecked(TorchDispatchMode):  # type: ignore[misc]
    """While it lasts, an indexing operator with an index out of bounds raises IndexError, as it does on a CPU.

    On a GPU such an operator runs on, stops at an assertion in the kernel and takes the CUDA context with it: all that
    comes after fails, too, and names another operator. Each index is looked at on the host, so this is for calls that
    are likely to fail.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # else torch loads its compiler, and puts frames of it into every traceback
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for size, index in _indexed(func, args):
            _require(size, index)
        return func(*args, **(kwargs or {}))


@contextmanager
def tables_checked(model: torch.nn.Module, highest: int) -> Iterator[None]:
    """While it lasts, embeddings of the model with at most `highest` entries raise IndexError for an index outside.

    For position ids up to `highest`, which a table of positions may not have. Nothing but those tables is looked at, so
    compiled attention, which refuses a dispatch mode, runs as ever.
    """
    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.num_embeddings <= highest:
                hooks.callback(module.register_forward_pre_hook(_look_up_inside).remove)
        yield


def _look_up_inside(table: torch.nn.Embedding, args: tuple[Tensor, ...]) -> None:
    for index in args:
        _require(table.num_embeddings, index)


def _indexed(operator: Any, args: Sequence[Any]) -> Iterator[tuple[int, Tensor]]:
    """(size of the dimension, integer indices into it) of each index that an operator is called with."""
    aten = torch.ops.aten
    if operator is aten.index.Tensor:
        given, indices = args[0], args[1]
        if not any(index is not None and index.dtype is torch.bool for index in indices):  # a mask is never outside
            yield from ((given.shape[dim], index) for dim, index in enumerate(indices) if index is not None)
    elif operator in (aten.gather.default, aten.index_select.default):
        given, dim, index = args[:3]
        yield (given.shape[dim] if given.dim() else 1), index
    elif operator is aten.embedding.default:
        yield args[0].shape[0], args[1]


def _require(size: int, index: Tensor) -> None:
    if not index.numel():
        return
    low, high = int(index.min()), int(index.max())
    if high >= size or low < -size:
        wrong = high if high >= size else low
        raise IndexError(f"index {wrong} is out of bounds for {size} entries (on a GPU: a device-side assert)")
