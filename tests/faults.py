"""Attention functions that are wrong on purpose: one healthy function in plain torch and a list of single faults.

`install()` registers the function with transformers as `planted`; `with planted(fault)` switches a fault on.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attncheck.semantics.spec import Bias, ModelSpec

NAME = "planted"
WINDOW = 8


@dataclass
class Call:
    """The pieces of one attention call that a fault may spoil, before the output is computed.

    query [B, H, Sq, D]; key, value [B, Hkv, Sk, D]; keep [B, H, Sq, Sk] (True = keep); scale; softcap;
    sinks [H] or [B, H, Sq, 1] or None; bias broadcastable to the logits or None; tile: kv heads are tiled, not
    interleaved.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    keep: Tensor
    scale: float
    softcap: float | None
    sinks: Tensor | None
    bias: Tensor | None
    tile: bool = False
    dropout: float = 0.0
    poison: Tensor | None = None

    @property
    def distance(self) -> Tensor:
        """Query position minus key position, bottom-right aligned, [Sq, Sk]."""
        q_len, kv_len = self.keep.shape[-2:]
        return torch.arange(q_len)[:, None] + (kv_len - q_len) - torch.arange(kv_len)[None]

    @property
    def real(self) -> Tensor:
        """Keys that some query sees, [B, 1, 1, Sk]: the others are padding."""
        return self.keep.any(dim=-2, keepdim=True).any(dim=1, keepdim=True)

    @property
    def windowed(self) -> bool:
        """True when the last query does not see its oldest real key."""
        return bool((self.real & ~self.keep & (self.distance >= WINDOW)).any())


@dataclass(frozen=True)
class Fault:
    """One fault: its name, the slugs that name it rightly, the scenario that meets it, and whom it can befall."""

    name: str
    slugs: frozenset[str]
    spoil: Callable[[Call], None]
    scenarios: tuple[str, ...] = ("plain",)
    befalls: Callable[[ModelSpec], bool] = lambda spec: True


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> Any:
    """A healthy attention as transformers' interface calls it, spoiled by the fault that is switched on."""
    sinks = next((kwargs[name] for name in ("s_aux", "sinks") if kwargs.get(name) is not None), None)
    sinks = getattr(module, "sinks", None) if sinks is None else sinks
    scaling = kwargs.get("scaling")
    q_len, kv_len = query.shape[-2], key.shape[-2]
    shape = (query.shape[0], query.shape[1], q_len, kv_len)
    bias = kwargs.get("position_bias")
    if attention_mask is None:
        keep = torch.ones(shape, dtype=torch.bool)
    elif attention_mask.dtype == torch.bool:
        keep = attention_mask.expand(shape).clone()
    else:
        keep = (attention_mask > torch.finfo(attention_mask.dtype).min / 2).expand(shape).clone()
    call = Call(
        query, key, value, keep,
        scale=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        softcap=kwargs.get("softcap"), sinks=sinks, bias=bias,
    )  # fmt: skip
    if _active is not None:
        before = copy.copy(call)
        before.keep = call.keep.clone()
        _active.fault.spoil(call)
        _active.spoiled |= _differ(before, call)
    return _run(call), None


def _differ(before: Call, after: Call) -> bool:
    """True when a fault really changed something: a fault that finds nothing to spoil is not planted."""
    if not torch.equal(before.keep, after.keep):
        return True
    return any(getattr(before, name) is not getattr(after, name) for name in _SPOILABLE)


_SPOILABLE = ("scale", "softcap", "sinks", "bias", "tile", "dropout", "poison")


