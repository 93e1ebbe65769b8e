"""What the checks conclude besides findings: the model as declared, verdicts by cell, status by implementation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from attncheck.findings import Recommendation
from attncheck.semantics.observation import Basis, Reason
from attncheck.semantics.spec import AttentionSpec, Note, Part, Window

#: Reason of an UNKNOWN cell that is the reference of the others: without a truth it is neither right nor wrong.
IS_REFERENCE = "nothing declares what should happen here; it is what the others are compared with"


class Verdict(str, Enum):
    """What a cell of the matrix says. NOT_RUN is never OK."""

    OK = "ok"
    MISMATCH = "mismatch"
    UNKNOWN = "unknown"
    ERROR = "error"
    NOT_RUN = "not_run"
    NOT_APPLICABLE = "not_applicable"


class Status(str, Enum):
    """What became of an implementation as a whole."""

    OK = "ok"
    MISMATCH = "mismatch"
    REJECTED = "rejected"
    CRASHED = "crashed"
    NOT_RUN = "not_run"


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """Real layers that declare the same attention; `spec` is that of the first of them.

    probed: the layer of the tiny model that stood for them, None where there is none.
    """

    part: Part
    layers: tuple[int, ...]
    spec: AttentionSpec
    probed: AttentionSpec | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """The target: where its config came from and what it declares.

    file: the config.json, relative to where the command ran, "" unless the target is a path. lines: dotted key -> its
    line there, from 1, of the keys that have effect as they stand in it.
    """

    id: str
    source: str
    source_detail: str
    model_type: str
    num_layers: int | None
    groups: tuple[LayerGroup, ...]
    notes: tuple[Note, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Launched:
    """A kernel that the profiler saw. kernel: the forced one, "" where the library chose. name: as launched."""

    kernel: str
    name: str


@dataclass(frozen=True, slots=True)
class KernelRefusal:
    """A kernel that was forced and refused. scenarios: where."""

    kernel: str
    reason: str
    scenarios: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Implementation:
    """One attention implementation: would transformers pick it by itself, what came of it, which kernels ran."""

    name: str
    default: bool
    basis: Basis | None
    status: Status
    reasons: tuple[Reason, ...] = ()
    kernels: tuple[str, ...] = ()
    launched: tuple[Launched, ...] = ()
    refusals: tuple[KernelRefusal, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """One verdict of the matrix. difference is the slug when the verdict is a mismatch.

    reach: how far the queries of the probed layers see, where it was read of layers that do not declare it; a side that
    is None is bounded by nothing but the keys' end.
    """

    implementation: str
    scenario: str
    variant: str
    part: Part | None
    layers: tuple[int, ...]
    verdict: Verdict
    basis: Basis | None
    kernel: str = ""
    difference: str | None = None
    reason: str = ""
    reach: Window | None = None


@dataclass(frozen=True, slots=True)
class Recommended:
    """The implementation to use, why, and what to paste."""

    implementation: str
    why: str
    recommendation: Recommendation
