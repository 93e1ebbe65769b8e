"""Outputs and gradients of a long call at a few chosen queries, against float64 attention of those queries alone.

The loss reads the chosen rows only, so that a reference of O(rows x tokens) is the whole truth about dk and dv as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attncheck.probe.kernels.accuracy import plain
from attncheck.probe.reading.reference import Terms, attention
from attncheck.semantics.shape import Errors

#: Cells of P that the reference holds at once: 128 MiB in float64.
_CELLS = 1 << 24
#: Keys whose gradients are judged together: the tile of the known kernels.
_BLOCK = 64
#: Rows with fewer visible keys have hardly any dq (one key: none at all), and rounding is all that is left of it.
_FEW_KEYS = 8
#: A row or block smaller than this share of the largest one is judged by that: nothing but rounding is in it.
_SMALL = 1e-3

Attention = Callable[[Tensor, Tensor, Tensor, Tensor, Terms], Tensor]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the reference needs. rows: indices among the queries. keep: rows x keys. upstream: the gradient of the
    output at these rows, batch x heads x rows x head_dim_v. terms: sinks and bias are those of all heads.
    """

    rows: Tensor
    keep: Tensor
    upstream: Tensor
    terms: Terms


@dataclass(frozen=True, slots=True)
class Measured:
    """What the call gave. output: batch x heads x queries x head_dim_v. dq, dk, dv: None without a backward pass."""

    output: Tensor
    dq: Tensor | None = None
    dk: Tensor | None = None
    dv: Tensor | None = None


def errors(query: Tensor, key: Tensor, value: Tensor, chosen: Chosen, measured: Measured) -> tuple[Errors, Errors]:
    """(of the kernel, of plain torch in the same dtype), each against float64; one kv head after another.

    query, key, value: what the call was fed, batch x heads x tokens x width, query heads interleaved over kv heads.
    """
    kernel, reference = _Worst(), _Worst()
    group = query.shape[1] // key.shape[1]
    many = chosen.keep.sum(-1)
    few = many < min(_FEW_KEYS, int(many.max()))
    for head in range(key.shape[1]):
        heads = slice(head * group, (head + 1) * group)
        exact = _one_kv_head(attention, query, key, value, head, heads, chosen, exact=True)
        rough = _one_kv_head(plain, query, key, value, head, heads, chosen, exact=False)
        seen = _Part(
            measured.output[:, heads][:, :, chosen.rows],
            None if measured.dq is None else measured.dq[:, heads][:, :, chosen.rows],
            None if measured.dk is None else measured.dk[:, head : head + 1],
            None if measured.dv is None else measured.dv[:, head : head + 1],
        )
        kernel.add(seen, exact, few)
        reference.add(rough, exact, few)
    if measured.dq is not None and _outside(measured.dq, chosen.rows) > 0:
        # No loss reads the other rows: whatever gradient they have belongs somewhere else.
        kernel.dq = max(kernel.dq, _outside(measured.dq, chosen.rows) / max(_largest(measured.dq, chosen.rows), 1e-30))
    return kernel.errors(measured.dq is not None), reference.errors(measured.dq is not None)


@dataclass(frozen=True, slots=True)
class _Part:
    """Output and gradients of one kv head and its query heads; dq, dk, dv are None where there are none."""

    output: Tensor
    dq: Tensor | None
    dk: Tensor | None
    dv: Tensor | None


def _one_kv_head(
    compute: Attention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    head: int,
    heads: slice,
    chosen: Chosen,
    *,
    exact: bool,
) -> _Part:
    dtype = torch.float64 if exact else query.dtype
    leaves = [
        tensor.detach().to(dtype, copy=True).requires_grad_()
        for tensor in (query[:, heads][:, :, chosen.rows], key[:, head : head + 1], value[:, head : head + 1])
    ]
    outputs, gradients = [], [torch.zeros_like(leaf) for leaf in leaves]
    with torch.enable_grad():
        for part in _parts(leaves[0].shape[1], chosen):
            output = compute(leaves[0][:, part], leaves[1], leaves[2], chosen.keep, _terms(chosen.terms, heads, part))
            upstream = chosen.upstream[:, heads][:, part].to(dtype)
            for total, gradient in zip(gradients, torch.autograd.grad(output, leaves, upstream)):
                total += gradient
            outputs.append(output.detach())
    return _Part(torch.cat(outputs, 1), *gradients)


def _parts(heads: int, chosen: Chosen) -> Iterator[slice]:
    """Query heads that fit together under `_CELLS`."""
    step = max(1, _CELLS // max(1, chosen.keep.numel()))
    for first in range(0, heads, step):
        yield slice(first, min(heads, first + step))


def _terms(terms: Terms, heads: slice, part: slice) -> Terms:
    def of_heads(values: Tensor | None, dim: int) -> Tensor | None:
        return None if values is None else values.narrow(dim, heads.start, heads.stop - heads.start)

    sinks, bias = of_heads(terms.sinks, 0), of_heads(terms.bias, 1)
    return Terms(
        terms.scale, terms.softcap, None if bias is None else bias[:, part], None if sinks is None else sinks[part]
    )


class _Worst:
    """The largest distances over the kv heads seen so far."""

    def __init__(self) -> None:
        self.output = self.dq = self.dk = self.dv = 0.0

    def add(self, seen: _Part, exact: _Part, few: Tensor) -> None:
        self.output = _worse(self.output, _by_row(seen.output, exact.output))
        if seen.dq is None or seen.dk is None or seen.dv is None:
            return
        assert exact.dq is not None
        assert exact.dk is not None
        assert exact.dv is not None
        self.dq = _worse(self.dq, _by_row(seen.dq[:, :, ~few], exact.dq[:, :, ~few]))
        self.dk = _worse(self.dk, _by_block(seen.dk, exact.dk))
        self.dv = _worse(self.dv, _by_block(seen.dv, exact.dv))

    def errors(self, backward: bool) -> Errors:
        return Errors(self.output, self.dq, self.dk, self.dv) if backward else Errors(self.output)


def _worse(first: float, second: float) -> float:
    return math.nan if math.isnan(first) or math.isnan(second) else max(first, second)


def _by_row(seen: Tensor, exact: Tensor) -> float:
    return _relative((seen.double() - exact).norm(dim=-1), exact.double().norm(dim=-1))


def _by_block(seen: Tensor, exact: Tensor) -> float:
    squares = [x.pow(2).sum(-1) for x in (seen.double() - exact, exact.double())]
    padded = [torch.nn.functional.pad(x, (0, -x.shape[-1] % _BLOCK)) for x in squares]
    wrong, size = (x.unflatten(-1, (-1, _BLOCK)).sum(-1).sqrt() for x in padded)
    return _relative(wrong, size)


def _relative(wrong: Tensor, size: Tensor) -> float:
    """The largest quotient; sizes below a small share of the largest count as that share."""
    if not bool(wrong.isfinite().all()):
        return math.nan
    floor = max(float(size.max()) * _SMALL, torch.finfo(torch.float64).tiny)
    return float((wrong / size.clamp_min(floor)).max())


def _outside(gradient: Tensor, rows: Tensor) -> float:
    others = torch.ones(gradient.shape[2], dtype=torch.bool, device=gradient.device)
    others[rows] = False
    return max((float(head[others].abs().max()) for head in gradient[0]), default=0.0) if bool(others.any()) else 0.0


def _largest(gradient: Tensor, rows: Tensor) -> float:
    return float(gradient[:, :, rows].abs().max())
