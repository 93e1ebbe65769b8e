"""`flash_attn.bert_padding` (2.8.3) in plain torch: what transformers takes from the package besides its kernels."""

from __future__ import annotations

import torch
from torch import Tensor


def index_first_axis(x: Tensor, indices: Tensor) -> Tensor:
    """Rows `indices` of x; x is (rows, ...)."""
    return x[indices]


def unpad_input(
    hidden_states: Tensor, attention_mask: Tensor, unused_mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, int, Tensor]:
    """Drop the padding of (batch, seqlen, ...): tokens, flat indices, int32 cumulative lengths, longest, used lengths.

    attention_mask: (batch, seqlen), 1 = valid. Five values, as the package returns since 2.7.
    """
    every = attention_mask if unused_mask is None else attention_mask + unused_mask
    lengths = every.sum(dim=-1, dtype=torch.int32)
    used = attention_mask.sum(dim=-1, dtype=torch.int32)
    indices = torch.nonzero(every.flatten(), as_tuple=False).flatten()
    cu_seqlens = torch.nn.functional.pad(torch.cumsum(lengths, dim=0, dtype=torch.int32), (1, 0))
    flat = hidden_states.reshape(-1, *hidden_states.shape[2:])
    return flat[indices], indices, cu_seqlens, int(lengths.max()), used


def pad_input(hidden_states: Tensor, indices: Tensor, batch: int, seqlen: int) -> Tensor:
    """The reverse: (tokens, ...) to (batch, seqlen, ...) with zeros where `indices` names no token."""
    flat = hidden_states.new_zeros(batch * seqlen, *hidden_states.shape[1:])
    return flat.index_copy(0, indices.long(), hidden_states).view(batch, seqlen, *hidden_states.shape[1:])
