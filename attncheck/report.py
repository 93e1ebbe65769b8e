"""Report: all that a renderer may read. Frozen, plain, complete; measured once and rendered many times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attncheck.environment import Environment
from attncheck.findings import Finding, Severity
from attncheck.installed.inventory import Inventory
from attncheck.installed.state import TorchState
from attncheck.semantics.convention import Ability, Convention
from attncheck.semantics.incident import WindowIncident
from attncheck.semantics.shape import ShapeReading
from attncheck.semantics.timing import Bench
from attncheck.semantics.timing_changes import BenchChanges
from attncheck.verdicts import Cell, Implementation, Model, Recommended, Verdict


@dataclass(frozen=True, slots=True)
class Check:
    """One check of `doctor`: ran or not, and why not."""

    code: str
    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one command.

    missing: field of this report (or "imports") -> why nobody looked at what would stand there. changes: this bench
    against a stored one. fail_on: lowest severity that makes the command fail ("error", "warning", "never").
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
    checks: tuple[Check, ...] = ()
    conventions: tuple[Convention, ...] = ()
    abilities: tuple[Ability, ...] = ()
    inventory: Inventory | None = None
    torch: TorchState | None = None
    incident: WindowIncident | None = None
    shapes: tuple[ShapeReading, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    bench: Bench | None = None
    changes: BenchChanges | None = None
    fail_on: str = "error"

    @property
    def exit_code(self) -> int:
        """0: nothing at or above `fail_on`; 1: findings at or above it; 3: no verdict was reached, or nothing timed.

        130: a bench that was interrupted.
        """
        if self.bench is not None and not self.bench.complete:
            return 130
        if self.fail_on != "never":
            limit = Severity(self.fail_on).rank
            if any(finding.severity.rank >= limit for finding in self.findings):
                return 1
        if self.bench is not None:
            return 0 if any(cell.median is not None for cell in self.bench.cells) else 3
        reached = any(cell.verdict in (Verdict.OK, Verdict.MISMATCH) for cell in self.matrix)
        return 0 if reached or self.model is None else 3

    def count(self, severity: Severity) -> int:
        """Findings of one severity."""
        return sum(finding.severity is severity for finding in self.findings)
