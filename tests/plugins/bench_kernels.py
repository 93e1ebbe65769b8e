"""Kernel APIs in plain torch for the bench: right ones in every layout, and ones that are wrong, refuse or break."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from functools import partial
from typing import Any

from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Usable
from attncheck.environment import Environment
from attncheck.semantics.observation import Reason, Rejected

#: Tokens from which some of them break: beyond what a check uses.
LONG = 300


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
    bounds: Any = None,
    fault: str = "",
) -> Any:
    """Bottom-right aligned; left, right as in `Window`. bounds: of packed sequences. fault: see `FAULTS`."""
    import torch

    q_len, kv_len = query.shape[2], key.shape[2]
    if fault == "dies" and q_len > LONG:
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "runs-out" and q_len > LONG:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")
    if fault == "slips" and q_len > LONG:
        return {}["missing"]
    if fault == "refuses-long" and q_len > LONG:
        raise RuntimeError("sequences of at most 300 tokens. Use another kernel.")
    if fault == "forward-only" and query.requires_grad:
        raise NotImplementedError("there is no backward pass")
    heads = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(heads, 1), value.repeat_interleave(heads, 1)
    if fault == "wrong-gradient":
        key = key + (key - key.detach())
    scores = query.float() @ key.float().transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if softcap is not None and fault != "no-softcap":
        scores = softcap * torch.tanh(scores / softcap)
    rows = torch.arange(kv_len - q_len, kv_len)[:, None]
    columns = torch.arange(kv_len)[None, :]
    back = rows - columns
    keep = torch.ones_like(back, dtype=torch.bool)
    left = None if fault == "no-window" else left
    keep = keep if left is None else keep & (back <= left)
    keep = keep if right is None else keep & (-back <= right)
    if bounds is not None and fault != "one-document":
        (q_ends, _), (k_ends, _) = bounds
        if fault != "decode" and q_len == kv_len:
            keep = keep & (torch.bucketize(rows, q_ends, right=True) == torch.bucketize(columns, k_ends, right=True))
    if mask is not None and fault != "no-padding":
        keep = mask
    weights = torch.softmax(scores.masked_fill(~keep, torch.finfo(scores.dtype).min), -1)
    return weights.to(value.dtype) @ value


def spell(ask: Ask, q_len: int, kv_len: int, masks: bool = True) -> Mapping[str, Any] | Rejected:
    """All but ALiBi and sinks."""
    for name in ("slopes", "sinks", *(() if masks else ("mask",))):
        if getattr(ask, name) is not None:
            return Rejected((Reason(f"no argument for {name}"),))
    told: dict[str, Any] = {"scale": ask.scale, "softcap": ask.softcap}
    return (
        {**told, "mask": ask.mask}
        if ask.mask is not None
        else told | {"left": ask.window.left, "right": ask.window.right}
    )


FAULTS = (
    "no-window",
    "no-softcap",
    "no-padding",
    "wrong-gradient",
    "runs-out",
    "slips",
    "dies",
    "refuses-long",
    "forward-only",
)


def load(fault: str) -> Attend:
    """The function with one fault, "" for none."""
    return partial(attend, fault=fault)


def unloadable() -> Attend:
    """An import that fails."""
    raise ImportError("libmade.so: cannot open shared object file")


def decide(name: str, _: Environment, __: Call) -> Usable | Rejected:
    """One of them is not for this machine."""
    if name == "made-absent":
        return Rejected((Reason("made is not installed", "made installed", "not installed", "metadata"),))
    return Usable()


def _api(name: str, fault: str = "", layout: str = "bhsd", masks: bool = True, **more: Any) -> Api:
    known = ("float16", "bfloat16", "float32")
    values = {"load": partial(load, fault), "devices": ("cpu",), "dtypes": known, **more}
    return Api(name, f"made.{name}", layout, spell=partial(spell, masks=masks), **values)


BACKEND = Backend(
    "made",
    (),
    decide,
    (
        _api("made-right"),
        _api("made-bshd", layout="bshd", masks=False),
        _api("made-packed", layout="thd", masks=False),
        _api("made-one-document", "one-document", layout="thd", masks=False),
        *(_api(f"made-{fault}", fault) for fault in FAULTS),
        _api("made-absent"),
        _api("made-unloadable", load=unloadable),
        _api("made-for-gpus", devices=("cuda",)),
    ),
)
