"""What a shell completes: names of rules, implementations, scenarios and presets. Nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Named = Iterable[tuple[str, str]]


def rules(incomplete: str) -> list[tuple[str, str]]:
    """Names and codes of rules, for `explain`: codes where a code was begun, names else."""
    from attncheck import checks

    found = sorted(checks.rules(), key=lambda rule: rule.code)
    if incomplete[:3].upper() == "ATC":
        return _beginning(((rule.code, rule.title) for rule in found), incomplete.upper())
    return _beginning(((rule.slug, rule.title) for rule in found), incomplete.lower().replace("_", "-"))


def implementations(incomplete: str) -> list[tuple[str, str]]:
    """Implementations of transformers, one after another with commas."""
    from attncheck.frameworks import transformers

    return _listed(((name, "") for name in transformers.implementations()), incomplete)


def scenarios(incomplete: str) -> list[tuple[str, str]]:
    """Scenarios, those included that run on request only."""
    from attncheck.probe.scenario import every_scenario

    return _listed(((scenario.name, scenario.summary) for scenario in every_scenario()), incomplete)


def machine_checks(incomplete: str) -> list[tuple[str, str]]:
    """The checks of doctor by name."""
    from attncheck.doctor import machine_checks as checks

    return _listed(((check.rule.slug, check.rule.title) for check in checks()), incomplete)


def apis(incomplete: str) -> list[tuple[str, str]]:
    """The kernel APIs that doctor reads."""
    from attncheck.backends import interface

    return _listed(((name, "") for name in interface.apis()), incomplete)


def presets(incomplete: str) -> list[tuple[str, str]]:
    """The presets of bench."""
    from attncheck.bench.presets import PRESETS

    return _beginning(((preset.name, preset.about) for preset in PRESETS.values()), incomplete)


def incidents(incomplete: str) -> list[tuple[str, str]]:
    """What `doctor --reproduce` can run."""
    from attncheck.reproduce import TE_WINDOW

    return _beginning([(TE_WINDOW, "TransformerEngine's window number")], incomplete)


def frameworks(incomplete: str) -> list[tuple[str, str]]:
    """Training frameworks."""
    from attncheck.frameworks import plugin

    return _beginning(((name, one.title) for name, one in plugin.frameworks().items()), incomplete)


def formats(incomplete: str) -> list[tuple[str, str]]:
    """Formats of a report."""
    from attncheck.render import interface

    return _beginning(((name, one.summary) for name, one in interface.renderers().items()), incomplete)


def _beginning(named: Named, incomplete: str) -> list[tuple[str, str]]:
    return [(name, summary) for name, summary in named if name.startswith(incomplete)]


def _listed(named: Named, incomplete: str) -> list[tuple[str, str]]:
    """The same for `A,B`: what stands before the last comma stays, and what it names is not offered again."""
    before, comma, last = incomplete.rpartition(",")
    taken = set(before.split(","))

    def left() -> Iterator[tuple[str, str]]:
        yield from ((name, summary) for name, summary in named if name not in taken)

    return [(f"{before}{comma}{name}", summary) for name, summary in _beginning(left(), last)]
