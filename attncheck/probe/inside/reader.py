"""Reads the mask of one live attention call of any length with bounded memory: one block of marked keys at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from attncheck.probe.inside.choice import Chosen
from attncheck.probe.reading.replay import Replay
from attncheck.probe.reading.requested import FORBIDS
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import HeadMask

#: Query rows that are put together at a time.
_SLAB = 512
#: How far a bias may pull logits apart before visible keys come out as exact zeros: exp(-80) is 1.8e-35, just above
#: float32's smallest normal number (all kernels take their exponentials in float32).
DEEPEST = 80.0


class Unreadable(Exception):
    """Zeros of this call would not mean what they mean elsewhere; the message says why."""


@dataclass(frozen=True, slots=True)
class Masks:
    """What a call showed. masks: of all batch rows. broken: (row, query) pairs with NaN or Inf."""

    masks: tuple[HeadMask, ...]
    broken: tuple[tuple[int, int], ...]


def width(replay: Replay) -> int:
    """Value channels of one repetition."""
    return int(replay.value.shape[-1])


def need(replay: Replay, channels: int) -> int:
    """Bytes that a reading takes at most, beside the call's own inputs.

    Synthetic queries, keys and values, twice the output (kernels return it in another layout), its mask, and the bits
    of all channels if no two heads are alike.
    """
    size = replay.query.element_size()
    inputs = replay.query.numel() + replay.key.numel() + replay.value.numel()
    rows = replay.query.numel() // replay.query.shape[-1]
    bits = rows * channels // 8
    joined = _SLAB * int(replay.key.shape[2]) * 2
    return int(inputs * size + rows * width(replay) * (2 * size + 2) + bits + joined)


def read(replay: Replay, chosen: Sequence[Chosen]) -> Masks:
    """The masks of the call, exact: a key is visible where its weight is above zero.

    chosen: one entry a batch row, all with the same number of channels. All logits are equal before the mask, so
    nothing visible can underflow. Raises Unreadable for a bias so steep that it does, and what the function raises.
    """
    _flat_enough(replay)
    query, key = replay.flat_inputs()
    wide, (batch, heads, length) = width(replay), query.shape[:3]
    channels = torch.tensor([entry.channel for entry in chosen], device=replay.value.device)
    blocks: list[list[numpy.ndarray]] = [[] for _ in range(batch)]
    broken: set[tuple[int, int]] = set()
    for first in range(0, 1 + int(channels.max()), wide):
        output = replay.call(query, key, _marked(replay.value, channels, first))
        if output.shape != (batch, heads, length, wide):
            raise ValueError(f"attention gave {tuple(output.shape)}, expected {(batch, heads, length, wide)}")
        finite = output.isfinite()
        if not bool(finite.all()):
            broken |= {(int(b), int(q)) for b, q in (~finite.all(-1).all(1)).nonzero().tolist()}
        visible = output > 0
        del output, finite
        for row in range(batch):
            seen = visible[row]
            alike = bool((seen == seen[:1]).all())
            blocks[row].append(numpy.packbits((seen[:1] if alike else seen).cpu().numpy(), axis=-1, bitorder="little"))
    masks = [mask for row in range(batch) for mask in _head_masks(row, blocks[row], chosen[row], heads, wide)]
    return Masks(tuple(masks), tuple(sorted(broken)))


def unsteady(replay: Replay, chosen: Sequence[Chosen]) -> float:
    """Share of the visible cells of the first block that are visible in one of two readings only: dropout at work."""
    query, key = replay.flat_inputs()
    value = _marked(replay.value, torch.tensor([entry.channel for entry in chosen], device=replay.value.device), 0)
    one, other = (replay.call(query, key, value) > 0 for _ in range(2))
    seen = int((one | other).sum())
    return int((one ^ other).sum()) / seen if seen else 0.0


def _marked(value: Tensor, channels: Tensor, first: int) -> Tensor:
    """Values that are one in the channel of their key, where that lies in this block, and zero elsewhere."""
    here = (channels >= first) & (channels < first + value.shape[-1])
    made = torch.zeros_like(value)
    rows, keys = here.nonzero(as_tuple=True)
    made[rows, :, keys, channels[rows, keys] - first] = 1
    return made


def _head_masks(row: int, blocks: list[numpy.ndarray], chosen: Chosen, heads: int, wide: int) -> list[HeadMask]:
    """The masks of one batch row, equal heads together."""
    alike: dict[bytes, list[int]] = {}
    if all(block.shape[0] == 1 for block in blocks):
        alike[b""] = list(range(heads))
    else:
        for head in range(heads):
            content = b"".join(_of_head(block, head).tobytes() for block in blocks)
            alike.setdefault(content, []).append(head)
    found = []
    for members in alike.values():
        keep = _keep([_of_head(block, members[0]) for block in blocks], chosen, wide)
        found.append(HeadMask(row, tuple(members), keep, chosen.coarse, chosen.queries))
    return found


def _of_head(block: numpy.ndarray, head: int) -> numpy.ndarray:
    found: numpy.ndarray = block[0 if block.shape[0] == 1 else head]
    return found


def _keep(blocks: list[numpy.ndarray], chosen: Chosen, wide: int) -> KeepMask:
    """Bits of channels, queries x bytes a block, as one bitset of keys a query; queries that were not chosen are 0."""
    channel = numpy.asarray(chosen.channel)
    wanted = numpy.asarray(chosen.queries or range(blocks[0].shape[0]))
    rows = [0] * blocks[0].shape[0]
    for start in range(0, len(wanted), _SLAB):
        slab = wanted[start : start + _SLAB]
        by_channel = numpy.concatenate(
            [numpy.unpackbits(block[slab], axis=-1, count=wide, bitorder="little") for block in blocks], axis=-1
        )
        packed = numpy.packbits(by_channel[:, channel], axis=-1, bitorder="little")
        for query, word in zip(slab.tolist(), packed):
            rows[query] = int.from_bytes(word.tobytes(), "little")
    return KeepMask(tuple(rows), len(chosen.channel))


def _flat_enough(replay: Replay) -> None:
    """Raise Unreadable where a finite bias is so steep that keys which are visible get a weight of exactly zero."""
    for given in (replay.kwargs.get("position_bias"), replay.mask):
        if isinstance(given, Tensor) and given.dim() == 4 and given.is_floating_point():
            flat_enough(given[..., : replay.key.shape[2]], replay.query.dtype)


def flat_enough(bias: Tensor, dtype: torch.dtype) -> None:
    """Raise Unreadable for a finite bias (... x keys) that takes visible keys to zero. dtype: of the attention weights.

    Half precision ends at 6e-8 (its smallest subnormal number), and all equal weights of n keys are 1/n already.
    """
    allowed = bias > FORBIDS
    low = float(torch.where(allowed, bias, bias.new_zeros(())).min())
    high = float(torch.where(allowed, bias, bias.new_zeros(())).max())
    half = -math.log(torch.finfo(torch.float16).smallest_normal / 1024) - math.log(max(1, bias.shape[-1]))
    if high - low > (half if dtype == torch.float16 else DEEPEST):
        raise Unreadable(f"the position bias spans {high - low:.0f}, which hides visible keys by itself")
