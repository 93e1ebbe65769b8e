"""Which keys each query of a live call sees: the call repeated with marks as values, on cells that memory can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attncheck.probe.inside import choice
from attncheck.probe.reading.kernel import bitsets
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import HeadMask
from attncheck.watching.apis import Ask

#: Keys that are marked one by one at most, and queries whose cells are kept; of longer calls keys are grouped.
CHANNELS, QUERIES = 512, 512
#: The same for calls of more keys than that: two repetitions at the usual width of heads.
LONG_CHANNELS, LONG_QUERIES = 128, 256
#: What a marked value holds instead of one: the mean over 65,536 keys stays far above half precision's smallest number.
_MARK = 256.0
#: Of a long call: keys round whose first and last query the cells are kept.
_EDGES = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a call. batch: 1 for packed sequences, which all lie in one row."""

    batch: int
    heads: int
    queries: int
    keys: int


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells to read. rows: batch rows. channel: of each key. coarse: as in `HeadMask`."""

    rows: tuple[int, ...]
    channel: tuple[int, ...]
    coarse: tuple[int, ...]


def shape_of(ask: Ask) -> Shape:
    """Raises ValueError for tensors that no attention function of this layout takes."""
    query, key = heads_first(ask.query, ask.api.layout), heads_first(ask.key, ask.api.layout)
    return Shape(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


def heads_first(tensor: Tensor, layout: str) -> Tensor:
    """Batch x heads x tokens x width, whatever the layout; leading axes beyond those count as batch."""
    if layout == "thd":
        return tensor.transpose(0, 1).unsqueeze(0)
    if layout == "bshd":
        if tensor.dim() not in (3, 4):
            raise ValueError(f"tensors of {tensor.dim()} axes")
        return tensor.unsqueeze(1) if tensor.dim() == 3 else tensor.transpose(1, 2)
    if tensor.dim() < 2:
        raise ValueError(f"tensors of {tensor.dim()} axes")
    while tensor.dim() < 4:
        tensor = tensor.unsqueeze(-3 if tensor.dim() == 3 else 0)
    return tensor.flatten(0, -4) if tensor.dim() > 4 else tensor


def chosen(shape: Shape, rows: Sequence[int], width: int) -> Cells:
    """Every key by itself in calls of a usual length; in longer ones some by themselves and the others in groups.

    width: of the values. Long calls are repeated twice, four times where their heads are narrow.
    """
    long = min(LONG_CHANNELS, max(2 * width, 32))
    picked = choice.choose(None, shape.keys, 0, CHANNELS if shape.keys <= CHANNELS else long)
    return Cells(tuple(rows), picked.channel, picked.coarse)


def seen(ask: Ask, shape: Shape, cells: Cells) -> tuple[HeadMask, ...]:
    """The masks of the chosen rows, exact; equal heads share one (`heads` is empty where all are alike).

    Each repetition marks as many keys as values are wide, so it needs the memory of the call itself: query, key, value
    and output once more. Raises whatever the function raises.
    """
    assert ask.repeat is not None
    # All logits equal: nothing underflows, whatever the scale. `zeros_like` keeps the layout: kernels are picked by it.
    query, key = torch.zeros_like(ask.query), torch.zeros_like(ask.key)
    channels = torch.tensor(cells.channel, device=ask.value.device)
    width, total = int(ask.value.shape[-1]), 1 + max(cells.channel, default=0)
    queries: list[int] | None = None if shape.queries <= QUERIES else []
    blocks: list[Tensor] = []
    for first in range(0, total, width):
        output = heads_first(ask.repeat(query, key, _marks(ask, channels, first)), ask.api.layout)
        if tuple(output.shape[:3]) != (shape.batch, shape.heads, shape.queries):
            raise ValueError(f"attention gave {tuple(output.shape)} for {shape}")
        visible = output[list(cells.rows), :, :, : min(width, total - first)] > 0
        if queries is not None:
            queries = queries or telling(visible, shape)
            visible = visible[:, :, queries]
        blocks.append(visible)
    by_key = torch.cat(blocks, -1)[..., channels]
    return masks(by_key, cells, queries, shape.queries)


def masks(by_key: Tensor, cells: Cells, queries: Sequence[int] | None, length: int) -> tuple[HeadMask, ...]:
    """Rows x heads x queries x keys of booleans as masks of `length` queries; queries: which ones, None for all."""
    alike = bool((by_key == by_key[:, :1]).all())
    read = by_key[:, :1] if alike else by_key
    found = []
    for number, row in enumerate(cells.rows):
        groups: dict[tuple[int, ...], list[int]] = {}
        for head in range(read.shape[1]):
            rows = tuple(saturated(word, cells.coarse) for word in bitsets(read[number, head]))
            groups.setdefault(rows, []).append(head)
        for words, heads in groups.items():
            if queries is not None:
                kept = dict(zip(queries, words))
                words = tuple(kept.get(query, 0) for query in range(length))
            keep = KeepMask(words, by_key.shape[-1])
            found.append(HeadMask(row, () if alike else tuple(heads), keep, cells.coarse, tuple(queries or ())))
    return tuple(found)


def saturated(word: int, coarse: Sequence[int]) -> int:
    """All keys of a group where any of them is set."""
    for group in coarse:
        if word & group:
            word |= group
    return word


def telling(visible: Tensor, shape: Shape) -> list[int]:
    """The queries of a long call to keep: ends, an even spread, and those round the first and last that see a key."""
    wanted = set(choice.queries(shape.queries, LONG_QUERIES // 2, None, 0))
    columns = visible.any(1)[0].T  # keys x queries
    for column in columns[:: max(1, columns.shape[0] // _EDGES)]:
        where = column.nonzero().flatten()
        if where.numel():
            for edge in (int(where[0]), int(where[-1])):
                wanted |= {query for query in range(edge - 1, edge + 2) if 0 <= query < shape.queries}
    return sorted(wanted)


def _marks(ask: Ask, channels: Tensor, first: int) -> Tensor:
    """Values with a mark in the channel of their key, where that lies in this block, in every row and kv head."""
    made = torch.zeros_like(ask.value)
    keys = ((channels >= first) & (channels < first + made.shape[-1])).nonzero().flatten()
    places = channels[keys] - first
    layout = ask.api.layout
    if layout == "thd":
        made[keys, :, places] = _MARK
    elif layout == "bshd" and made.dim() == 4:
        made.transpose(1, 2)[:, :, keys, places] = _MARK
    else:
        made[..., keys, places] = _MARK
    return made
