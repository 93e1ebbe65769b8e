"""Synthetic queries and keys with logits of a chosen size, whatever scale the model uses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_CHANNEL_SIZE = 4.0


def widened(bias: Tensor) -> Tensor:
    """A learned bias with a spread of at least 1, which an untrained model's may lack by far.

    Half precision cannot show whether a bias of 0.02 was added; the same bias scaled up, it can.
    """
    spread = float(bias.detach().float().std())
    return bias / spread if 0 < spread < 1 else bias


def flat(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Queries of zero: every visible key of a row gets the same probability, so nothing can underflow."""
    return torch.zeros_like(query), torch.zeros_like(key)


def spread(query: Tensor, key: Tensor, scale: float, seed: int, base: float = 0.0) -> tuple[Tensor, Tensor]:
    """Queries and keys whose scaled logits are about N(base, 1), in the shapes, layout and dtype of those given.

    With a base, the first channel of the head carries it alone: 4 in each query and `base / (4 * scale)` in each key,
    so that every q.k of every row rises by the same `base / scale`. Needs a head_dim of at least 2 then.
    """
    generator = torch.Generator().manual_seed(seed)
    size = math.sqrt(1 / (abs(scale) * math.sqrt(query.shape[-1])))
    made = [torch.randn(like.shape, generator=generator) * size for like in (query, key)]
    if base:
        made[0][..., 0] = _CHANNEL_SIZE
        made[1][..., 0] = base / (_CHANNEL_SIZE * scale)
    return torch.empty_like(query).copy_(made[0]), torch.empty_like(key).copy_(made[1])