def _run(call: Call) -> Tensor:
    groups = call.query.shape[1] // call.key.shape[1]
    if call.tile:
        key, value = (x.repeat(1, groups, 1, 1) for x in (call.key, call.value))
    else:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (call.key, call.value))
    logits = (call.query.float() @ key.float().transpose(-1, -2)) * call.scale
    if call.softcap is not None:
        logits = call.softcap * torch.tanh(logits / call.softcap)
    if call.bias is not None:
        logits = logits + call.bias.float()
    empty = ~call.keep.any(dim=-1, keepdim=True)
    logits = logits.masked_fill(~call.keep, -math.inf).masked_fill(empty, 0.0)
    if call.sinks is not None:
        sinks = call.sinks.float() if call.sinks.dim() == 4 else call.sinks.float().reshape(1, -1, 1, 1)
        sinks = sinks.expand(*logits.shape[:3], 1)
        weights = torch.cat([logits, sinks], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weights = logits.softmax(dim=-1)
    if call.dropout:
        weights = torch.nn.functional.dropout(weights, call.dropout, training=True)
    output = weights.to(call.query.dtype) @ value
    if call.poison is not None:
        output = output.masked_fill(call.poison, math.nan)
    return output.transpose(1, 2).contiguous()


def _window(change: int) -> Callable[[Call], None]:
    def spoil(call: Call) -> None:
        if not call.windowed:
            return
        if change > 0:
            call.keep |= call.real & (call.distance >= WINDOW) & (call.distance < WINDOW + change)
        else:
            call.keep &= call.distance < WINDOW + change

    return spoil


def _window_dropped(call: Call) -> None:
    if call.windowed:
        call.keep |= call.real & (call.distance >= 0)


def _window_dropped_one_head(call: Call) -> None:
    if call.windowed:
        call.keep[:, 1] |= (call.real & (call.distance >= 0))[:, 0]


def _padding_dropped(call: Call) -> None:
    """Padding columns become visible to the queries that could reach them."""
    padding = ~call.real
    reach = call.distance >= 0
    if call.windowed:
        reach = reach & (call.distance < WINDOW)
    call.keep |= padding & reach


def _causality_dropped(call: Call) -> None:
    call.keep |= call.real & (call.distance < 0)


def _causality_dropped_one_head(call: Call) -> None:
    call.keep[:, 1] |= (call.real & (call.distance < 0))[:, 0]


def _extra_cell(call: Call) -> None:
    if call.keep.shape[-2] > 6:
        call.keep[:, :, 3, 5] = True


def _documents_merged(call: Call) -> None:
    reach = call.distance >= 0
    if int(call.keep.sum(-1).max()) <= WINDOW:
        reach = reach & (call.distance < WINDOW)
    call.keep |= reach


def _top_left(call: Call) -> None:
    q_len, kv_len = call.keep.shape[-2:]
    if kv_len > q_len > 1:
        call.keep = (call.distance - (kv_len - q_len) >= 0).expand_as(call.keep).clone()


def _scale(factor: float) -> Callable[[Call], None]:
    def spoil(call: Call) -> None:
        call.scale *= factor

    return spoil


def _softcap(factor: float | None) -> Callable[[Call], None]:
    def spoil(call: Call) -> None:
        if call.softcap is not None:
            call.softcap = None if factor is None else call.softcap * factor

    return spoil


def _sinks_dropped(call: Call) -> None:
    call.sinks = None


def _sinks_shifted(call: Call) -> None:
    if call.sinks is not None:
        call.sinks = call.sinks + 0.5


def _tiled(call: Call) -> None:
    call.tile = True


def _bias_dropped(call: Call) -> None:
    call.bias = None


def _nan(call: Call) -> None:
    call.poison = torch.zeros(call.query.shape[0], 1, call.query.shape[2], 1, dtype=torch.bool)
    call.poison[:, :, -1] = True


def _dropout(call: Call) -> None:
    call.dropout = 0.25


def _any(test: Callable[[Any], bool]) -> Callable[[ModelSpec], bool]:
    return lambda spec: any(layer.attends and layer.mask_known and test(layer) for layer in spec.layers)


_has_window = _any(lambda layer: layer.mask.window.left == WINDOW - 1 and layer.mask.chunk is None)
_is_causal = _any(lambda layer: layer.mask.window.causal)
_grouped = _any(
    lambda layer: "head_map" not in layer.unknown and (layer.num_kv_heads or 0) not in (0, 1, layer.num_heads)
)
_capped = _any(lambda layer: layer.softmax.softcap is not None)
_sunk = _any(lambda layer: layer.softmax.sinks)
_biased = _any(lambda layer: layer.softmax.bias is not Bias.NONE)
_unchunked = _any(lambda layer: layer.mask.chunk is None)


def _slugs(*names: str) -> frozenset[str]:
    return frozenset(names)


FAULTS: tuple[Fault, ...] = (
    Fault("window +1", _slugs("window-off-by-one"), _window(+1), befalls=_has_window),
    Fault("window -1", _slugs("window-off-by-one"), _window(-1), befalls=_has_window),
    Fault("window dropped", _slugs("window-ignored"), _window_dropped, befalls=_has_window),
    Fault("window ignored in one head", _slugs("window-ignored"), _window_dropped_one_head, befalls=_has_window),
    Fault("left padding dropped", _slugs("padding-ignored"), _padding_dropped, ("left-pad",), _is_causal),
    Fault("right padding dropped", _slugs("padding-ignored", "causal-ignored"), lambda c: _right(c), ("right-pad",)),
    Fault("causality dropped", _slugs("causal-ignored"), _causality_dropped, befalls=_is_causal),
    Fault("causality dropped in one head", _slugs("causal-ignored"), _causality_dropped_one_head, befalls=_is_causal),
    Fault("one extra cell", _slugs("causal-ignored"), _extra_cell, befalls=_is_causal),
    Fault("documents merged", _slugs("packing-leak"), _documents_merged, ("packed",), _unchunked),
    Fault("top-left alignment", _slugs("causal-misaligned"), _top_left, ("chunked-prefill",), _is_causal),
    Fault("scale x 1.03", _slugs("scale-wrong"), _scale(1.03)),
    Fault("scale x sqrt 2", _slugs("scale-wrong"), _scale(math.sqrt(2))),
    Fault("softcap dropped", _slugs("softcap-dropped"), _softcap(None), befalls=_capped),
    Fault("softcap halved", _slugs("softcap-dropped", "softcap-wrong"), _softcap(0.5), befalls=_capped),
    Fault("sinks dropped", _slugs("sinks-dropped"), _sinks_dropped, befalls=_sunk),
    Fault("sinks shifted", _slugs("sinks-dropped", "sinks-wrong"), _sinks_shifted, befalls=_sunk),
    Fault("kv heads tiled", _slugs("head-map-wrong"), _tiled, befalls=_grouped),
    Fault("position bias lost", _slugs("bias-dropped"), _bias_dropped, befalls=_biased),
    Fault("NaN rows", _slugs("nan-rows"), _nan),
    Fault("dropout in eval", _slugs("dropout-active", "numeric-drift"), _dropout),
)


def _right(call: Call) -> None:
    """The last five keys of a right-padded row become visible, although they are padding."""
    call.keep |= ~call.real & (call.distance > -WINDOW)


@dataclass
class Plant:
    """A fault that is switched on; spoiled: it met something that it could spoil."""

    fault: Fault
    spoiled: bool = False


_active: Plant | None = None


@contextmanager
def planted(fault: Fault) -> Iterator[Plant]:
    """Switch one fault on for the calls inside the context."""
    global _active
    before, _active = _active, Plant(fault)
    try:
        yield _active
    finally:
        _active = before


def install() -> None:
    """Register the function under `NAME`, with the mask function of eager (always a dense mask)."""
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["eager"])
