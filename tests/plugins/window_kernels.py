"""Two kernels in plain torch under the incident's names: one with an inclusive left end, one with an exclusive one.

They run in the CPU's float16, so that the incident can be measured without a GPU. `backend` makes variants of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attncheck.backends.interface import Api, Ask, Backend, Usable

Change = Callable[[Tensor], Tensor]


def attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, scale: float) -> Tensor:
    """Float32 softmax over the kept cells; keep broadcasts to batch x heads x queries x keys."""
    logits = (q.float() @ k.float().transpose(-1, -2) * scale).masked_fill(~keep, float("-inf"))
    return (logits.softmax(-1) @ v.float()).to(q.dtype)


def distances(q: Tensor, k: Tensor) -> Tensor:
    """query - key."""
    return torch.arange(q.shape[2])[:, None] - torch.arange(k.shape[2])[None, :]


def inclusive(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, window_size: tuple[int, int], softmax_scale: float
) -> Tensor:
    """As flash-attn 2: both ends inclusive."""
    distance = distances(q, k)
    assert causal
    return attention(q, k, v, (distance >= 0) & (distance <= window_size[0]), softmax_scale)


def exclusive(change: Change = lambda keep: keep, extra: int = 0) -> Callable[..., Tensor]:
    """As cuDNN: the left bound is exclusive. change: applied to the mask. extra: added to the left bound."""

    def call(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        diagonal_alignment: str,
        diagonal_band_left_bound: int,
        diagonal_band_right_bound: int,
        attn_scale: float,
    ) -> Tensor:
        assert (diagonal_alignment, diagonal_band_right_bound) == ("TOP_LEFT", 0)
        distance = distances(q, k)
        keep = (distance >= 0) & (distance < diagonal_band_left_bound + extra)
        return attention(q, k, v, change(keep), attn_scale)

    return call


def api(name: str, call: Callable[..., Any]) -> Api:
    """A callable under an API's name; whatever is asked of it is said in the words of the inclusive one."""

    def spell(ask: Ask, q_len: int, kv_len: int) -> dict[str, Any]:
        return {"causal": True, "window_size": (ask.window.left, 0), "softmax_scale": ask.scale}

    return Api(name, name, "bshd", lambda: call, spell, devices=("cpu",))


def backend(second: Callable[..., Any] | None = None, **further: Callable[..., Any]) -> Backend:
    """The pair, with another second kernel, and further APIs by name (underscores for hyphens)."""
    named = {name.replace("_", "-"): call for name, call in further.items()}
    calls = {"flash-attn-2": inclusive, "cudnn-graph": second or exclusive(), **named}
    return Backend("fake", (), lambda *_: Usable(), tuple(api(name, call) for name, call in calls.items()))


BACKEND = backend()
