"""What a kernel puts into the output rows of queries that see no key."""

from __future__ import annotations

import torch
from torch import Tensor

from attncheck.backends.interface import Ask
from attncheck.probe.kernels.accuracy import deviation, distance
from attncheck.probe.kernels.identity import tensors
from attncheck.probe.kernels.subject import Subject
from attncheck.probe.reading.reference import Terms
from attncheck.semantics.convention import EMPTY_ROWS, Ability, Outcome
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import FULL
from attncheck.semantics.tolerances import tolerances

TOKENS = 64
#: Queries that a mask leaves without keys: among others, and the last one.
WITHOUT_KEYS = (5, 40, 63)


def outcome(probed: Subject, variant: str) -> Ability:
    """One way of leaving rows without keys; the other rows of the same call are compared with float64 attention.

    variant: of `EMPTY_ROWS`; with more queries than keys the call is causal, aligned bottom-right.
    """
    q_len, kv_len = TOKENS, TOKENS // 2 if variant == EMPTY_ROWS[-1] else TOKENS
    i = torch.arange(q_len, device=probed.device)[:, None]
    j = torch.arange(kv_len, device=probed.device)[None, :]
    keep = j <= i + kv_len - q_len
    ask = Ask()
    if kv_len == q_len:
        keep[list(WITHOUT_KEYS)] = False
        ask = Ask(window=FULL, mask=_mask(keep, variant, probed.dtype)[None, None])
    call = probed.asked(ask, q_len, kv_len)
    given = tensors(probed, q_len, kv_len)
    value = given.value.clone()
    value[..., 0] = 1  # the first column of the output is then the row sum
    with torch.no_grad():
        output = call(given.query, given.key, value)
    empty = ~keep.any(-1)
    found = deviation(output, given.query, given.key, value, keep, Terms(given.scale))
    return Ability(
        probed.api.name,
        "empty-rows",
        f"{variant}: {contents(output, value, empty)}",
        Outcome.READ,
        Basis.MEASURED,
        found.agrees,
        detail="" if found.agrees else f"rows that do see keys are {found.words}",
        figures={variant: contents(output, value, empty), "relative error": found.error, "limit": found.limit},
    )


def contents(output: Tensor, value: Tensor, empty: Tensor) -> str:
    """In words: "0", "NaN", "mean of V", or the row sum. empty: booleans, one a query."""
    rows = output[:, :, empty]
    if not bool(rows.isfinite().all()):
        return "NaN"
    if bool((rows == 0).all()):
        return "0"
    group = output.shape[1] // value.shape[1]
    mean = value.double().mean(2, keepdim=True).repeat_interleave(group, 1).expand_as(rows)
    every = torch.ones(rows.shape[:3], dtype=torch.bool, device=rows.device)
    if distance(rows, mean, every) <= tolerances(str(output.dtype).removeprefix("torch.")).gradient:
        return "mean of V"
    return f"row sum {float(rows[..., 0].float().median()):.3g}"


def _mask(keep: Tensor, variant: str, dtype: torch.dtype) -> Tensor:
    if variant == "bool":
        return keep
    low = -torch.inf if variant == "-inf" else torch.finfo(dtype).min
    return torch.zeros(keep.shape, dtype=dtype, device=keep.device).masked_fill(~keep, low)
