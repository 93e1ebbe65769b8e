"""Reading the probability matrix of one attention callable with identity values, and the exact mask from it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import Tensor

from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import HeadMask

#: (query, key, value), each batch x heads x tokens x width, to the output, batch x heads x queries x head_dim_v.
Call = Callable[[Tensor, Tensor, Tensor], Tensor]


def probability(call: Call, query: Tensor, key: Tensor, value: Tensor, width: int | None = None) -> Tensor:
    """P, batch x heads x queries x keys, float32 (float64 if the callable is), in ceil(keys / width) calls.

    value: gives shape, dtype and device only. width: of the values fed, head_dim_v by default. Attention returns `P V`;
    where V holds one-hot rows, output columns are columns of P. Raises ValueError when the output has another shape
    than attention has.
    """
    keys, width = value.shape[2], width or value.shape[3]
    blank = value if width == value.shape[3] else value.new_empty((*value.shape[:3], width))
    columns = []
    for first in range(0, keys, width):
        output = call(query, key, _identity(blank, first))
        if output.shape != (*query.shape[:3], width):
            raise ValueError(f"attention gave {tuple(output.shape)}, expected {(*query.shape[:3], width)}")
        columns.append(output[..., : min(width, keys - first)])
    matrix = columns[0] if len(columns) == 1 else torch.cat(columns, -1)
    return matrix if matrix.dtype == torch.float64 else matrix.float()


def head_map(call: Call, query: Tensor, key: Tensor, value: Tensor) -> tuple[int, ...] | None:
    """The kv head that each query head takes its values from, None where no row of some head can tell.

    Values are constant over the keys and one-hot in the kv head, so a row of the output shows its kv head.
    """
    kv_heads, width = value.shape[1], value.shape[3]
    columns = []
    for first in range(0, kv_heads, width):
        marked = torch.zeros_like(value)
        for head in range(first, min(kv_heads, first + width)):
            marked[:, head, :, head - first] = 1
        columns.append(call(query, key, marked)[..., : min(width, kv_heads - first)])
    votes = torch.cat(columns, -1).float().nan_to_num(0.0, 0.0, 0.0).sum((0, 2))
    best, where = votes.max(-1)
    return tuple(where.tolist()) if bool((best > 0).all()) else None


def head_masks(matrix: Tensor) -> tuple[HeadMask, ...]:
    """The masks in P, exact: a key is visible when its probability is above zero. Equal heads of a row share one."""
    visible = (matrix > 0).cpu().numpy()
    return _head_masks(visible.tobytes(), visible.shape)


@functools.lru_cache(maxsize=256)  # the layers and forward passes of a probe show the same few masks again and again
def _head_masks(cells: bytes, shape: tuple[int, int, int, int]) -> tuple[HeadMask, ...]:
    """cells: one byte each, batch x heads x queries x keys."""
    batch, heads, queries, keys = shape
    if heads == 0:
        return ()
    visible = numpy.frombuffer(cells, dtype=numpy.bool_).reshape(shape)
    alike = bool((visible == visible[:, :1]).all())
    read = visible[:, :1] if alike else visible
    words = _bitsets(read.reshape(-1, keys))
    masks = []
    for row in range(batch):
        groups: dict[tuple[int, ...], list[int]] = {}
        for head in range(read.shape[1]):
            start = (row * read.shape[1] + head) * queries
            groups.setdefault(tuple(words[start : start + queries]), []).append(head)
        for rows, members in groups.items():
            masks.append(HeadMask(row, tuple(range(heads)) if alike else tuple(members), KeepMask(rows, keys)))
    return tuple(masks)


def bitsets(visible: Tensor) -> list[int]:
    """Rows x keys of booleans to one integer a row; bit j is key j."""
    return _bitsets(visible.cpu().numpy())


def _bitsets(visible: numpy.ndarray[Any, Any]) -> list[int]:
    packed = numpy.packbits(visible, axis=-1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def broken_rows(output: Tensor) -> tuple[tuple[int, int], ...]:
    """(batch row, query) pairs of batch x heads x queries x width that hold NaN or Inf in any head."""
    finite = output.isfinite()
    if bool(finite.all()):
        return ()
    return tuple((int(row), int(query)) for row, query in (~finite.all(-1).all(1)).nonzero().tolist())


def _identity(value: Tensor, first: int) -> Tensor:
    """Values that are zero except a one in channel c of key `first + c`, the same in every batch row and kv head."""
    made = torch.zeros_like(value)
    torch.diagonal(made[:, :, first:, :], dim1=-2, dim2=-1).fill_(1)
    return made
