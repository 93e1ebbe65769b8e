"""The JSON contract's types for what kernels do at a model's true sizes."""

from __future__ import annotations

from typing import TypedDict


class ShapeSizes(TypedDict):
    """One attention call. window: [left, right], inclusive token distances, null = unbounded. scale: null = usual.

    unknown: "direction", "window", "chunk" where nobody knows them; window and chunk then mean nothing.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    head_dim_v: int
    window: list[int | None]
    chunk: int | None
    scale: float | None
    softcap: float | None
    sinks: bool
    alibi: bool
    dtype: str
    unknown: list[str]


class WrongCellsEntry(TypedDict):
    """Cells seen wrongly among all queries and a few chosen keys. ahead, behind: seen though hidden; missed: not seen.

    Distances: [smallest, largest] |query - key|, null where there are none.
    """

    query: int
    key: int
    heads: list[int]
    ahead: int
    behind: int
    missed: int
    ahead_distances: list[int] | None
    behind_distances: list[int] | None
    missed_distances: list[int] | None


class ErrorsEntry(TypedDict):
    """Relative distances to float64 attention; null where nothing was computed, or NaN."""

    output: float | None
    dq: float | None
    dk: float | None
    dv: float | None


class ShapeReason(TypedDict):
    """Why something cannot be used."""

    text: str
    limit: str
    actual: str
    source: str


class ShapeEntry(TypedDict):
    """What one kernel API did at one true shape. outcome, backward: "read", "refused", "crashed", "not_run".

    documented: limits that the shape breaks by the library's documentation. declared_v: value width that the layers
    declare where the framework widens it before the call. mask_ok, heads_ok: null where nothing was read. head_map: kv
    head read by each query head where it is not the interleaved one. kernel, plain: errors of the API and of plain
    torch in the same dtype. peak_bytes: device memory taken beyond the inputs. picked: torch's dispatch takes it.
    """

    implementation: str
    api: str
    part: str | None
    layers: list[int]
    variant: str
    shape: ShapeSizes
    declared_v: int | None
    outcome: str
    basis: str | None
    reasons: list[ShapeReason]
    documented: list[ShapeReason]
    q_len: int
    kv_len: int
    mask_ok: bool | None
    wrong: WrongCellsEntry | None
    heads_ok: bool | None
    head_map: list[int] | None
    nan: list[str]
    kernel: ErrorsEntry | None
    plain: ErrorsEntry | None
    backward: str
    backward_detail: str
    peak_bytes: int | None
    launched: str
    picked: bool | None
    left_out: list[str]
    detail: str
