"""Report: all that a renderer may read. Frozen, plain, complete; measured once and rendered many times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attncheck.environment import Environment
from attncheck.findings import Finding, Severity
from attncheck.verdicts import Cell, Implementation, Model, Recommended


@dataclass(frozen=True, slots=True)
class Check:
    """One check of `doctor`: ran or not, and why not."""

    code: str
    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one command."""

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

    def count(self, severity: Severity) -> int:
        """Findings of one severity."""
        return sum(finding.severity is severity for finding in self.findings)
