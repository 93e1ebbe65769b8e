"""Times of a stored bench held against one target: what was timed at its sizes, and what that says of each."""

from __future__ import annotations

from dataclasses import dataclass

from attncheck.semantics.timing import Bench


@dataclass(frozen=True, slots=True)
class CallSpeed:
    """What one implementation takes in one kind of call, for all layers of the target together.

    implementation: transformers' name. subject: what was timed for it: itself, or the kernel API that it calls. phase,
    backward, inputs, batch, kv_len: as of `BenchCase`. layers: how many the times are the sum of. median, p20, p80:
    in seconds. n: fewest repetitions of any of them.
    """

    implementation: str
    subject: str
    phase: str
    backward: bool
    inputs: str
    batch: int
    kv_len: int
    layers: int
    median: float
    p20: float
    p80: float
    n: int


@dataclass(frozen=True, slots=True)
class HeldBench:
    """A stored bench held against a target.

    source: its file. device: where it was measured, in words. level, dtype: of what is taken from it. calls: what
    implementations take at the target's sizes. bench: with the cells alone that `calls` are made of,
    None where there are none. remarks: what is not the same as here. unused: why nothing is taken from it, "" where
    something is.
    """

    source: str
    device: str
    level: str = ""
    dtype: str = ""
    calls: tuple[CallSpeed, ...] = ()
    bench: Bench | None = None
    remarks: tuple[str, ...] = ()
    unused: str = ""


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """One implementation in the call that decides. to_eager: its time by that of eager, None where eager has none.

    ordered: it is right, so that its time counts. standing: what `compare` says of it, in words.
    """

    implementation: str
    subject: str
    median: float
    p20: float
    p80: float
    n: int
    to_eager: float | None
    ordered: bool
    standing: str


@dataclass(frozen=True, slots=True)
class Speeds:
    """What a stored bench says for the recommendation. source, device, level, dtype, remarks, unused: of `HeldBench`.

    phase, backward, inputs, batch, kv_len, layers: of the call that decides; rows: fastest first, none where nothing
    was taken from the bench.
    """

    source: str
    device: str
    level: str = ""
    dtype: str = ""
    phase: str = ""
    backward: bool = False
    inputs: str = ""
    batch: int = 0
    kv_len: int = 0
    layers: int = 0
    rows: tuple[SpeedRow, ...] = ()
    remarks: tuple[str, ...] = ()
    unused: str = ""
