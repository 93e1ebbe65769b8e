"""The JSON contract's types for what `bench` adds: cells, growth, the device's rates, changes against a stored run."""

from __future__ import annotations

from typing import TypedDict


class CaseEntry(TypedDict):
    """One call to time. window: [left, right], inclusive token distances, null = unbounded. visible: query-key pairs
    of one head that the true mask keeps, over the whole batch. backward: forward and backward together.
    """

    level: str
    subject: str
    phase: str
    backward: bool
    inputs: str
    batch: int
    q_len: int
    kv_len: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    head_dim_v: int
    dtype: str
    window: list[int | None]
    mask: str
    softcap: float | None
    scale: float | None
    visible: int
    chunk: int | None
    sinks: bool
    alibi: bool


class BenchCellEntry(TypedDict):
    """What came of one case. Times in seconds, memory in bytes, null where nothing was measured.

    excluded: slug of the error finding that makes a speed meaningless, "" for none.
    """

    case: CaseEntry
    outcome: str
    median: float | None
    p20: float | None
    p80: float | None
    n: int
    first_call: float | None
    peak_memory_bytes: int | None
    tflops: float | None
    matrix_share: float | None
    copy_share: float | None
    to_eager: float | None
    to_best: float | None
    drift: float | None
    excluded: str
    detail: str
    kernel: str
    launch_bound: bool


class GrowthEntry(TypedDict):
    """Exponent of the growth of the median with length; r2 of the fit. head_dim: null where there is one only."""

    level: str
    subject: str
    phase: str
    backward: bool
    inputs: str
    mask: str
    exponent: float | None
    r2: float | None
    lengths: list[int]
    head_dim: int | None
    dtype: str


class RatesEntry(TypedDict):
    """What the device itself did: FLOP/s, bytes/s (read plus written), SM clock in MHz at start and end, watts."""

    name: str
    matrix_flops: float | None
    matrix_shape: str
    copy_bytes: float | None
    clock_mhz: list[int | None]
    power_limit_watts: float | None
    throttled: str


class BenchEntry(TypedDict):
    """One run. complete: false where it was interrupted."""

    preset: str
    complete: bool
    wall: float
    timed: float
    rates: RatesEntry | None
    cells: list[BenchCellEntry]
    growth: list[GrowthEntry]
    published: dict[str, str]


class ChangeEntry(TypedDict):
    """One call that both runs timed. ratio: new median by old; low, high: the ratio with its noise.

    launch_bound: in either run; then beyond_noise is false. memory_ratio: null where a peak is missing.
    """

    case: CaseEntry
    old_median: float | None
    new_median: float | None
    ratio: float
    low: float
    high: float
    beyond_noise: bool
    launch_bound: bool
    repetitions: int
    memory_ratio: float | None


class OnlyEntry(TypedDict):
    """A call that one run timed and the other did not, with the reason where there is one."""

    case: CaseEntry
    reason: str


class DifferenceEntry(TypedDict):
    """A condition that is not the same in both runs."""

    what: str
    old: str
    new: str


class ChangesEntry(TypedDict):
    """One run against a stored one. lost, gained: timed before but not now, and the other way round."""

    source: str
    old_complete: bool
    changes: list[ChangeEntry]
    lost: list[OnlyEntry]
    gained: list[OnlyEntry]
    only_old: list[OnlyEntry]
    only_new: list[OnlyEntry]
    differences: list[DifferenceEntry]
