"""Exact visibility of a few chosen keys for every query of a long sequence, with memory O(tokens x width).

Values are zero but for a one in the chosen keys' own channels, so each such output column is a column of P. Further
channels carry the number of the kv head in binary, and a constant: they say which kv head each query head reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attncheck.probe.reading.reference import interleaved
from attncheck.semantics.shape import Shape, WrongCells

#: Tile edges of the known kernels lie at multiples of 64 keys; their neighbours are where a tail goes wrong.
_TILE = 64
#: No more keys than this are looked at: each takes a channel of the values.
_MOST = 48
#: Largest one fed: an output of it alone (P = 1) is still finite in float16, whose largest number is 65504.
_LOUDEST = 2.0**14


@dataclass(frozen=True, slots=True)
class Columns:
    """What the channels of the values mean: first the chosen keys, then bits of the kv head, then a constant one.

    keys: the chosen keys. bits: channels for the kv head, 0 where there is no room for them.
    """

    keys: tuple[int, ...]
    bits: int
    loud: float

    @property
    def constant(self) -> int:
        """The channel that is one for every key."""
        return len(self.keys) + self.bits


def plan(shape: Shape, tokens: int) -> Columns:
    """Which keys to look at among `tokens`, as many as the value width has room for; always at least one."""
    bits = max(1, (shape.num_kv_heads - 1).bit_length())
    if bits + 2 > shape.head_dim_v:
        bits = 0
    room = min(_MOST, shape.head_dim_v - (bits + 1 if bits else 0))
    loud = min(_LOUDEST, 2.0 ** max(0, tokens - 1).bit_length())
    return Columns(tuple(sorted(interesting_keys(shape, tokens)[:room])), bits, loud)


def interesting_keys(shape: Shape, tokens: int) -> list[int]:
    """Keys in order of interest: ends, those that leave a window within the sequence, tile and chunk edges, the middle.

    A key j shows the diagonal at query j and the end of the window at query j + left, where that is in the sequence.
    """
    left, right, chunk = shape.window.left, shape.window.right, shape.chunk
    last, middle = tokens - 1, tokens // 2 + 7
    wanted = [0, last, middle, 1, last - 1, _TILE, _TILE - 1]
    if left is not None:
        wanted += [last - left, last - left - 1, last - left + 1]
    if right:
        wanted += [right, right + 1, right - 1, last - right]
    if chunk is not None:
        wanted += [chunk - 1, chunk]
    wanted += [2 * _TILE - 1, 2 * _TILE, last - _TILE, last - _TILE + 1, middle + 1, tokens // 4, 3 * tokens // 4, 2, 3]
    wanted += [tokens * step // 32 for step in range(1, 32)]
    return list(dict.fromkeys(key for key in wanted if 0 <= key < tokens))


def marked_values(blank: Tensor, columns: Columns) -> Tensor:
    """The values to feed: like `blank`, batch x kv heads x keys x head_dim_v, and lying in memory as it does."""
    made = torch.zeros_like(blank)
    for channel, key in enumerate(columns.keys):
        made[:, :, key, channel] = columns.loud
    if columns.bits:
        for bit in range(columns.bits):
            heads = [head for head in range(blank.shape[1]) if head >> bit & 1]
            made[:, heads, :, len(columns.keys) + bit] = 1
        made[..., columns.constant] = 1
    return made


def declared(shape: Shape, queries: Tensor, keys: Tensor) -> Tensor:
    """True where the shape's mask lets absolute query i see key j: queries x keys."""
    ahead = keys[None, :] - queries[:, None]
    keep = torch.ones_like(ahead, dtype=torch.bool)
    if shape.window.left is not None:
        keep &= ahead >= -shape.window.left
    if shape.window.right is not None:
        keep &= ahead <= shape.window.right
    if shape.chunk is not None:
        keep &= keys[None, :] // shape.chunk == queries[:, None] // shape.chunk
    return keep


def wrong_cells(output: Tensor, columns: Columns, shape: Shape, kv_len: int) -> WrongCells | None:
    """What the columns of `output`, batch x heads x queries x head_dim_v, show beside the declared mask; None: nothing.

    The queries are the last ones of the sequence.
    """
    q_len = output.shape[2]
    queries = torch.arange(kv_len - q_len, kv_len, device=output.device)
    keys = torch.tensor(columns.keys, device=output.device)
    keep = declared(shape, queries, keys)
    seen = output[0, :, :, : len(columns.keys)] > 0
    wrong = seen != keep
    if not bool(wrong.any()):
        return None
    back = queries[:, None] - keys[None, :]
    ahead, behind = seen & ~keep & (back < 0), seen & ~keep & (back >= 0)
    missed = keep & ~seen
    hidden_behind = ~keep & (back >= 0)
    row, column = wrong.any(0).nonzero()[0].tolist()
    heads = wrong.flatten(1).any(-1).nonzero().flatten().tolist()
    return WrongCells(
        first=(int(queries[row]), columns.keys[column]),
        heads=() if len(heads) == output.shape[1] else tuple(heads),
        ahead=int(ahead.sum()),
        behind=int(behind.sum()),
        missed=int(missed.sum()),
        ahead_distances=_distances(back, ahead),
        behind_distances=_distances(back, behind),
        missed_distances=_distances(back, missed),
        all_behind=bool(hidden_behind.any()) and bool((seen | ~hidden_behind)[heads].all()),
        nothing=not bool(seen.any()),
        keys=len(columns.keys),
        over=output.shape[1],
    )


def head_map(output: Tensor, columns: Columns, shape: Shape) -> tuple[int, ...] | None:
    """The kv head read by each query head where it is not the interleaved one; -1: heads that read several.

    None when all are right, when the values had no room for the numbers, or when no row can tell.
    """
    if not columns.bits:
        return None
    constant = output[0, :, :, columns.constant].float()
    readable = constant > 0
    if not bool(readable.any(-1).all()):
        return None
    found = torch.zeros_like(constant, dtype=torch.long)
    for bit in range(columns.bits):
        share = output[0, :, :, len(columns.keys) + bit].float() / constant
        found += (share > 0.5).long() << bit
    read = [sorted(set(numbers[rows].tolist())) for numbers, rows in zip(found, readable)]
    heads = tuple(numbers[0] if len(numbers) == 1 else -1 for numbers in read)
    return None if heads == interleaved(shape.num_heads, shape.num_kv_heads) else heads


def interesting_rows(shape: Shape, q_len: int, kv_len: int, count: int) -> tuple[int, ...]:
    """At most `count` absolute queries among the last `q_len`: both ends, the window's end, tile edges, the middle."""
    first, last = kv_len - q_len, kv_len - 1
    sides: Sequence[int] = [side for side in (shape.window.left, shape.window.right) if side]
    wanted = [last, first, last - 1, first + 1, last - _TILE, last - _TILE + 1, kv_len // 2 + 7]
    wanted += [row for side in sides for row in (side, side + 1, last - side, last - side + 1)]
    wanted += [first + _TILE - 1, first + _TILE, kv_len // 4, 3 * kv_len // 4, first + 2 * _TILE - 1, first + 2 * _TILE]
    wanted += [first + q_len * step // 16 for step in range(1, 16)]
    inside = dict.fromkeys(row for row in wanted if first <= row <= last)
    return tuple(sorted(list(inside)[:count]))


def _distances(back: Tensor, cells: Tensor) -> tuple[int, int] | None:
    """Smallest and largest |query - key| of heads x queries x keys cells."""
    chosen = back.abs()[cells.any(0)]
    return (int(chosen.min()), int(chosen.max())) if chosen.numel() else None
