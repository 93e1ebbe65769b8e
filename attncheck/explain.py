"""The use case of `explain`: from a code, a slug or nothing to the rules that were asked for."""

from __future__ import annotations

import difflib

from attncheck import checks
from attncheck.errors import UsageError
from attncheck.findings import Rule


def find_rules(name: str | None) -> tuple[Rule, ...]:
    """All rules in order of code, or the one with that code or slug. Raises UsageError with the nearest names."""
    rules = tuple(sorted(checks.rules(), key=lambda rule: rule.code))
    if name is None:
        return rules
    for rule in rules:
        if name.upper() == rule.code or name.lower().replace("_", "-") == rule.slug:
            return (rule,)
    known = {rule.slug: rule.slug for rule in rules} | {rule.code.lower(): rule.code for rule in rules}
    nearest = [known[match] for match in difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)]
    raise UsageError(
        f"no rule is called {name!r}" + (f"; the nearest are {', '.join(nearest)}" if nearest else ""),
        "attncheck explain lists them all",
    )
