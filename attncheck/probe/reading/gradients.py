"""The backward of an attention callable against autograd through float64 attention with the same mask and terms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from attncheck.probe.reading.kernel import Call
from attncheck.probe.reading.reference import Terms, attention
from attncheck.semantics.observation import GradientObservation


def compare(
    call: Call, query: Tensor, key: Tensor, value: Tensor, keep: Tensor, rows: Tensor, terms: Terms, seed: int
) -> GradientObservation:
    """Backward of `call` at these inputs, from a random upstream gradient, against the reference's.

    value: gives shape and dtype only; random values are used. keep: batch x heads x queries x keys, the mask that the
    call was seen to apply. rows: batch x queries; the upstream gradient is zero elsewhere.
    """
    generator = torch.Generator().manual_seed(seed)
    values = torch.empty_like(value).copy_(torch.randn(value.shape, generator=generator))
    upstream = torch.randn((*query.shape[:3], value.shape[-1]), generator=generator).to(query.device, torch.float64)
    upstream = upstream * rows[:, None, :, None]
    with torch.enable_grad():
        leaves = [x.detach().clone().requires_grad_() for x in (query, key, values)]
        output = call(*leaves)
        measured = backward(output, leaves, upstream.to(output.dtype))
        exact = [x.detach().double().requires_grad_() for x in leaves]
        reference = backward(attention(exact[0], exact[1], exact[2], keep, terms), exact, upstream)
    return GradientObservation(*(_distance(a, b) for a, b in zip(measured, reference)))


def backward(output: Tensor, leaves: Sequence[Tensor], upstream: Tensor) -> tuple[Tensor, ...]:
    """Exactly `torch.autograd.grad(output, leaves, upstream)`. upstream: of the shape and type of output.

    Given an upstream gradient, that function imports sympy, which takes longer than all readings on a CPU.
    """
    gradients: tuple[Tensor, ...] = torch.autograd.grad((output * upstream).sum(), leaves)
    return gradients


def _distance(measured: Tensor, reference: Tensor) -> float:
    """Largest difference relative to the largest reference entry; NaN where the measured one holds NaN or Inf."""
    if not bool(measured.isfinite().all()):
        return math.nan
    size = float(reference.abs().max())
    worst = float((measured.double() - reference).abs().max())
    return worst / size if size else worst
