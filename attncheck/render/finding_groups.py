"""Findings in the order of the page: by slug and severity, the worst first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attncheck.findings import Finding, Severity


@dataclass(frozen=True, slots=True)
class Group:
    """Findings of one slug and severity, in the report's order; the first leads.

    also: warnings that say of an implementation what one of these errors says already, in scenarios nobody asked for.
    """

    findings: tuple[Finding, ...]
    also: tuple[Finding, ...] = ()

    @property
    def lead(self) -> Finding:
        """The finding whose evidence is shown: the first with masks, else the first."""
        return next((f for f in self.findings if f.evidence.declared_mask is not None), self.findings[0])

    def by_message(self) -> dict[str, list[Finding]]:
        """The findings that say the same, those of the lead first."""
        found: dict[str, list[Finding]] = {}
        for finding in (self.lead, *self.findings):
            same = found.setdefault(finding.message, [])
            if finding not in same:
                same.append(finding)
        return found

    def by_reason(self) -> list[list[Finding]]:
        """The findings whose evidence says the same on both sides, the lead's first: with what says nothing itself."""
        found: dict[tuple[str, str], list[Finding]] = {}
        for finding in (self.lead, *self.findings):
            key = (finding.evidence.declared, finding.evidence.effective)
            same = found.setdefault(key, []) if all(key) or not found else next(iter(found.values()))
            if finding not in same:
                same.append(finding)
        return list(found.values())


def groups(findings: Iterable[Finding]) -> list[Group]:
    """Grouped by slug and severity, errors first, then in the report's order."""
    every = tuple(findings)
    told = {(f.slug, f.implementation, f.part) for f in every if f.severity is Severity.ERROR}
    found: dict[tuple[str, Severity], list[Finding]] = {}
    also: dict[str, list[Finding]] = {}
    for finding in every:
        same = (finding.slug, finding.implementation, finding.part)
        if finding.severity is Severity.WARNING and finding.scenario and same in told:
            also.setdefault(finding.slug, []).append(finding)
        else:
            found.setdefault((finding.slug, finding.severity), []).append(finding)
    return [
        Group(tuple(group), tuple(also.get(slug, ())) if severity is Severity.ERROR else ())
        for (slug, severity), group in sorted(found.items(), key=lambda item: -item[0][1].rank)
    ]
