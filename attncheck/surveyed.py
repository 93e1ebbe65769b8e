"""What a survey found, as plain data: one row a model type and setting, with its cells and findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class State(str, Enum):
    """What the support matrix says about a type, implementation and scenario. Worst first.

    MISMATCH: what runs is not what is declared (or not what eager does). BREAKS: it raised what nobody announced, or
    its process died. UNKNOWN: not read, or nothing declares what should happen. MEASURED, PREDICTED: right, on that
    basis. NOT_SUPPORTED: refused with a clear message, or the model has no such feature.
    """

    MISMATCH = "mismatch"
    BREAKS = "breaks"
    UNKNOWN = "unknown"
    MEASURED = "measured"
    PREDICTED = "predicted"
    NOT_SUPPORTED = "not_supported"


#: States with a verdict.
JUDGED = (State.MEASURED, State.PREDICTED, State.MISMATCH)


class Status(str, Enum):
    """What became of a row.

    SURVEYED: probed. NO_TEXT: the class reads no text (vision, audio). NOT_BUILT: no tiny model could be built. LOST:
    its process died or took too long before anything was probed.
    """

    SURVEYED = "surveyed"
    NO_TEXT = "no_text"
    NOT_BUILT = "not_built"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class SurveyCell:
    """One implementation in one scenario, all variants, parts and kernels together.

    slugs: of the differences, worst first. reason: why it is not simply right. open: what stays unknown although the
    rest was judged ("cross: declared window: unknown"). severity: of the worst finding here, "" without one.
    """

    implementation: str
    scenario: str
    state: State
    basis: str = ""
    slugs: tuple[str, ...] = ()
    severity: str = ""
    reason: str = ""
    open: str = ""

    @property
    def judged(self) -> bool:
        """True for a verdict, right or wrong."""
        return self.state in JUDGED


@dataclass(frozen=True, slots=True)
class SurveyFinding:
    """One finding of a row; the fields mean what they mean in `attncheck.findings.Finding`."""

    slug: str
    code: str
    severity: str
    implementation: str
    scenario: str
    part: str
    layers: tuple[int, ...]
    variants: tuple[str, ...]
    basis: str
    message: str
    declared: str = ""
    requested: str = ""
    effective: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a ledger names it by: slug, implementation, scenario and part."""
        return self.slug, self.implementation, self.scenario, self.part


@dataclass(frozen=True, slots=True)
class Row:
    """One model type in one setting.

    setting: "" for the class defaults, else a short name ("window"). assignments: the `--set` texts of the setting.
    method: how masks were read ("calls", "black-box", both joined by "+"). declared: part -> fields
    that the oracle leaves unknown in it. default: the implementation transformers picks by itself. notes: remarks of
    the oracle. reason: of a status other than SURVEYED. last: no further setting of this type follows. seconds: wall
    time.
    """

    model_type: str
    setting: str = ""
    assignments: tuple[str, ...] = ()
    status: Status = Status.SURVEYED
    reason: str = ""
    kind: str = ""
    model_class: str = ""
    method: str = ""
    default: str = ""
    declared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cells: tuple[SurveyCell, ...] = ()
    findings: tuple[SurveyFinding, ...] = ()
    last: bool = False
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The row's heading: the type, and the setting where it is not the class's own."""
        return f"{self.model_type} ({self.setting})" if self.setting else self.model_type

    def cell(self, implementation: str, scenario: str) -> SurveyCell | None:
        """The cell of that place; None where it was not asked for."""
        places = (cell for cell in self.cells if (cell.implementation, cell.scenario) == (implementation, scenario))
        return next(places, None)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a survey was asked: everything that must be the same for its results to be put together with older ones.

    versions: of attncheck, transformers and torch. implementations, scenarios: in the order of the tables. settings:
    other settings than the class defaults too. plugins: modules that each worker imports first. asked: the scenarios
    were named by the user, so they count as used.
    """

    implementations: tuple[str, ...]
    scenarios: tuple[str, ...]
    core: tuple[str, ...]
    dtype: str
    device: str
    seed: int
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: bool = True
    plugins: tuple[str, ...] = ()
    asked: bool = False

    @property
    def used(self) -> tuple[str, ...]:
        """The scenarios in which a difference matters to everybody: the core ones, or all that were named."""
        return self.scenarios if self.asked else self.core


@dataclass(frozen=True, slots=True)
class Survey:
    """A survey as far as it got.

    rows: in order of type and setting. left: types not yet done. seconds: wall time of this run alone; cpu_seconds:
    processor time of all its processes.
    """

    plan: Plan
    rows: tuple[Row, ...]
    left: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def surveyed(self) -> tuple[Row, ...]:
        """The rows that hold cells."""
        return tuple(row for row in self.rows if row.status is Status.SURVEYED)

    def exit_code(self, fail_on: str) -> int:
        """1: findings at or above `fail_on` ("error", "warning", "never"); 3: no verdict was reached; else 0."""
        levels = {"never": (), "warning": ("warning", "error")}.get(fail_on, ("error",))
        if any(finding.severity in levels for row in self.rows for finding in row.findings):
            return 1
        reached = any(cell.judged for row in self.rows for cell in row.cells)
        return 0 if reached or not self.surveyed else 3
