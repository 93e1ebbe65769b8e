"""A kernel API in plain torch with memory O(tokens x width), and wrong ones whose faults show at true sizes only."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from functools import partial
from typing import Any

from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Usable
from attncheck.environment import Environment
from attncheck.semantics.observation import Reason, Rejected

#: Queries computed at a time.
TILE = 64


def attend(
    query: Any,
    key: Any,
    value: Any,
    *,
    left: int | None = None,
    right: int | None = None,
    mask: Any = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    fault: str = "",
) -> Any:
    """Bottom-right aligned; left, right as in `Window`. fault: see `FAULTS`."""
    import torch

    heads, kv_heads, width = query.shape[1], key.shape[1], query.shape[-1]
    q_len, kv_len = query.shape[2], key.shape[2]
    if fault == "refuses-wide" and width > 256:
        raise RuntimeError("head_dim must be at most 256. Use another kernel.")
    if fault == "dies-at-80" and width == 80:
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "large-needs-too-much" and q_len > 256:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")
    if fault == "no-backward" and query.requires_grad:
        raise NotImplementedError("there is no backward pass for this head size")
    tiled = fault == "tiled-by-seven" and heads // kv_heads == 7
    chosen = [h % kv_heads if tiled else h // (heads // kv_heads) for h in range(heads)]
    if fault == "nan-gradients" and kv_len % 128 == 64 and mask is not None and key.requires_grad:
        key.register_hook(lambda gradient: gradient * float("nan"))
    if fault == "loses-the-last-tile" and key.requires_grad and kv_len > 1024:
        key.register_hook(_without_the_end)
    wide_key, wide_value = key[:, chosen], value[:, chosen]
    scale = width**-0.5 if scale is None else scale
    scale *= 1.05 if fault == "drifts-at-128" and width == 128 else 1.0
    left = left + 1 if fault == "late-window" and left is not None and kv_len > 1024 else left
    columns = torch.arange(kv_len)[None, :]
    outputs = []
    for first in range(0, q_len, TILE):
        part = slice(first, min(q_len, first + TILE))
        scores = (query[:, :, part].float() @ wide_key.float().transpose(-1, -2)) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        rows = torch.arange(kv_len - q_len, kv_len)[part, None]
        ahead = 1 if fault == "leaks-late" and first >= 2048 else 0
        keep = torch.ones_like(rows + columns, dtype=torch.bool)
        keep = keep if left is None else keep & (rows - columns <= left)
        keep = keep if right is None else keep & (columns - rows <= right + ahead)
        keep = keep if mask is None else keep & mask[0, 0, part]
        scores = scores.masked_fill(~keep, float("-inf"))
        if sinks is not None:
            column = sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
            scores = torch.cat((scores, column), -1)
        weights = torch.softmax(scores, -1)[..., :kv_len]
        outputs.append((weights @ wide_value.float()).to(query.dtype))
    output = torch.cat(outputs, 2)
    if fault == "zero-at-96" and width == 96:
        return output * 0
    if fault == "nan-at-96" and width == 96:
        return output * float("nan")
    return output


def _without_the_end(gradient: Any) -> Any:
    gradient = gradient.clone()
    gradient[:, :, -TILE:] = 0
    return gradient


FAULTS = (
    "late-window",
    "tiled-by-seven",
    "nan-gradients",
    "refuses-wide",
    "zero-at-96",
    "nan-at-96",
    "leaks-late",
    "drifts-at-128",
    "loses-the-last-tile",
    "dies-at-80",
    "large-needs-too-much",
    "no-backward",
)


def load(fault: str) -> Attend:
    """The function with one fault, "" for none."""
    return partial(attend, fault=fault)


def spell(ask: Ask, q_len: int, kv_len: int, masks: bool = True) -> Mapping[str, Any] | Rejected:
    """All but ALiBi."""
    if ask.slopes is not None:
        return Rejected((Reason("no argument for ALiBi"),))
    if ask.mask is not None and not masks:
        return Rejected((Reason("no argument for a mask"),))
    told = {"scale": ask.scale, "softcap": ask.softcap, "sinks": ask.sinks}
    if ask.mask is not None:
        return {**told, "mask": ask.mask}
    return {**told, "left": ask.window.left, "right": ask.window.right}


def decide(_: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Always usable."""
    return Usable()


def _api(name: str, fault: str, masks: bool = True, layout: str = "bhsd") -> Api:
    known = ("float16", "bfloat16", "float32")
    return Api(name, name, layout, partial(load, fault), partial(spell, masks=masks), (), ("cpu",), known)


BACKEND = Backend(
    "made",
    ("made_attention",),
    decide,
    (
        _api("right", ""),
        _api("right-bshd", "", masks=False, layout="bshd"),
        *(_api(fault, fault) for fault in FAULTS),
    ),
)
