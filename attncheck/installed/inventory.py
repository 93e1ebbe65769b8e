"""Files, copies and builds of the installed distributions that decide which attention runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Build:
    """What a distribution was built for, as far as its files say. "" and (): not said.

    torch: version. cuda: version, or its major number where only that is known. cxx11abi: "TRUE" or "FALSE". python:
    tag ("cp312") where the native code is bound to one Python version. architectures: compute capabilities that its
    native code holds ("9.0", "9.0a", "8.0+PTX"), read from the binaries. needed: libraries that its native code asks
    the loader for ("libcudart.so.12"). source: of all this.
    """

    torch: str = ""
    cuda: str = ""
    cxx11abi: str = ""
    python: str = ""
    architectures: tuple[str, ...] = ()
    source: str = ""
    needed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clobbered:
    """Files that two installed distributions both claim, with different recorded hashes.

    owners: the two distributions with versions. files: how many. intact: the owner whose recorded hashes the files on
    disk match, "" when neither or unknown. example: one of the files, relative to site-packages. matches: how many of
    the files are those of the first and of the second owner.
    """

    owners: tuple[tuple[str, str], tuple[str, str]]
    files: int
    intact: str = ""
    example: str = ""
    matches: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Copies:
    """Several copies of one distribution on the path. places: (folder, version) in path order; the first is used."""

    name: str
    places: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A distribution some of whose recorded files are gone. files: how many. example: one of them."""

    name: str
    version: str
    files: int
    example: str


@dataclass(frozen=True, slots=True)
class Unmet:
    """A requirement of an installed distribution that is not met. found: the version that lies there, "" for none."""

    name: str
    version: str
    requirement: str
    found: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything read. builds: distribution -> its build. versions: of every distribution on the path.

    packages: import package -> the distributions that fill it, for the packages that attention comes from.
    """

    builds: Mapping[str, Build] = field(default_factory=dict)
    clobbered: tuple[Clobbered, ...] = ()
    copies: tuple[Copies, ...] = ()
    unmet: tuple[Unmet, ...] = ()
    incomplete: tuple[Incomplete, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
