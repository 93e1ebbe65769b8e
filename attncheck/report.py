"""Report: all that a renderer may read. Frozen, plain, complete; measured once and rendered many times."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from attncheck.baseline import Baseline
from attncheck.environment import Environment
from attncheck.errors import FindingsError, NoVerdictError
from attncheck.findings import Finding, Severity
from attncheck.frameworks.section import FrameworkSection, Kind
from attncheck.installed.inventory import Inventory
from attncheck.installed.state import TorchState
from attncheck.semantics.convention import Ability, Convention
from attncheck.semantics.incident import WindowIncident
from attncheck.semantics.shape import ShapeReading
from attncheck.semantics.speeds import Speeds
from attncheck.semantics.sub_models import AskedRun, WithoutFlash
from attncheck.semantics.timing import Bench
from attncheck.semantics.timing_changes import BenchChanges
from attncheck.semantics.watched import Watch
from attncheck.verdicts import Cell, Implementation, Model, Recommended, Verdict

#: How a report is seen from Python; said where only a line of it is shown.
SHOWN = "attncheck.text(report) shows the report, attncheck.save(report, 'report.html') writes it"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of `doctor`: ran or not, and why not."""

    code: str
    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """One run of one command.

    speeds: what a stored bench says for the recommendation. sub_models: what each sub-model runs when attention is
    asked for in some way. without: the answer to `--without`. missing: field of this report (or "imports") -> why
    nobody looked at what would stand there. changes: this bench against a stored one. watch: what a watch saw of a
    running script. baseline: what an earlier report changed about this one. fail_on: lowest severity that makes the
    command fail ("error", "warning", "never").
    """

    command: str
    version: str
    environment: Environment
    arguments: Mapping[str, str] = field(default_factory=dict)
    model: Model | None = None
    implementations: tuple[Implementation, ...] = ()
    core_scenarios: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    matrix: tuple[Cell, ...] = ()
    findings: tuple[Finding, ...] = ()
    recommended: Recommended | None = None
    speeds: Speeds | None = None
    checks: tuple[Check, ...] = ()
    conventions: tuple[Convention, ...] = ()
    abilities: tuple[Ability, ...] = ()
    inventory: Inventory | None = None
    torch: TorchState | None = None
    incident: WindowIncident | None = None
    shapes: tuple[ShapeReading, ...] = ()
    sub_models: tuple[AskedRun, ...] = ()
    without: WithoutFlash | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    bench: Bench | None = None
    changes: BenchChanges | None = None
    framework: FrameworkSection | None = None
    watch: Watch | None = None
    baseline: Baseline | None = None
    fail_on: str = "error"

    @property
    def exit_code(self) -> int:
        """0: nothing at or above `fail_on`; 1: findings at or above it; 3: no verdict was reached, or nothing timed.

        Findings that stand in the baseline do not count. 130: a bench that was interrupted.
        """
        if self.bench is not None and not self.bench.complete:
            return 130
        if self.fail_on != "never":
            limit = Severity(self.fail_on).rank
            if any(finding.severity.rank >= limit and not finding.known for finding in self.findings):
                return 1
        if self.bench is not None:
            return 0 if any(cell.median is not None for cell in self.bench.cells) else 3
        runs = self.framework.implementation if self.framework is not None and self.framework.kind is Kind.RUNS else ""
        judged = [cell for cell in self.matrix if cell.verdict in (Verdict.OK, Verdict.MISMATCH)]
        reached = any(cell.implementation == runs or not runs for cell in judged)
        reached = reached or (self.framework is not None and self.framework.measured)
        return 0 if reached or self.model is None else 3

    def raise_for_findings(self, fail_on: str | None = None) -> Report:
        """The report itself when nothing is found at or above `fail_on` (the report's own by default).

        Raises FindingsError, with one line a finding, when something is, and NoVerdictError when no verdict was
        reached: nothing found because nothing could be read is no success.
        """
        judged = self if fail_on is None else replace(self, fail_on=fail_on)
        if judged.exit_code == 1:
            limit = Severity(judged.fail_on).rank
            found = [finding for finding in self.findings if finding.severity.rank >= limit and not finding.known]
            lines = [f"{finding.code} {finding.slug}{_where(finding)}: {finding.message}" for finding in found]
            pastes = dict.fromkeys(advice.paste or advice.text for f in found for advice in f.recommendations)
            raise FindingsError("\n".join(lines), "\n".join(pastes), self)
        if judged.exit_code == 3:
            raise NoVerdictError(
                f"attncheck {self.command}: no verdict was reached", "; ".join(self._silent()) or SHOWN
            )
        return self

    def __str__(self) -> str:
        """`verify llama: 1 error (mask-inverted), 2 warnings`, and what shows all of it."""
        return f"{self._line()}; {SHOWN}"

    def __repr__(self) -> str:
        return f"<attncheck.Report {self._line()}>"

    def _line(self) -> str:
        about = "" if self.model is None else self.model.id
        if self.model is not None and self.model.source == "path":
            about = os.path.basename(os.path.normpath(about))
        slugs = dict.fromkeys(finding.slug for finding in self.findings if finding.severity is Severity.ERROR)
        counts = [f"{self.count(kind)} {kind.value}{'' if self.count(kind) == 1 else 's'}" for kind in Severity]
        counts = [
            f"{words} ({', '.join(slugs)})" if kind is Severity.ERROR and slugs else words
            for kind, words in zip(Severity, counts)
            if self.count(kind)
        ]
        unsaid = "no verdict was reached" if self.exit_code == 3 else "no findings"
        return f"{f'{self.command} {about}'.rstrip()}: {', '.join(counts) or unsaid}"

    def _silent(self) -> list[str]:
        """Why cells have no verdict."""
        return list(dict.fromkeys(cell.reason for cell in self.matrix if cell.reason))

    def count(self, severity: Severity) -> int:
        """Findings of one severity."""
        return sum(finding.severity is severity for finding in self.findings)


def _where(finding: Finding) -> str:
    """` (layers 0, 5; scenario plain)`, as far as the finding has a place."""
    many = len(finding.layers) > 6
    layers = f"{finding.layers[0]} to {finding.layers[-1]}" if many else ", ".join(map(str, finding.layers))
    words = [f"layer{'s' if len(finding.layers) > 1 else ''} {layers}" if finding.layers else "", finding.scenario]
    said = "; ".join(word for word in words if word)
    return f" ({said})" if said else ""
