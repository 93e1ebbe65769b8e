"""What users get without choosing a kernel: matmul-softmax-matmul, SDPA as torch dispatches it, uncompiled flex."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from attncheck.backends import flex_attention, sdpa
from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Usable, judge
from attncheck.backends.masks import Drawn, band, shift
from attncheck.backends.spelling import lacking
from attncheck.backends.torch_limits import TORCH_LIMITS
from attncheck.environment import Environment
from attncheck.semantics.observation import Rejected
from attncheck.semantics.spec import FULL

EAGER, SDPA, UNCOMPILED_FLEX = "eager", "sdpa", "flex_attention-uncompiled"
_DTYPES = ("float16", "bfloat16", "float32", "float64")


def load_eager() -> Attend:
    """matmul, softmax and matmul as `attend(q, k, v, mask, scale, softcap, sinks)`, each in the dtype of the inputs.

    Shapes as in `sdpa.load`. mask: bool tensor (True = visible) or additive, or a function of (q, k) that gives one.
    sinks: one logit a query head. kv heads are repeated, as transformers' `repeat_kv` does.
    """
    import torch

    def attend(
        query: Any,
        key: Any,
        value: Any,
        *,
        mask: Any = None,
        scale: float | None = None,
        softcap: float | None = None,
        sinks: Any = None,
    ) -> Any:
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = torch.matmul(query, key.transpose(-1, -2)) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        mask = mask(query, key) if isinstance(mask, Drawn) else mask
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        elif mask is not None:
            scores = scores + mask.to(scores.dtype)
        if sinks is None:
            return torch.matmul(torch.softmax(scores, -1), value)
        column = sinks.to(scores).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        return torch.matmul(torch.softmax(torch.cat((scores, column), -1), -1)[..., :-1], value)

    return attend


def spell_eager(ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """All but ALiBi and dropout; a window becomes an additive mask, as transformers hands it to eager attention."""
    if reasons := lacking(ask, "eager attention", "attncheck", "slopes", "dropout"):
        return Rejected(reasons)
    mask = ask.mask
    if mask is None and ask.window != FULL:
        mask = Drawn(band(ask.window, shift(ask.alignment, q_len, kv_len)), hidden="min")
    return {"mask": mask, "scale": ask.scale, "softcap": ask.softcap, "sinks": ask.sinks}


def spell_sdpa(ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """As for its single kernels; beside a mask kv heads are repeated, as transformers does (`use_gqa_in_sdpa`, 5.x):
    torch has no fused kernel for a mask with grouped heads and would take the math kernel.
    """
    arguments = sdpa.spell(ask, q_len, kv_len)
    if isinstance(arguments, Rejected) or "attn_mask" not in arguments:
        return arguments
    return {**arguments, "enable_gqa": False}


def decide(name: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable wherever torch has the device; SDPA and flex_attention by their own backends."""
    if name == SDPA:
        return sdpa.BACKEND.decide("sdpa", environment, call)
    if name == UNCOMPILED_FLEX:
        return flex_attention.BACKEND.decide("flex_attention", environment, call)
    reasons = judge(TORCH_LIMITS, environment, call)
    return Rejected(reasons) if reasons else Usable((name,))


def called_by_layers(api: Api, inputs: str) -> bool:
    """True for the API that the implementation `api.serves` of transformers calls for such inputs.

    It leaves the choice of a kernel to SDPA, and takes the packed functions of flash-attention for padding and
    documents only. inputs: "plain", "padded" or "packed".
    """
    forced = api.serves == "sdpa" and api.name != SDPA
    return bool(api.serves) and not forced and (api.layout == "thd") == (inputs != "plain" and "flash" in api.name)


BACKEND = Backend(
    "baselines",
    (),
    decide,
    (
        Api(
            EAGER,
            "torch.matmul, softmax, matmul",
            "bhsd",
            load_eager,
            spell_eager,
            devices=("cuda", "cpu"),
            dtypes=_DTYPES,
            serves="eager",
        ),
        Api(
            SDPA,
            "torch.nn.functional.scaled_dot_product_attention",
            "bhsd",
            partial(sdpa.load, ""),
            spell_sdpa,
            devices=("cuda", "cpu"),
            dtypes=_DTYPES,
            serves="sdpa",
        ),
        Api(
            UNCOMPILED_FLEX,
            "torch.nn.attention.flex_attention.flex_attention without torch.compile",
            "bhsd",
            partial(flex_attention.load, False),
            flex_attention.spell,
            devices=("cuda", "cpu"),
            dtypes=("float16", "bfloat16", "float32"),
        ),
    ),
)
