"""What a finding's evidence sets against one another, as its rule calls it, and what of it stands for all."""

from __future__ import annotations

from collections.abc import Sequence

from attncheck.findings import SIDES, Finding, Recommendation


def sides(finding: Finding) -> tuple[str, str]:
    """The names of `Evidence.declared` and `Evidence.effective`; the usual ones for a rule of another release."""
    from attncheck.checks import registry

    rule = registry.rule(finding.slug)
    return SIDES if rule is None else rule.sides


def apart(finding: Finding) -> bool:
    """True where each finding of the rule is a figure of its own, which no other one stands for."""
    return sides(finding) != SIDES


def distinct(findings: Sequence[Finding]) -> list[Recommendation]:
    """Each distinct recommendation of findings of one rule; of figures, the first with a setting stands for all."""
    found: dict[str, Recommendation] = {}
    for finding in findings:
        for entry in finding.recommendations:
            found.setdefault(entry.paste if entry.paste and apart(finding) else entry.text, entry)
    return list(found.values())
