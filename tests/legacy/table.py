"""bank.toml as objects."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Case:
    """One defect; the head of bank.toml says what each field means."""

    id: str
    impl: tuple[str, ...]
    scenario: str
    bad: tuple[str, ...] = ()
    slug: str = ""
    beside: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    package: str = "transformers"
    target: str = ""
    set: tuple[str, ...] = ()
    variant: str = ""
    basis: str = ""
    severity: str = ""
    refused: bool = False
    route: str = "compare"
    ci: tuple[str, ...] = ()
    thread: str = ""
    note: str = ""
    also: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)

    def wanted(self, implementation: str, version: str) -> str:
        """The slug that must show there."""
        return self.also.get(f"{implementation} {version}", self.slug)

    def ends(self, ci: bool = False) -> tuple[tuple[str, bool], ...]:
        """(release, the defect is in it) of all runs, or of those of the small subset."""
        every = [(version, True) for version in self.bad] + [(version, False) for version in self.fixed]
        return tuple(end for end in every if not ci or end[0] in self.ci)

    def may_remain(self, implementation: str) -> frozenset[str]:
        """Slugs that the fixed release may still show there."""
        found = set()
        for entry in self.left:
            slug, _, where = entry.partition(" ")
            if where in ("", implementation):
                found.add(slug)
        return frozenset(found)


@cache
def cases() -> tuple[Case, ...]:
    """Every case, in the order of the file. Raises TypeError for a field that does not exist."""
    raw = tomllib.loads(Path(__file__).with_name("bank.toml").read_text())["case"]
    return tuple(
        Case(**{key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()})
        for entry in raw
    )
