"""Small fakes of installed packages: distributions with a RECORD, extensions compiled here, ELF files by hand."""

from __future__ import annotations

import base64
import hashlib
import shutil
import struct
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

#: Kinds of entries in a fat binary, and the flags of its "a" and "f" targets.
PTX, CUBIN = 1, 2
ARCH_SPECIFIC, FAMILY = 1 << 20, 1 << 21


def distribution(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, str] | None = None,
    *,
    requires: tuple[str, ...] = (),
    tag: str = "py3-none-any",
    recorded: tuple[str, ...] = (),
) -> Path:
    """Install a distribution as pip would: its files over whatever lies there, and its metadata with their hashes.

    recorded: files that lie there already and belong to it (compiled extensions). Returns the metadata folder.
    """
    lines = []
    for path, content in (files or {}).items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(content.encode())}")
    lines += [f"{path},sha256=none,{(folder / path).stat().st_size}" for path in recorded]
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    stated = "".join(f"Requires-Dist: {entry}\n" for entry in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{stated}\nText: none\n")
    (info / "WHEEL").write_text(f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
    own = [f"{info.name}/{file},," for file in ("METADATA", "WHEEL", "RECORD")]
    (info / "RECORD").write_text("\n".join([*lines, *own]) + "\n")
    return info


def extension(folder: Path, name: str, *, calls: str, library: str = "") -> str:
    """Compile an extension module whose `PyInit` calls a symbol nobody defines, and return its file name.

    library: name of a shared object that defines the symbol; it is linked and then removed. Skips without a compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the extension modules of this test cannot be built")
    include = sysconfig.get_paths()["include"]
    if not (Path(include) / "Python.h").exists():
        pytest.skip("no Python headers: the extension modules of this test cannot be built")
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"{name}.c"
    source.write_text(
        f"#include <Python.h>\nextern void {calls}(void);\n"
        f"PyMODINIT_FUNC PyInit_{name}(void) {{ {calls}(); return NULL; }}\n"
    )
    built = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    linked: list[str] = []
    other = folder / f"lib{library}.so"
    if library:
        helper = folder / "helper.c"
        helper.write_text(f"void {calls}(void) {{}}\n")
        subprocess.run([compiler, "-shared", "-fPIC", str(helper), "-o", str(other)], check=True)
        helper.unlink()
        linked = [f"-L{folder}", f"-l{library}"]
    command = [compiler, "-shared", "-fPIC", f"-I{include}", str(source), *linked, "-o", str(built)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the C compiler fails: {done.stderr.strip()[:200]}")
    source.unlink()
    if library:
        other.unlink()
    return built.name


def fat_binary(*entries: tuple[int, int, int]) -> bytes:
    """A group of entries as nvcc writes it. entries: (kind, architecture such as 90, flags)."""
    body = b""
    for kind, architecture, flags in entries:
        payload = b"\x7fELF" + bytes(60)
        header = struct.pack("<HHIQIIHHIIIQ", kind, 257, 64, len(payload), 0, 0, 1, 8, architecture, 0, 0, flags)
        body += header.ljust(64, b"\0") + payload
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def elf(sections: Mapping[str, bytes], needed: tuple[str, ...] = (), symbols: tuple[str, ...] = ()) -> bytes:
    """A 64-bit ELF file with these sections, a .dynamic that needs libraries, and a .dynstr with symbol names."""
    strings, offsets = b"\0", []
    for name in needed:
        offsets.append(len(strings))
        strings += name.encode() + b"\0"
    strings += b"".join(symbol.encode() + b"\0" for symbol in symbols)
    dynamic = b"".join(struct.pack("<qQ", 1, offset) for offset in offsets) + struct.pack("<qQ", 0, 0)
    every = {"": b"", **sections, ".dynstr": strings, ".dynamic": dynamic}
    names, places = b"", {}
    for name in (*every, ".shstrtab"):
        places[name] = len(names)
        names += name.encode() + b"\0"
    every[".shstrtab"] = names
    body, headers = b"", b""
    for name, content in every.items():
        body += bytes(-len(body) % 8)
        headers += struct.pack("<IIQQQQIIQQ", places[name], 1, 0, 0, 64 + len(body), len(content), 0, 0, 8, 0)
        body += content
    body += bytes(-len(body) % 8)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HHIQQQI", 3, 62, 1, 0, 0, 64 + len(body), 0)
    head += struct.pack("<HHHHHH", 64, 0, 0, 64, len(every), len(every) - 1)
    return head + body + headers
