"""What a flash-attention call computes, in plain torch: the meaning that the FA2, FA3 and FA4 signatures share.

Differences to a kernel, on purpose: float32 is accepted (a probe wants exact numbers), devices are not limited, and
what a kernel would read out of bounds raises `ContractError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Bound = int | None


class ContractError(RuntimeError):
    """A call that the library documents as invalid; a real kernel would refuse it or read out of bounds."""


@dataclass(frozen=True, slots=True)
class Softmax:
    """The softmax terms of a call: softcap 0 is none; slopes (H,) or (B, H); sinks (H,); dropout a probability."""

    scale: float | None
    softcap: float = 0.0
    slopes: Tensor | None = None
    sinks: Tensor | None = None
    dropout: float = 0.0


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, distance: Tensor, terms: Softmax) -> tuple[Tensor, Tensor]:
    """Attention over (B, S, H, D) tensors with kv heads interleaved (query head h reads kv head h // group).

    visible: (Sq, Sk) bool. distance: (Sq, Sk), query position minus key position on the aligned diagonal, for ALiBi.
    Computed in float32 at least. Rows without visible keys give exactly 0. Returns (B, Sq, H, Dv) and the log-sum-exp
    (B, H, Sq).
    """
    heads, kv_heads = q.shape[-2], k.shape[-2]
    if heads % kv_heads or v.shape[-2] != kv_heads:
        raise ContractError(f"{heads} query heads cannot share {kv_heads} key and {v.shape[-2]} value heads")
    work = torch.promote_types(q.dtype, torch.float32)
    q_, k_, v_ = (x.transpose(1, 2).to(work) for x in (q, k, v))
    if heads != kv_heads:
        k_, v_ = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k_, v_))
    scale = q.shape[-1] ** -0.5 if terms.scale is None else terms.scale
    logits = q_ @ k_.transpose(-1, -2) * scale
    if terms.softcap > 0:
        logits = terms.softcap * torch.tanh(logits / terms.softcap)
    if terms.slopes is not None:
        slopes = terms.slopes.reshape(-1, heads, 1, 1).to(work)
        logits = logits - slopes * distance.abs().to(work)
    empty = ~visible.any(-1, keepdim=True)
    # Rows without keys get finite logits first: a softmax over -inf alone would put NaN into the gradients too.
    logits = logits.masked_fill(~visible, float("-inf")).masked_fill(empty, 0.0)
    if terms.sinks is not None:
        column = terms.sinks.to(work).reshape(1, heads, 1, 1).expand(q.shape[0], heads, q.shape[1], 1)
        logits = torch.cat([logits, column], dim=-1)
    lse = logits.logsumexp(-1)
    probabilities = logits.softmax(-1)[..., : k.shape[1]].masked_fill(~visible, 0.0)
    if terms.dropout:
        probabilities = torch.nn.functional.dropout(probabilities, terms.dropout)
    out = (probabilities @ v_).transpose(1, 2).to(q.dtype).contiguous()  # as kernels return it: callers use `view`
    return out, lse.masked_fill(empty.squeeze(-1), float("-inf"))


def band(distance: Tensor, left: Bound, right: Bound) -> Tensor:
    """True where `-right <= distance <= left`: both ends inclusive, None unbounded."""
    keep = torch.ones_like(distance, dtype=torch.bool)
    if left is not None:
        keep &= distance <= left
    if right is not None:
        keep &= -distance <= right
    return keep


def dense(q: Tensor, k: Tensor, v: Tensor, left: Bound, right: Bound, terms: Softmax) -> tuple[Tensor, Tensor]:
    """A call over (B, S, H, D) tensors with the window bounds of `band`. Returns what `attend` returns."""
    q_len, kv_len = q.shape[1], k.shape[1]
    # Bottom-right alignment (flash-attention >= 2.1): the last query stands on the last key.
    distance = torch.arange(q_len, device=q.device)[:, None] + (kv_len - q_len) - torch.arange(kv_len, device=q.device)
    return attend(q, k, v, band(distance, left, right), distance, terms)


def varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: tuple[Tensor, Tensor],
    max_seqlens: tuple[Any, Any],
    left: Bound,
    right: Bound,
    terms: Softmax,
) -> tuple[Tensor, Tensor]:
    """A call over (total, H, D) tensors; cu_seqlens: int32 cumulative lengths for queries and keys, starting at 0.

    Bottom-right alignment inside each sequence. Tokens behind the last sequence get 0. Returns (total, H, Dv) and the
    log-sum-exp (H, total). Raises ContractError for lengths that do not fit the tensors or exceed max_seqlens.
    """
    (q_seq, q_pos, q_lens), (k_seq, k_pos, k_lens) = (
        _segments(x, cu, int(limit), name)
        for x, cu, limit, name in zip((q, k), cu_seqlens, max_seqlens, ("q", "k"), strict=True)
    )
    if len(q_lens) != len(k_lens):
        raise ContractError(f"cu_seqlens_q has {len(q_lens)} sequences, cu_seqlens_k has {len(k_lens)}")
    offset = (k_lens - q_lens)[q_seq.clamp(min=0)]
    distance = (q_pos + offset)[:, None] - k_pos
    visible = band(distance, left, right) & (q_seq[:, None] == k_seq) & (q_seq >= 0)[:, None]
    if terms.slopes is not None and terms.slopes.dim() == 2:
        raise NotImplementedError("per-sequence ALiBi slopes are not modelled for variable-length calls")
    out, lse = attend(q[None], k[None], v[None], visible, distance, terms)
    return out[0], lse[0]


def require_bounds(x: Tensor, cu_seqlens: Tensor, max_seqlen: int, name: str) -> Tensor:
    """The cumulative lengths as int64. Raises ContractError where they do not fit the tokens (first dimension of x).

    name: "q" or "k", for the message.
    """
    if cu_seqlens.dtype != torch.int32:
        raise ContractError(f"cu_seqlens_{name} must have dtype int32, got {cu_seqlens.dtype}")
    bounds = cu_seqlens.long()
    lengths = bounds.diff()
    total = x.shape[0]
    if int(bounds[0]) != 0 or bool((lengths < 0).any()) or int(bounds[-1]) > total:
        raise ContractError(
            f"cu_seqlens_{name} = {bounds.tolist()} does not fit {total} tokens: a kernel would read beyond them"
        )
    if (longest := int(lengths.max())) > max_seqlen:
        raise ContractError(f"a sequence of {longest} tokens is longer than max_seqlen_{name} = {max_seqlen}")
    return bounds


def _segments(x: Tensor, cu_seqlens: Tensor, max_seqlen: int, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Sequence number of each token (-1 behind the last sequence), position inside it, and the sequence lengths."""
    bounds = require_bounds(x, cu_seqlens, max_seqlen, name)
    lengths, total = bounds.diff(), x.shape[0]
    numbers = torch.arange(len(lengths), device=x.device)
    used = int(bounds[-1])
    sequence = torch.full((total,), -1, device=x.device)
    position = torch.zeros(total, dtype=torch.long, device=x.device)
    sequence[:used] = numbers.repeat_interleave(lengths)
    position[:used] = torch.arange(used, device=x.device) - bounds[:-1].repeat_interleave(lengths)
    return sequence, position, lengths
