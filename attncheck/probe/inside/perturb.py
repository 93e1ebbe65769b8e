"""Reads the mask of one attention module by re-running it alone, one token of its input replaced at a time.

For modules that a framework patched or that never used the attention interface. All arguments stay as the model passed
them; only the union over heads shows, and a query's own key cannot be told apart from the query itself.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.inside.choice import Chosen
from attncheck.probe.reading.kernel import bitsets
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import HeadMask

#: Sizes of the replacement, relative to the spread of the module's input, one re-run each. The first has logits like
#: the model's own. Large ones show whatever the logits are: of two opposite ones one gives a head a large weight.
SIZES = (1.0, 16.0, -16.0)
#: With active dropout everything is tried this many times, each with other cells dropped.
TRIES = 3
#: Influence on an output, in units of the dtype's rounding at the output's size: from here on it was surely seen.
SEEN = 4.0
_CACHES = ("past_key_values", "past_key_value", "layer_past", "cache_params")


class NotMeasurable(Exception):
    """The module cannot be read this way; the message says why."""


@dataclass(slots=True)
class Module:
    """One call of an attention module that can be repeated. args, kwargs: as the model passed them.

    caches: argument name -> the cache as it was before the call.
    """

    module: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    caches: dict[str, Any]

    @classmethod
    def before_call(cls, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Module:
        """To be made before the real call, which may write to its cache."""
        caches = {name: _cache_copy(kwargs[name], module) for name in _CACHES if kwargs.get(name) is not None}
        return cls(module, args, dict(kwargs), caches)

    @property
    def hidden(self) -> Tensor:
        """The input that is perturbed: batch x tokens x width. Raises NotMeasurable where there is none."""
        given = self.args[0] if self.args else self.kwargs.get("hidden_states")
        if not isinstance(given, Tensor) or given.dim() != 3 or not given.is_floating_point():
            what = f"{tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
            raise NotMeasurable(f"{type(self.module).__name__} is not called with batch x tokens x width, but {what}")
        return given

    def rerun(self, hidden: Tensor) -> Tensor:
        """The module's output for another input. Its own hooks and those of users are passed by."""
        kwargs = dict(self.kwargs)
        for name, cache in self.caches.items():
            kwargs[name] = _cache_copy(cache, self.module)
        if self.args:
            output = self.module.forward(hidden, *self.args[1:], **kwargs)
        else:
            output = self.module.forward(**{**kwargs, "hidden_states": hidden})
        first = output[0] if isinstance(output, tuple | list) else output
        if not isinstance(first, Tensor) or first.shape[:2] != hidden.shape[:2]:
            raise NotMeasurable(f"{type(self.module).__name__} returns no hidden states")
        return first


def need(call: Module) -> int:
    """Bytes that a reading takes at most, beside one call of the module: three inputs and outputs, float32 copies."""
    hidden = call.hidden
    return int(hidden.numel() * (3 * hidden.element_size() + 12))


def read(call: Module, chosen: Sequence[Chosen], seed: int) -> tuple[HeadMask, ...]:
    """One mask a batch row: the union over heads, by what each key's hidden state changes in the output.

    chosen: one entry a batch row, over the tokens of this call. Dropout, where it is active, drops the same cells in
    each run of one size. Raises NotMeasurable where an influence is neither clearly there nor clearly absent.
    """
    hidden = call.hidden
    batch, length = hidden.shape[:2]
    channels = torch.tensor([entry.channel for entry in chosen], device=hidden.device)
    if channels.shape != (batch, length):
        raise NotMeasurable(f"input of {tuple(hidden.shape)} beside {tuple(channels.shape)} tokens")
    last = 1 + int(channels.max())
    seen = torch.zeros(batch, length, last, dtype=torch.bool)
    doubtful = torch.zeros_like(seen)
    noise = torch.randn(batch, hidden.shape[-1], generator=torch.Generator().manual_seed(seed))
    unit = noise.to(hidden.device, torch.float32) * hidden.float().std()
    for number, size in enumerate(SIZES * (TRIES if call.module.training else 1)):
        replacement = (unit * size).to(hidden.dtype)
        clean = _seeded(seed + number, call, hidden.clone())
        limit = _rounding(clean)
        if not bool(clean.isfinite().all()):
            raise NotMeasurable("the module's output holds NaN or Inf")
        for channel in range(last):
            changed = torch.where((channels == channel)[..., None], replacement[:, None], hidden)
            moved = (_seeded(seed + number, call, changed).float() - clean.float()).abs().amax(-1)
            del changed
            if not bool(moved.isfinite().all()):
                if size == SIZES[0]:
                    raise NotMeasurable("a replaced input makes the module's output NaN or Inf")
                continue  # too large for the dtype: 0 * Inf is NaN wherever the key is hidden
            seen[..., channel] |= (moved >= SEEN * limit).cpu()
            doubtful[..., channel] |= (moved > 0).cpu()
    doubtful &= ~seen
    if bool(doubtful.any()):
        share = float(doubtful.float().mean())
        raise NotMeasurable(f"in {share:.1%} of the cells the influence of a key cannot be told from rounding")
    return tuple(_mask(row, seen[row], chosen[row]) for row in range(batch))


def broken(call: Module, output: Any) -> tuple[tuple[int, int], ...]:
    """(batch row, query) pairs that the module's own call broke, its input being sound."""
    first = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(first, Tensor) or first.dim() != 3 or not bool(call.hidden.isfinite().all()):
        return ()
    return tuple((int(row), int(query)) for row, query in (~first.isfinite().all(-1)).nonzero().tolist())


def _mask(row: int, seen: Tensor, chosen: Chosen) -> HeadMask:
    """Queries x channels of booleans as a mask over the keys."""
    words = bitsets(seen[:, torch.tensor(chosen.channel)])
    wanted = set(chosen.queries) if chosen.queries else None
    rows = tuple(word if wanted is None or query in wanted else 0 for query, word in enumerate(words))
    return HeadMask(row, (), KeepMask(rows, len(chosen.channel)), chosen.coarse, chosen.queries)


def _rounding(output: Tensor) -> Tensor:
    """Per token, how far rounding alone may move an output: the dtype's step at the largest entry."""
    return output.float().abs().amax(-1) * torch.finfo(output.dtype).eps


def _seeded(seed: int, call: Module, hidden: Tensor) -> Tensor:
    # Not torch.manual_seed: it seeds all devices, also those whose state nobody keeps here.
    torch.default_generator.manual_seed(seed)
    if hidden.device.type == "cuda":
        torch.cuda.default_generators[hidden.device.index].manual_seed(seed)
    return call.rerun(hidden)


def _cache_copy(cache: Any, module: Any) -> Any:
    """A cache that the module may write to: tensors of its own layer are copied, those of others shared."""
    if isinstance(cache, tuple | list | Tensor):
        return cache  # caches of this form are not written to
    index = getattr(module, "layer_idx", None)
    layers = getattr(cache, "layers", None)
    known = isinstance(layers, list) and isinstance(index, int)
    others = [layer for number, layer in enumerate(layers or ()) if number != index] if known else []
    return copy.deepcopy(cache, {id(layer): layer for layer in others})
