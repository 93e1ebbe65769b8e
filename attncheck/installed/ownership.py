"""Who owns which files: distributions that install the same files, and those that fill the same import package."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from attncheck.installed.distributions import Entry, Installed, entries, first_part, record, top_levels
from attncheck.installed.inventory import Clobbered, Incomplete

#: Beyond this a file is not hashed: the recorded sizes of large binaries nearly always differ, and reading gigabytes
#: would cost more than it tells.
_LARGEST_HASHED = 8 << 20
#: Names that many distributions install by mistake beside their package; nothing imports attention from there.
_COMMON = frozenset(["tests", "test", "docs", "doc", "examples", "benchmarks", "scripts", "tools", "LICENSE"])


def read_ownership(
    installed: Mapping[str, Sequence[Installed]], matter: Collection[str], modules: Collection[str]
) -> tuple[tuple[Clobbered, ...], dict[str, tuple[str, ...]]]:
    """(files claimed twice, import package -> distributions that fill it).

    installed: as `scan` gives it. matter: names of the distributions to look at; modules: import packages to look at
    whoever fills them. Every other distribution that writes into the same packages of the same folder is compared with
    these. Only files with two different recorded digests count: two wheels may ship one and the same file.
    """
    packages: dict[str, tuple[str, ...]] = {}
    clobbered: list[Clobbered] = []
    for folder, here in _by_folder(installed).items():
        if not any(entry.name in matter for entry in here) and not any((folder / name).exists() for name in modules):
            continue
        records = [(entry, record(entry)) for entry in here]
        fills = [{_module(top) for top in top_levels(content)} - _COMMON for _, content in records]
        wanted = {module for module in modules if "." not in module}.union(
            *(its for entry, its in zip(here, fills) if entry.name in matter)
        )
        owners = {module: {entry.name for entry, its in zip(here, fills) if module in its} for module in wanted}
        for module, names in owners.items():
            if names:
                packages.setdefault(module, tuple(sorted(names)))
        for module in (name for name in modules if "." in name):
            if filling := [entry.name for entry, content in records if _fills(content, module)]:
                packages.setdefault(module, tuple(sorted(filling)))
        shared = {module for module, names in owners.items() if len(names) > 1}
        claims = [
            (entry, _claims(content, its & shared)) for (entry, content), its in zip(records, fills) if its & shared
        ]
        for (one, its), (other, others) in itertools.combinations(claims, 2):
            if one.name != other.name and (found := _compare(one, its, other, others)):
                clobbered.append(found)
    return tuple(clobbered), packages


def missing_files(installed: Installed) -> Incomplete | None:
    """What is left of a distribution whose recorded files are partly gone; None when all are there.

    Compiled Python files are not counted: anything may remove them.
    """
    gone = [
        entry.path
        for entry in entries(record(installed))
        if entry.digest and not entry.path.startswith("..") and not (installed.folder / entry.path).exists()
    ]
    return Incomplete(installed.name, installed.version, len(gone), min(gone)) if gone else None


def _fills(content: bytes, module: str) -> bool:
    prefix = module.replace(".", "/").encode() + b"/"
    return content.startswith(prefix) or b"\n" + prefix in content


def _by_folder(installed: Mapping[str, Sequence[Installed]]) -> dict[Path, list[Installed]]:
    folders: dict[Path, list[Installed]] = {}
    for entry in (entry for found in installed.values() for entry in found):
        folders.setdefault(entry.folder, []).append(entry)
    return folders


def _claims(content: bytes, modules: Collection[str]) -> dict[str, Entry]:
    """Path -> entry for the hashed files of these import packages."""
    lines = b"\n".join(line for line in content.splitlines() if _module(first_part(line)) in modules)
    return {entry.path: entry for entry in entries(lines) if entry.digest}


def _compare(
    one: Installed, its: Mapping[str, Entry], other: Installed, others: Mapping[str, Entry]
) -> Clobbered | None:
    both = [path for path in its.keys() & others.keys() if its[path].digest != others[path].digest]
    if not both:
        return None
    counts = [0, 0]
    for path in both:
        owner = _owner(one.folder / path, its[path], others[path])
        if owner is not None:
            counts[owner] += 1
    intact = ""
    if 0 in counts and any(counts):
        intact = (one, other)[counts.index(0) ^ 1].name
    return Clobbered(
        ((one.name, one.version), (other.name, other.version)),
        len(both),
        intact,
        min(both),
        (counts[0], counts[1]),
    )


def _owner(path: Path, first: Entry, second: Entry) -> int | None:
    """0 or 1 for the entry that the file on disk is, None for neither or unknown."""
    try:
        size = path.stat().st_size
        sizes = [entry.size in (size, None) for entry in (first, second)]
        if not any(sizes) or (all(sizes) and size > _LARGEST_HASHED):
            return None
        if size > _LARGEST_HASHED:
            return sizes.index(True)
        content = path.read_bytes()
    except OSError:
        return None
    return next((i for i, entry in enumerate((first, second)) if entry.digest == _digest(entry.digest, content)), None)


def _digest(like: str, content: bytes) -> str:
    """The content's digest in the notation of RECORD, by the algorithm that `like` names; "" for an unknown one."""
    import base64  # needed where two packages clash, and an import that takes longer than all the rest here
    import hashlib

    algorithm = like.partition("=")[0]
    try:
        value = hashlib.new(algorithm, content).digest()
    except (ValueError, TypeError):
        return ""
    return f"{algorithm}={base64.urlsafe_b64encode(value).rstrip(b'=').decode()}"


def _module(top: bytes) -> str:
    """What is imported: `flash_attn` of the folder, `pynvml` of pynvml.py."""
    return top.decode("utf-8", "replace").partition(".")[0]
