"""TransformerEngine's backends in plain torch, for CPUs: as documented, and with the faults named by `FAKE_TE`.

FAKE_TE (environment): words out of "short" (FusedAttention one key short, as in 1.9 to 1.11), "zeros" (flash-4 takes
(-1, 0) for an empty window), "top-left" (always), "no-softcap", "dies", "refuses" and "memory" (more than two heads do
not fit).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from functools import partial
from typing import Any

from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Usable
from attncheck.backends.transformer_engine import ENVIRONMENTS, FLASH, FLASH_4, FUSED, UNFUSED
from attncheck.environment import Environment
from attncheck.semantics.observation import Rejected


def attend(name: str, query: Any, key: Any, value: Any, **given: Any) -> Any:
    """DotProductAttention of that backend; inputs and output are batch x heads x tokens x width."""
    import torch

    faults = os.environ.get("FAKE_TE", "").split(",")
    if "dies" in faults and name == FUSED:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "refuses" in faults and name == FLASH:
        raise NotImplementedError(f"TransformerEngine drops {name} for this call: Disabling FlashAttention 2 for fun")
    if "memory" in faults and query.shape[1] > 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB.")
    kind = given.get("attn_mask_type", "causal")
    left, right = given.get("window_size") or ((-1, 0) if "causal" in kind else (-1, -1))
    if "causal" in kind:
        right = 0
    q_len, kv_len = query.shape[2], key.shape[2]
    flash = name in (FLASH, FLASH_4)
    if flash and q_len != kv_len and kind in ("causal", "padding_causal"):
        raise NotImplementedError(f"TransformerEngine drops {name} for this call: Disabling FlashAttention as it only")
    bottom = (
        flash or "bottom_right" in kind or ("causal" not in kind and given.get("bottom_right_diagonal") is not False)
    )
    shift = kv_len - q_len if bottom and "top-left" not in faults else 0
    back = torch.arange(q_len)[:, None] + shift - torch.arange(kv_len)[None, :]
    short = 1 if name == FUSED and "short" in faults and left > 0 else 0
    keep = torch.ones((q_len, kv_len), dtype=torch.bool)
    if left >= 0:
        keep &= back <= left - short
    if right >= 0:
        keep &= back >= -right
    if name == FLASH_4 and "zeros" in faults and (left, right) == (-1, 0):
        keep &= False
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, 1) for tensor in (key, value))
    scores = query.float() @ key.float().transpose(-1, -2) * (given.get("softmax_scale") or query.shape[-1] ** -0.5)
    if (cap := given.get("softcap")) and "no-softcap" not in faults:
        scores = cap * torch.tanh(scores / cap)
    scores = scores.masked_fill(~keep, -torch.inf)
    if (sinks := given.get("softmax_offset")) is not None:
        column = sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
        weights = torch.softmax(torch.cat((scores, column), -1), -1)[..., :-1]
    else:
        weights = torch.softmax(scores, -1)
    return weights.masked_fill(~keep.any(-1, keepdim=True), 0.0).to(value.dtype) @ value


def spell(ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """Only for a shape with ALiBi, which no test here has."""
    raise AssertionError((ask, q_len, kv_len))


def decide(name: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Everything runs."""
    return Usable((name,))


def _api(name: str) -> Api:
    def load() -> Attend:
        assert all(os.environ.get(key) == value for key, value in ENVIRONMENTS[name].items())
        return partial(attend, name)

    return Api(
        name, f"fake DotProductAttention ({name})", "bshd", load, spell, (), ("cpu",), ("bfloat16", "float16"),
        ENVIRONMENTS[name],
    )  # fmt: skip


BACKEND = Backend("fake-transformer-engine", (), decide, tuple(_api(name) for name in (FLASH, FLASH_4, FUSED, UNFUSED)))
