"""Finds the rule groups and answers which rules there are."""

from __future__ import annotations

from functools import cache

from attncheck.checks.interface import RuleGroup
from attncheck.discovery import plugins
from attncheck.findings import Rule


@cache
def groups() -> tuple[RuleGroup, ...]:
    """Every rule group, in report order. Raises ValueError when two rules share a code or a slug."""
    from attncheck import checks

    found = tuple(sorted(plugins(checks, "GROUP", RuleGroup), key=lambda group: group.order))
    listed = [rule for group in found for rule in group.rules]
    for name in ("code", "slug"):
        values = [getattr(rule, name) for rule in listed]
        if twice := {value for value in values if values.count(value) > 1}:
            raise ValueError(f"rules share the {name} {sorted(twice)}")
    return found


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule, in order of its code."""
    return tuple(sorted((rule for group in groups() for rule in group.rules), key=lambda rule: rule.code))


def rule(name: str) -> Rule | None:
    """The rule of a code or slug, None when there is none."""
    return next((entry for entry in rules() if name in (entry.code, entry.slug)), None)


@cache
def code_of(slug: str) -> str:
    """The code of a slug. Raises KeyError: a slug without a rule is a bug."""
    found = rule(slug)
    if found is None:
        raise KeyError(f"no rule for {slug}")
    return found.code
