"""Requirements that installed distributions state and the environment does not meet, followed from one to the next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

from attncheck.installed.distributions import Installed, normalised, read_text
from attncheck.installed.inventory import Unmet

#: nvidia-cutlass-dsl-libs-cu12: the end of a distribution's name that says for which CUDA it is built.
_FOR_CUDA = re.compile(r"-cu\d+$")


def read_unmet(installed: Mapping[str, Sequence[Installed]], names: Iterable[str]) -> tuple[Unmet, ...]:
    """Unmet requirements of these distributions themselves, without extras. installed: as `scan` gives it."""
    return tuple(
        Unmet(name, installed[name][0].version, _words(requirement), found)
        for name in names
        for requirement in _requirements(installed[name][0])
        if (found := _found(requirement, installed)) is not None
    )


def _requirements(distribution: Installed) -> Iterator[Requirement]:
    text = read_text(distribution.info / "METADATA")
    for line in text.partition("\n\n")[0].splitlines():
        if not line.startswith("Requires-Dist:") or "extra ==" in line:
            continue
        try:
            requirement = Requirement(line.partition(":")[2].strip())
            if requirement.marker is None or requirement.marker.evaluate():
                yield requirement
        except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName):
            continue


def _found(requirement: Requirement, installed: Mapping[str, Sequence[Installed]]) -> str | None:
    """None when the requirement is met; else the version that lies there, "" when there is none."""
    name = normalised(requirement.name)
    found = installed.get(name)
    if not found:
        return None if any(_meets(requirement, entry) for entry in _variants(name, installed)) else ""
    return None if _meets(requirement, found[0]) else found[0].version


def _meets(requirement: Requirement, distribution: Installed) -> bool:
    try:
        return requirement.specifier.contains(distribution.version, prereleases=True)
    except InvalidVersion:  # a version that is none cannot be judged
        return True


def _variants(name: str, installed: Mapping[str, Sequence[Installed]]) -> Iterator[Installed]:
    """The same distribution built for another CUDA: metadata can name one only, and the fitting one does its work."""
    if _FOR_CUDA.search(name):
        stem = _FOR_CUDA.sub("", name)
        yield from (entries[0] for other, entries in installed.items() if _FOR_CUDA.sub("", other) == stem != other)


def _words(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"
