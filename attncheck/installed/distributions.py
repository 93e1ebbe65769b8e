"""Which distributions lie on a path, in its order, and the files each says it installed; by folder names and RECORD."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_SEPARATORS = re.compile(r"[-_.]+")
#: `name-version.dist-info`, `name-version-py3.12.egg-info`, `name.egg-info`: wheels escape "-" in both parts as "_".
_INFO_NAME = re.compile(r"(?P<name>[^-]+)(?:-(?P<version>[^-]+))?(?:-[^-]+)*\.(?:dist|egg)-info")


@dataclass(frozen=True, slots=True)
class Installed:
    """One distribution found on disk. name: normalised. folder: where its code lies; info: its metadata folder."""

    name: str
    version: str
    folder: Path
    info: Path

    @property
    def words(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a RECORD. path: relative to the folder, "/" between parts. digest: "sha256=...", size: in bytes."""

    path: str
    digest: str
    size: int | None


def normalised(name: str) -> str:
    """A distribution name as PEP 503 writes it: flash_attn -> flash-attn."""
    return _SEPARATORS.sub("-", name).lower()


def scan(path: Iterable[str]) -> Mapping[str, tuple[Installed, ...]]:
    """Name -> the distributions of that name, in the order of the path: `import` and pip's metadata use the first.

    Reads folder names only. A folder that stands on the path twice, or through a link, counts once.
    """
    found: dict[str, list[Installed]] = {}
    seen: set[str] = set()
    for entry in path:
        place = os.path.realpath(entry or os.curdir)
        if place in seen:
            continue
        seen.add(place)
        for installed in _in_folder(Path(place)):
            found.setdefault(installed.name, []).append(installed)
    return {name: tuple(entries) for name, entries in found.items()}


def _in_folder(folder: Path) -> list[Installed]:
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith("-info"))
    except OSError:
        return []
    found = []
    for name in names:
        match = _INFO_NAME.fullmatch(name)
        # pip renames what it is about to remove to "~ame": a leftover of that is no installation.
        if match is None or name.startswith("~"):
            continue
        version = match["version"] or _version_inside(folder / name)
        found.append(Installed(normalised(match["name"]), version, folder, folder / name))
    return found


def _version_inside(info: Path) -> str:
    for name in ("METADATA", "PKG-INFO"):
        if found := re.search(r"^Version:\s*(\S+)", read_text(info / name), re.MULTILINE):
            return found[1]
    return ""


def read_text(path: Path) -> str:
    """The file's text, "" when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def record(installed: Installed) -> bytes:
    """Its RECORD as it lies there; empty for what pip did not install from a wheel."""
    try:
        return (installed.info / "RECORD").read_bytes()
    except OSError:
        return b""


def entries(content: bytes) -> Iterator[Entry]:
    """The lines of a RECORD (PEP 376: path, digest, size), those of its own metadata folder among them."""
    for line in content.decode("utf-8", "replace").splitlines():
        path, _, rest = line.rpartition(",")
        path, _, digest = path.rpartition(",")
        if path:
            yield Entry(path.strip('"'), digest, int(rest) if rest.isdigit() else None)


def top_levels(content: bytes) -> set[bytes]:
    """First parts of the paths in a RECORD that something can be imported from: packages, modules and extensions."""
    # One split a line and all else on the few that differ: large environments record a hundred thousand files.
    first = {first_part(start) for start in {line.split(b"/", 1)[0] for line in content.split(b"\n")}}
    return {name for name in first if name and not name.startswith((b"..", b"__pycache__")) and b"-info" not in name}


def first_part(line: bytes) -> bytes:
    """The first part of the path in one line of a RECORD."""
    return line.partition(b",")[0].partition(b"/")[0].lstrip(b'"')
