"""Identity-value reading of one kernel call: which keys each query sees, and how exact the probabilities are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attncheck.probe.kernels.subject import Subject, laid_out
from attncheck.probe.reading.kernel import Call, bitsets, broken_rows, probability
from attncheck.semantics.keepmask import KeepMask

#: Heads of a reading: more than one kv head and more query heads than kv heads, so that a mask of one head shows.
NUM_HEADS = 4
NUM_KV_HEADS = 2
HEAD_DIM = 64


@dataclass(frozen=True, slots=True)
class Tensors:
    """What a call is fed: batch x heads x tokens x width."""

    query: Tensor
    key: Tensor
    value: Tensor

    @property
    def scale(self) -> float:
        """The factor on q.k that every kernel takes by itself: 1 / sqrt(head_dim)."""
        return 1 / math.sqrt(self.query.shape[-1])

    def leaves(self) -> tuple[Tensor, Tensor, Tensor]:
        """Copies that collect gradients, lying in memory as these do."""
        query, key, value = (tensor.detach().clone().requires_grad_() for tensor in (self.query, self.key, self.value))
        return query, key, value


@dataclass(frozen=True, slots=True)
class Reading:
    """One call as it was read.

    probability: batch x heads x queries x keys. mask: of the first head, exact (P > 0). odd_heads: query heads whose
    mask differs from that. nan_rows: queries with NaN or Inf in some head, whose keys are unknown. empty_rows: queries
    whose output is exactly 0 in every head. row_sums: smallest and largest over the other rows, (0, 0) without any.
    """

    probability: Tensor
    mask: KeepMask
    odd_heads: tuple[int, ...]
    nan_rows: tuple[int, ...]
    empty_rows: tuple[int, ...]
    row_sums: tuple[float, float]

    def sum_of(self, queries: tuple[int, ...]) -> float:
        """Largest row sum among these queries."""
        return float(self.probability[:, :, list(queries)].sum(-1).max())


def tensors(
    subject: Subject,
    q_len: int,
    kv_len: int,
    *,
    head_dim: int = HEAD_DIM,
    head_dim_v: int | None = None,
    num_heads: int = NUM_HEADS,
    num_kv_heads: int = NUM_KV_HEADS,
    batch: int = 1,
) -> Tensors:
    """Standard normal inputs, repeatable by the subject's seed: scaled logits are then near N(0, 1).

    So no probability underflows in any dtype: with 64 keys the smallest is near 1e-4. There are as many kv heads
    as query heads where the subject takes no grouped ones.
    """
    kv_heads = num_kv_heads if subject.grouped else num_heads
    generator = torch.Generator().manual_seed(subject.seed)

    def normal(heads: int, tokens: int, width: int) -> Tensor:
        values = torch.randn((batch, heads, tokens, width), generator=generator)
        return laid_out(values.to(subject.device, subject.dtype), subject.api.layout)

    return Tensors(
        normal(num_heads, q_len, head_dim),
        normal(kv_heads, kv_len, head_dim),
        normal(kv_heads, kv_len, head_dim if head_dim_v is None else head_dim_v),
    )


def read(call: Call, given: Tensors) -> Reading:
    """The probabilities that `call` gives to these inputs; the values of `given` serve for their shape only.

    Raises what the call raises, ValueError when the output does not have the shape of attention.
    """
    with torch.no_grad():
        matrix = probability(call, given.query, given.key, given.value)
    return reading_of(matrix)


def reading_of(matrix: Tensor) -> Reading:
    """What a probability matrix, batch x heads x queries x keys, shows. Only batch row 0 is read for the mask."""
    nan_rows = tuple(sorted({query for _, query in broken_rows(matrix)}))
    visible = matrix > 0
    q_len, kv_len = matrix.shape[-2:]
    known = torch.ones(q_len, dtype=torch.bool, device=matrix.device)
    known[list(nan_rows)] = False
    odd = (visible[0] != visible[0, :1])[:, known].flatten(1).any(-1)
    zero = (matrix == 0).all(-1).all(1).all(0)
    sums = matrix.sum(-1)[:, :, known & ~zero]
    return Reading(
        matrix,
        KeepMask(tuple(bitsets(visible[0, 0])), int(kv_len)),
        tuple(torch.nonzero(odd).flatten().tolist()),
        nan_rows,
        tuple(torch.nonzero(zero).flatten().tolist()),
        (float(sums.min()), float(sums.max())) if sums.numel() else (0.0, 0.0),
    )
