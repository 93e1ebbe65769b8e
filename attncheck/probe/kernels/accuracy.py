"""How exact a kernel is: its distance to float64 attention beside that of plain torch in the same precision."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attncheck.probe.reading.reference import Terms, attention, interleaved
from attncheck.semantics.tolerances import tolerances

#: flash-attention's own tests allow a kernel twice the error of a plain torch computation in the same precision.
FACTOR = 2.0


@dataclass(frozen=True, slots=True)
class Deviation:
    """Largest distances to float64 attention, each row's relative to that row's largest entry. NaN: not finite.

    error: of the kernel. plain: of plain torch in the same precision. dtype: torch's short name.
    """

    error: float
    plain: float
    dtype: str

    @property
    def limit(self) -> float:
        """Twice the error of plain torch, and at least the dtype's tolerance: on few keys plain torch may be exact."""
        return max(FACTOR * self.plain, tolerances(self.dtype).gradient)

    @property
    def agrees(self) -> bool:
        """True when the kernel is as exact as it must be; never for NaN."""
        return self.error <= self.limit

    @property
    def words(self) -> str:
        """The numbers behind the verdict."""
        off = "NaN or Inf in the output" if math.isnan(self.error) else f"off by {self.error:.2g} of the row's size"
        return f"{off} (plain torch: {self.plain:.2g})"


def deviation(
    output: Tensor, query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None, terms: Terms
) -> Deviation:
    """How far `output`, batch x heads x queries x head_dim_v, lies from the attention of these inputs.

    keep: True = visible, broadcastable to batch x heads x queries x keys. Rows that see no key are left out.
    """
    exact = attention(query, key, value, keep, terms)
    judged = exact.new_ones(exact.shape[:3], dtype=torch.bool)
    if keep is not None:
        judged = judged & keep.to(exact.device).any(-1).expand(exact.shape[:3])
    dtype = str(output.dtype).removeprefix("torch.")
    plain_error = distance(plain(query, key, value, keep, terms), exact, judged)
    return Deviation(distance(output, exact, judged), 0.0 if math.isnan(plain_error) else plain_error, dtype)


def distance(output: Tensor, exact: Tensor, judged: Tensor) -> float:
    """Largest difference in the judged rows, relative to each row's largest entry; NaN where one is not finite."""
    if output.shape != exact.shape:
        raise ValueError(f"attention gave {tuple(output.shape)}, expected {tuple(exact.shape)}")
    if not bool(output[judged].isfinite().all()):
        return math.nan
    sizes = exact.abs().amax(-1).clamp_min(torch.finfo(torch.float64).tiny)
    relative = (output.double() - exact).abs().amax(-1) / sizes
    return float(relative[judged].max()) if bool(judged.any()) else 0.0


def plain(query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None, terms: Terms) -> Tensor:
    """The same attention from plain torch operations, each in the dtype of the inputs."""
    group = terms.head_map if terms.head_map is not None else interleaved(query.shape[1], key.shape[1])
    heads = list(group)
    scores = (query @ key[:, heads].transpose(-1, -2)) * terms.scale
    if terms.softcap is not None:
        scores = terms.softcap * torch.tanh(scores / terms.softcap)
    if terms.bias is not None:
        scores = scores + terms.bias.to(scores)
    if keep is not None:
        scores = scores.masked_fill(~keep.to(scores.device), -torch.inf)
    if terms.sinks is not None:
        column = terms.sinks.to(scores).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        weights = torch.softmax(torch.cat((scores, column), -1), -1)[..., :-1]
    else:
        weights = torch.softmax(scores, -1)
    return weights.nan_to_num(0.0) @ value[:, heads]
