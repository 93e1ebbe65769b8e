"""Keeps a live model as it is while it runs for us: random state, buffers, attributes, gradients, compiled code."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.randomness import random_state_kept

#: Buffers up to this size (bytes) are copied, so that they can be put back; larger ones (quantised weights) watched.
COPIED = 1 << 24
#: Entries of a larger one that are compared.
SAMPLED = 4096
#: Attributes of modules that torch itself keeps; they hold other things, which are looked after one by one.
_TORCHS_OWN = frozenset(vars(torch.nn.Module()))
_PLAIN = (type(None), bool, int, float, str, tuple, Tensor)
_CONTAINERS = (list, dict, set, deque)


@dataclass(slots=True)
class Disturbed:
    """What could not be put back, in words; empty when everything is as it was."""

    remarks: list[str]


@contextmanager
def undisturbed(model: Any) -> Iterator[Disturbed]:
    """Whatever runs inside leaves `model` and the process as they were.

    Kept: random states of Python, numpy, the CPU and the model's devices; buffers; plain attributes, lists and dicts of
    modules and of the config; autocast's cache of cast weights. No gradient is recorded, and code that torch.compile
    wrapped runs uncompiled, so that its caches neither grow nor lose entries.
    """
    found = Disturbed([])
    devices = {p.device for p in model.parameters()} | {torch.device("cpu")}
    with ExitStack() as stack:
        for device in sorted(devices, key=str):
            if device.type in ("cpu", "cuda"):
                stack.enter_context(random_state_kept(device))
        stack.enter_context(_attributes_kept(model))
        stack.enter_context(_buffers_kept(model, found))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_weight_cache_off())
        stack.enter_context(uncompiled())
        yield found


def uncompiled() -> AbstractContextManager[object]:
    """Code wrapped by torch.compile runs as it is written while this lasts; nothing is compiled, no cache touched.

    Does nothing in a process that never loaded the compiler, or where torch (before 2.6) has no such switch.
    """
    return _stance("force_eager")


def compiled() -> AbstractContextManager[object]:
    """Lifts `uncompiled` for one call: for kernels that exist in compiled form only."""
    return _stance("default")


def _stance(name: str) -> AbstractContextManager[object]:
    switch = getattr(torch.compiler, "set_stance", None)
    if switch is None or "torch._dynamo" not in sys.modules:
        return nullcontext()
    chosen: AbstractContextManager[object] = switch(name)
    return chosen


@contextmanager
def _weight_cache_off() -> Iterator[None]:
    """Weights that autocast casts here must not be reused by a step with gradients, which would lose them."""
    with ExitStack() as stack:
        for device in ("cuda", "cpu"):
            if torch.is_autocast_enabled(device):
                dtype = torch.get_autocast_dtype(device)
                stack.enter_context(torch.autocast(device, dtype=dtype, cache_enabled=False))
        yield


@contextmanager
def _buffers_kept(model: Any, found: Disturbed) -> Iterator[None]:
    """Buffers are put back in value and identity; one that is too large to copy is reported if it changed."""
    kept = []
    seen: dict[int, Tensor] = {}
    for path, module in model.named_modules():
        for name, buffer in list(module._buffers.items()):
            if isinstance(buffer, Tensor) and id(buffer) not in seen:
                seen[id(buffer)] = _sample(buffer)
            kept.append((f"{path}.{name}", module, name, buffer))
    names = {id(module): list(module._buffers) for module in model.modules()}
    try:
        yield
    finally:
        for where, module, name, buffer in kept:
            module._buffers[name] = buffer
            if not isinstance(buffer, Tensor) or torch.equal(_sample(buffer, copied=False), seen[id(buffer)]):
                continue  # kernels write to buffers without counting a new version: only the content tells
            if _small(buffer):
                with torch.no_grad():
                    buffer.copy_(seen[id(buffer)].view_as(buffer))
            else:
                found.remarks.append(f"the forward pass changes the buffer {where}, too large to be put back")
        for module in model.modules():
            for name in list(module._buffers):
                if name not in names.get(id(module), [name]):
                    del module._buffers[name]


def _small(buffer: Tensor) -> bool:
    return bool(buffer.numel() * buffer.element_size() <= COPIED)


def _sample(buffer: Tensor, copied: bool = True) -> Tensor:
    """The content of a small buffer, some thousand evenly spaced entries of a large one."""
    flat = buffer.detach().reshape(-1)
    if not _small(buffer):
        flat = flat[:: max(1, buffer.numel() // SAMPLED)]
    return flat.clone() if copied else flat


@contextmanager
def _attributes_kept(model: Any) -> Iterator[None]:
    """Plain attributes of the modules and of the config: values, and the contents of lists, dicts and sets."""
    owners = list(model.modules())
    if any("FullyShardedDataParallel" in base.__name__ for owner in owners for base in type(owner).__mro__):
        yield  # it sets itself up in its first forward pass, partly elsewhere: half of that must not be undone
        return
    configs = {id(config): config for owner in owners if (config := getattr(owner, "config", None)) is not None}
    kept = [
        (vars(owner), _snapshot(vars(owner))) for owner in (*owners, *configs.values()) if hasattr(owner, "__dict__")
    ]
    try:
        yield
    finally:
        for attributes, before in kept:
            _restore(attributes, before)


def _snapshot(attributes: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Name -> (value, copy of its content where it is a container) of every attribute that is not torch's own."""
    return {
        name: (value, value.copy() if isinstance(value, _CONTAINERS) else None)
        for name, value in attributes.items()
        if name not in _TORCHS_OWN or name == "training"
    }


def _restore(attributes: dict[str, Any], before: dict[str, tuple[Any, Any]]) -> None:
    for name in [name for name in attributes if name not in before and name not in _TORCHS_OWN]:
        if isinstance(attributes[name], (*_PLAIN, *_CONTAINERS)):
            del attributes[name]
    for name, (value, content) in before.items():
        if attributes.get(name, before) is not value:
            attributes[name] = value
        if content is not None and not _same(value, content):
            value.clear()
            value.extend(content) if isinstance(value, list | deque) else value.update(content)


def _same(value: Any, content: Any) -> bool:
    """True when a container still holds the very same objects."""
    if len(value) != len(content):
        return False
    if isinstance(value, dict):
        return all(name in value and value[name] is content[name] for name in content)
    if isinstance(value, set):
        return bool(value == content)
    return all(one is other for one, other in zip(value, content))
