"""Reads shared objects by hand: GPU architectures they hold code for, libraries they need, C++ ABI of their symbols.

About fifty lines of `struct` instead of a dependency: of the ELF format only the section table is needed (three names
in it), no dependency of the base install reads ELF, and pyelftools would parse far more than the few hundred headers
that are looked at here. The fat binary that nvcc appends is not known to any such package anyway.

Nothing is loaded. The file is mapped and read header by header, so that a library of a gigabyte costs milliseconds.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: `__fatBinC_Wrapper_t` and the header before each group of entries (fatbinary.h of the CUDA toolkit): magic.
_FATBIN_MAGIC = 0xBA55ED50
#: Kinds of entries there.
_PTX, _CUBIN = 1, 2
#: Bits in an entry's flags. Read in real libraries: bit 20 is set for the targets that the build names "a" (sm_90a of
#: xformers 0.0.35, whose cpp_lib.json lists them), bit 21 for those of a family (sm_120f).
_ARCH_SPECIFIC, _FAMILY = 1 << 20, 1 << 21
_FATBIN_SECTIONS = (".nv_fatbin", "__nv_relfatbin")
#: More headers than any library has; a damaged file must not keep the reader busy.
_MOST_ENTRIES = 200_000
_DT_NEEDED = 1
_ELF64_LITTLE = b"\x7fELF\x02\x01"
_SECTION = struct.Struct("<IIQQQQIIQQ")
_GROUP = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQIIHHIIIQ")
_DYNAMIC = struct.Struct("<qQ")
#: Functions of torch that take a std::string, and that extensions of torch call: their mangled names tell the ABI.
_TELLING = (b"_ZN3c106detail14torchCheckFail", b"_ZN3c105ErrorC")


@dataclass(frozen=True, slots=True)
class Binary:
    """One shared object. architectures: sorted, as in `Build`. needed: names of the libraries it asks the loader for.

    cxx11abi: "TRUE" or "FALSE" where its symbols tell, else "".
    """

    architectures: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    cxx11abi: str = ""


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    offset: int
    size: int


def read_binary(path: Path) -> Binary:
    """What the file says. An empty answer for anything but a sound 64-bit little-endian ELF file; never raises."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(data)
    except (OSError, ValueError, struct.error):  # unreadable, empty, or cut off
        return Binary()


def _read(data: mmap.mmap) -> Binary:
    if data[:6] != _ELF64_LITTLE:
        return Binary()
    sections = _sections(data)
    found: set[str] = set()
    for section in sections:
        if section.name in _FATBIN_SECTIONS:
            found.update(_architectures(data, section.offset, section.offset + section.size))
    names = next((section for section in sections if section.name == ".dynstr"), None)
    if names is None:
        return Binary(ordered(found))
    dynamic = next((section for section in sections if section.name == ".dynamic"), None)
    needed = tuple(_needed(data, dynamic, names)) if dynamic is not None else ()
    return Binary(ordered(found), needed, _cxx11abi(data, names))


def _sections(data: mmap.mmap) -> list[_Section]:
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    if not table:
        return []
    headers = [_SECTION.unpack_from(data, table + i * size) for i in range(count)]
    start = headers[names][4]
    found = []
    for header in headers:
        end = data.find(b"\0", start + header[0])
        found.append(_Section(data[start + header[0] : end].decode("ascii", "replace"), header[4], header[5]))
    return found


def _architectures(data: mmap.mmap, position: int, end: int) -> Iterator[str]:
    """Every target in a section of fat binaries, with repetitions."""
    left = _MOST_ENTRIES
    while position + _GROUP.size <= end and left:
        left -= 1
        magic, _, header, size = _GROUP.unpack_from(data, position)
        if magic != _FATBIN_MAGIC:
            position += 8  # groups are aligned to eight bytes, with padding between them
            continue
        entry, position = position + header, position + header + size
        while entry + _ENTRY.size <= min(position, end) and left:
            left -= 1
            kind, _, header, size, _, _, _, _, architecture, _, _, flags = _ENTRY.unpack_from(data, entry)
            if kind in (_PTX, _CUBIN):
                suffix = "a" if flags & _ARCH_SPECIFIC else "f" if flags & _FAMILY else ""
                yield f"{architecture // 10}.{architecture % 10}{suffix}" + ("+PTX" if kind == _PTX else "")
            if header + size == 0:
                break
            entry += header + size


def _needed(data: mmap.mmap, section: _Section, names: _Section) -> Iterator[str]:
    for position in range(section.offset, section.offset + section.size - _DYNAMIC.size + 1, _DYNAMIC.size):
        tag, value = _DYNAMIC.unpack_from(data, position)
        if tag == 0:
            return
        if tag == _DT_NEEDED:
            start = names.offset + value
            yield data[start : data.find(b"\0", start)].decode("utf-8", "replace")


def _cxx11abi(data: mmap.mmap, names: _Section) -> str:
    stop = names.offset + names.size
    for prefix in _TELLING:
        start = data.find(prefix, names.offset, stop)
        while start >= 0:
            end = data.find(b"\0", start, stop)
            symbol = data[start:end]
            if b"__cxx11" in symbol:
                return "TRUE"
            if b"RKSs" in symbol or b"LocationESs" in symbol:
                return "FALSE"
            start = data.find(prefix, end, stop) if end >= 0 else -1
    return ""


def ordered(architectures: Iterable[str]) -> tuple[str, ...]:
    """Without repetitions, oldest first."""
    return tuple(sorted(set(architectures), key=_order))


def _order(architecture: str) -> tuple[int, int, str]:
    major, _, rest = architecture.partition(".")
    minor = rest[:1]
    return int(major), int(minor) if minor.isdigit() else 0, rest


def covers(architecture: str, capability: tuple[int, int]) -> bool:
    """True when code for this target runs on a GPU of this compute capability.

    Machine code runs on its own major version from its minor version on; PTX is compiled by the driver for anything
    newer; an "a" target runs on that very GPU only, an "f" target within its family: its major version, upwards
    (CUDA C++ Programming Guide, "Binary compatibility" and "Feature set compiler targets").
    """
    match = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", architecture)
    if match is None:
        return False
    target = int(match[1]), int(match[2])
    if match[3] == "a":
        return target == capability
    if match[4] and not match[3]:
        return target <= capability
    return target[0] == capability[0] and target[1] <= capability[1]
