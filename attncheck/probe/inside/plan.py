"""What is read of a live model, how much of it, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from attncheck.semantics.layout import Layout
from attncheck.semantics.observation import CallObservation, Method
from attncheck.semantics.spec import Part

Place = tuple[Part, int]
#: Floating point operations that one reading may cost: some seconds on two CPU cores, about a second on a GPU.
WORK = {"cpu": 2e11, "cuda": 2e14}
#: Keys that are looked at from outside whatever it costs.
FEWEST = 12


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read, and how much of it.

    layouts: of the queries, by part, as far as known. marks: tokens at which something changes by the declaration
    (edges of windows and chunks). layers: numbers of the layers to read; None reads every call that differs from those
    read before. method: "auto", "interface" or "perturbation". fit, gradients: also the softmax terms, the backward.
    memory: bytes that one reading may take. repetitions, reruns: of one attention call, of one module, at most; a
    long sequence gets fewer, so that a reading does not take more than `WORK`.
    kinds: a number for what each layer declares; calls of layers that declare different things are read apart.
    most: different calls of one part that are read. single: as of `Places`. What cannot be read key by key is read in
    groups of keys, see `choice`.
    """

    layouts: dict[Part, Layout]
    marks: tuple[int, ...] = ()
    kinds: Mapping[Place, int] = field(default_factory=dict)
    layers: tuple[int, ...] | None = None
    method: str = "auto"
    fit: bool = True
    gradients: bool = False
    memory: int = 256 << 20
    repetitions: int = 32
    reruns: int = 64
    most: int = 8
    single: Part | None = None
    seed: int = 0


@dataclass
class Recording:
    """What one or more forward passes showed.

    calls: one a layer and forward call, those of unread layers copied from the layer whose call is the same. read:
    layers that were read, by part, with the method. alike: unread layer -> the layer whose call it repeats. failures,
    used, kernels, launched: as of `live.Recorder`. need: bytes that the largest reading took at most. grouped: keys
    read in groups, of all; 0 of 0 where every cell was read. dropout: largest rate that a call asked for.
    """

    calls: list[CallObservation] = field(default_factory=list)
    read: dict[Place, Method] = field(default_factory=dict)
    alike: dict[Place, Place] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    kernels: set[str] = field(default_factory=set)
    launched: dict[tuple[str, str], None] = field(default_factory=dict)
    dtypes: set[str] = field(default_factory=set)
    step: int = 0
    need: int = 0
    singly: int = 0
    keys: int = 0
    dropout: float = 0.0

    def fail(self, reason: str) -> None:
        """Note once why something could not be read."""
        if reason not in self.failures:
            self.failures.append(reason)


def affordable(work: float, like: Tensor) -> int:
    """How many repetitions of that many operations a reading may make, at least 2."""
    return max(2, int(WORK.get(like.device.type, WORK["cpu"]) / max(work, 1.0)))
