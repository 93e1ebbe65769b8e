"""Attention in float64, written to be read; autograd runs through it, so its gradients are a reference too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attncheck.semantics.keepmask import KeepMask


@dataclass(frozen=True, slots=True)
class Terms:
    """What turns q.k into probabilities, besides the mask: `softmax(cap * tanh(q.k * scale / cap) + bias, sinks)`.

    scale: one factor a query head, or one for all. softcap: cap on the scaled logits, None for none. bias: added after
    the cap, broadcastable to batch x heads x queries x keys. sinks: an extra logit a head (or a head and row:
    batch x heads x queries) that takes probability and returns no value; -inf for a head without one.
    head_map: kv head read by each query head; None is the interleaved order `h // (num_heads // num_kv_heads)`.
    """

    scale: float | Tensor
    softcap: float | None = None
    bias: Tensor | None = None
    sinks: Tensor | None = None
    head_map: Sequence[int] | None = None


def attention(query: Tensor, key: Tensor, value: Tensor, keep: Tensor | KeepMask | None, terms: Terms) -> Tensor:
    """The output, batch x heads x queries x head_dim_v, float64. Arguments as in `probabilities`."""
    weights = probabilities(query, key, keep, terms)
    return weights @ value.double()[:, _kv_heads(query, value, terms.head_map)]


def probabilities(query: Tensor, key: Tensor, keep: Tensor | KeepMask | None, terms: Terms) -> Tensor:
    """P, batch x heads x queries x keys, float64.

    query: batch x heads x queries x head_dim. key: batch x kv heads x keys x head_dim. keep: True = visible,
    broadcastable to P; None = every key. A row without a visible key is all zeros.
    """
    scores = logits(query, key, terms)
    visible = torch.ones_like(scores, dtype=torch.bool) if keep is None else _visible(keep, scores)
    scores = scores.masked_fill(~visible, -torch.inf)
    top = scores.detach().amax(-1, keepdim=True)
    sinks = None if terms.sinks is None else _per_row(terms.sinks.to(scores), scores)
    if sinks is not None:
        top = torch.maximum(top, sinks.detach())
    top = top.nan_to_num(neginf=0.0)
    raised = torch.exp(scores - top)
    total = raised.sum(-1, keepdim=True)
    if sinks is not None:
        total = total + torch.exp(sinks - top)
    return raised / torch.where(total > 0, total, torch.ones_like(total))


def logits(query: Tensor, key: Tensor, terms: Terms) -> Tensor:
    """What goes into softmax before masking, batch x heads x queries x keys, float64."""
    dots = query.double() @ key.double()[:, _kv_heads(query, key, terms.head_map)].transpose(-1, -2)
    scale = terms.scale
    scores = dots * (scale.to(dots).view(1, -1, 1, 1) if isinstance(scale, Tensor) else scale)
    if terms.softcap is not None:
        scores = terms.softcap * torch.tanh(scores / terms.softcap)
    if terms.bias is not None:
        scores = scores + terms.bias.to(scores)
    return scores


def interleaved(num_heads: int, num_kv_heads: int) -> tuple[int, ...]:
    """The kv head of each query head where neighbours share one: `h // (num_heads // num_kv_heads)`."""
    return tuple(head // (num_heads // num_kv_heads) for head in range(num_heads))


def keep_tensor(mask: KeepMask, device: torch.device | None = None) -> Tensor:
    """The mask as booleans, queries x keys."""
    width = max(1, -(-mask.kv_len // 8))
    data = bytearray().join(row.to_bytes(width, "little") for row in mask.rows)
    packed = torch.frombuffer(data, dtype=torch.uint8) if data else torch.zeros(0, dtype=torch.uint8)
    bits = packed.view(mask.q_len, width, 1) >> torch.arange(8, dtype=torch.uint8) & 1
    return bits.view(mask.q_len, width * 8)[:, : mask.kv_len].bool().to(device)


def _kv_heads(query: Tensor, shared: Tensor, head_map: Sequence[int] | None) -> list[int]:
    return list(interleaved(query.shape[1], shared.shape[1]) if head_map is None else head_map)


def _visible(keep: Tensor | KeepMask, scores: Tensor) -> Tensor:
    given = keep_tensor(keep, scores.device) if isinstance(keep, KeepMask) else keep.to(scores.device)
    return given.expand_as(scores)


def _per_row(sinks: Tensor, scores: Tensor) -> Tensor:
    return sinks.view(1, -1, 1, 1) if sinks.dim() == 1 else sinks.reshape(*sinks.shape[:3], 1)
