"""The JSON contract's types for what a stored bench says of the recommendation, and their making."""

from __future__ import annotations

from typing import TypedDict

from attncheck.render.json_doctor import finite
from attncheck.semantics.speeds import SpeedRow, Speeds


class SpeedRowEntry(TypedDict):
    """One implementation in the call that decides. Times in seconds, measured by bench; null for what is no number.

    n: repetitions. subject: what was timed for it. to_eager: its time by that of eager, null where that has none.
    ordered: its time counts, because it has no error. standing: what `compare` says of it.
    """

    implementation: str
    subject: str
    median: float | None
    p20: float | None
    p80: float | None
    n: int
    to_eager: float | None
    ordered: bool
    standing: str


class SpeedsEntry(TypedDict):
    """A stored bench held against the target. unused: why nothing is taken from it, "" otherwise; then rows is empty.

    level, dtype, phase, backward, inputs, batch, kv_len: of the call that decides. layers: whose times are added up.
    """

    source: str
    device: str
    level: str
    dtype: str
    phase: str
    backward: bool
    inputs: str
    batch: int
    kv_len: int
    layers: int
    rows: list[SpeedRowEntry]
    remarks: list[str]
    unused: str


def entry(speeds: Speeds) -> SpeedsEntry:
    """As it stands in the report."""
    return {
        "source": speeds.source,
        "device": speeds.device,
        "level": speeds.level,
        "dtype": speeds.dtype,
        "phase": speeds.phase,
        "backward": speeds.backward,
        "inputs": speeds.inputs,
        "batch": speeds.batch,
        "kv_len": speeds.kv_len,
        "layers": speeds.layers,
        "rows": [_row(row) for row in speeds.rows],
        "remarks": list(speeds.remarks),
        "unused": speeds.unused,
    }


def _row(row: SpeedRow) -> SpeedRowEntry:
    return {
        "implementation": row.implementation,
        "subject": row.subject,
        "median": finite(row.median),
        "p20": finite(row.p20),
        "p80": finite(row.p80),
        "n": row.n,
        "to_eager": finite(row.to_eager),
        "ordered": row.ordered,
        "standing": row.standing,
    }
