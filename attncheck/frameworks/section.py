"""What a report shows of a framework: its chain from settings to what runs, and its log lines judged. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from attncheck.frameworks.plugin import Fails, Framework, Resolution, Runs, RunsOwn, Step, SubModel
from attncheck.semantics.observation import Basis


class Truth(str, Enum):
    """Whether a line in a log is true here.

    REAL: what it warns of happens. STALE: it does not; the library has learnt it since. INERT: the model declares
    nothing that the line could be about, or no sequence ever meets it. UNJUDGED: nobody could look.
    """

    REAL = "real"
    STALE = "stale"
    INERT = "inert"
    UNJUDGED = "unjudged"


@dataclass(frozen=True, slots=True)
class JudgedWarning:
    """A line of the log and whether it is true. heard: it was logged while the probes ran. basis: of the truth."""

    text: str
    truth: Truth
    why: str
    implementation: str = ""
    basis: Basis | None = None
    heard: bool = False
    printed_by: str = ""


class Kind(str, Enum):
    """What becomes of the run: transformers' interface, the framework's own attention, an error, or nobody knows."""

    RUNS = "runs"
    OWN = "own"
    FAILS = "fails"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FrameworkSection:
    """One framework's settings resolved.

    kind, implementation: what runs; implementation is transformers' name, or the words for the framework's own
    attention. error, reason: of a run that ends. settings: key -> value as text, in report order; lines: key -> line in
    `file`. scenarios: those that such a run meets, by design or not. measured: a micro-run of the framework's
    own attention answered. versions: what it requires of other packages; installed: what is there.
    """

    name: str
    title: str
    version: str
    version_from: str
    kind: Kind
    implementation: str = ""
    error: str = ""
    reason: str = ""
    file: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    sub_models: tuple[SubModel, ...] = ()
    scenarios: tuple[str, ...] = ()
    warnings: tuple[JudgedWarning, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    measured: bool = False


def section(
    framework: Framework,
    resolution: Resolution,
    warnings: tuple[JudgedWarning, ...] = (),
    measured: bool = False,
) -> FrameworkSection:
    """The section of a resolution."""
    outcome = resolution.outcome
    kind, implementation, error, reason = Kind.UNKNOWN, "", "", ""
    if isinstance(outcome, Runs):
        kind, implementation = Kind.RUNS, outcome.implementation
    elif isinstance(outcome, RunsOwn):
        kind, implementation, reason = Kind.OWN, outcome.what, ", ".join(outcome.backends)
    elif isinstance(outcome, Fails):
        kind, error, reason = Kind.FAILS, outcome.error, outcome.reason
    else:
        reason = outcome.reason
    return FrameworkSection(
        name=framework.name,
        title=framework.title,
        version=resolution.version,
        version_from=resolution.version_from,
        kind=kind,
        implementation=implementation,
        error=error,
        reason=reason,
        file=resolution.file,
        settings=resolution.settings,
        lines={key: line for key, line in resolution.lines.items() if key in resolution.settings},
        steps=resolution.steps,
        sub_models=resolution.sub_models,
        scenarios=(*resolution.scenarios, *resolution.beside),
        warnings=warnings,
        versions=resolution.versions,
        measured=measured,
    )
