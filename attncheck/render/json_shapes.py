"""What kernels do at a model's true sizes, as JSON: domain types in, the wire types of `wire_shapes.py` out."""

from __future__ import annotations

from collections.abc import Sequence

from attncheck.render import wire_shapes as wire
from attncheck.render.json_doctor import finite
from attncheck.semantics.observation import Reason
from attncheck.semantics.shape import Errors, Shape, ShapeReading, WrongCells


def reading(entry: ShapeReading) -> wire.ShapeEntry:
    """One kernel at one shape."""
    return {
        "implementation": entry.implementation,
        "api": entry.api,
        "part": None if entry.part is None else entry.part.value,
        "layers": list(entry.layers),
        "variant": entry.variant,
        "shape": _sizes(entry.shape),
        "declared_v": entry.declared_v,
        "outcome": entry.outcome.value,
        "basis": None if entry.basis is None else entry.basis.value,
        "reasons": _reasons(entry.reasons),
        "documented": _reasons(entry.documented),
        "q_len": entry.q_len,
        "kv_len": entry.kv_len,
        "mask_ok": entry.mask_ok,
        "wrong": None if entry.wrong is None else _wrong(entry.wrong),
        "heads_ok": entry.heads_ok,
        "head_map": None if entry.head_map is None else list(entry.head_map),
        "nan": list(entry.nan),
        "kernel": None if entry.kernel is None else _errors(entry.kernel),
        "plain": None if entry.plain is None else _errors(entry.plain),
        "backward": entry.backward.value,
        "backward_detail": entry.backward_detail,
        "peak_bytes": entry.peak_bytes,
        "launched": entry.launched,
        "picked": entry.picked,
        "left_out": list(entry.left_out),
        "detail": entry.detail,
    }


def _sizes(shape: Shape) -> wire.ShapeSizes:
    return {
        "num_heads": shape.num_heads,
        "num_kv_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "head_dim_v": shape.head_dim_v,
        "window": [shape.window.left, shape.window.right],
        "chunk": shape.chunk,
        "scale": finite(shape.scale),
        "softcap": finite(shape.softcap),
        "sinks": shape.sinks,
        "alibi": shape.alibi,
        "dtype": shape.dtype,
        "unknown": list(shape.unknown),
    }


def _wrong(cells: WrongCells) -> wire.WrongCellsEntry:
    return {
        "query": cells.first[0],
        "key": cells.first[1],
        "heads": list(cells.heads),
        "ahead": cells.ahead,
        "behind": cells.behind,
        "missed": cells.missed,
        "ahead_distances": None if cells.ahead_distances is None else list(cells.ahead_distances),
        "behind_distances": None if cells.behind_distances is None else list(cells.behind_distances),
        "missed_distances": None if cells.missed_distances is None else list(cells.missed_distances),
    }


def _errors(errors: Errors) -> wire.ErrorsEntry:
    return {
        "output": finite(errors.output),
        "dq": finite(errors.dq),
        "dk": finite(errors.dk),
        "dv": finite(errors.dv),
    }


def _reasons(reasons: Sequence[Reason]) -> list[wire.ShapeReason]:
    return [
        {"text": reason.text, "limit": reason.limit, "actual": reason.actual, "source": reason.source}
        for reason in reasons
    ]
