"""The most memory that tensors held at one time, counted as they come and go."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Watermark(TorchDispatchMode):
    """peak: bytes of all storages that were made inside and lived at the same time, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in self._known:
                self._known.add(leaf.untyped_storage()._cdata)  # it was there before: a weight, or the batch
                weakref.finalize(leaf.untyped_storage(), self._known.discard, leaf.untyped_storage()._cdata)
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._seen(leaf.untyped_storage())
        return result

    def _seen(self, storage: Any) -> None:
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        size = storage.nbytes()
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._gone, storage._cdata, size)

    def _gone(self, number: int, size: int) -> None:
        self._known.discard(number)
        self._now -= size
