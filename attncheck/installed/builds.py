"""What each distribution was built for: torch, CUDA, C++ ABI, Python and GPUs, as its own files say."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attncheck.installed.binaries import Binary, ordered, read_binary
from attncheck.installed.distributions import Installed, entries, read_text, record
from attncheck.installed.inventory import Build

#: "flash_attn-2.8.3+cu12torch2.5cxx11abiFALSE", "2.11.0+cu130", "2.10.0+cu128", "0.2.14+cu128torch2.7".
_CUDA_TAG = re.compile(r"cu(\d{2,3})(?!\d)")
_TORCH_TAG = re.compile(r"torch[-_]?(\d+\.\d+(?:\.\d+)?)", re.IGNORECASE)
_ABI_TAG = re.compile(r"cxx11_?abi(TRUE|FALSE|1|0)", re.IGNORECASE)
#: cp312-cp312-linux_x86_64 binds to one Python; cp39-abi3 and py3-none do not.
_PYTHON_TAG = re.compile(r"^Tag:\s*(cp\d+)-cp\d+", re.MULTILINE)
_EXTENSION_TAG = re.compile(r"\.cpython-(\d+)")
_CUDART = re.compile(r"libcudart\.so\.(\d+)")
#: Of torch's libraries those that tell something: the C++ ABI, the GPUs, the Python version.
_OF_TORCH = ("libc10.so", "libc10_cuda.so", "libtorch_cuda", "_C.")
_SHARED_OBJECT = re.compile(r"\.so(?:\.[\d.]+)?$")
#: Python files with the version of CUDA and torch in plain text.
_XFORMERS_BUILD = "xformers/cpp_lib.json"


def read_build(installed: Installed, *, native: bool) -> Build:
    """What the files of one distribution say. native: its shared objects may be read as well.

    Of two sources for one fact the more exact comes first: a build file of the library, the version's local part or the
    wheel's file name in direct_url.json, the wheel tags, the binaries.
    """
    sources: list[str] = []
    facts = _from_files(installed, sources)
    tags = f"{installed.version} {_wheel_name(installed)}"
    found = _from_tags(installed.name, tags)
    facts = {**found, **facts}
    if found:
        sources.append("version and wheel name")
    if python := _PYTHON_TAG.findall(read_text(installed.info / "WHEEL")):
        facts.setdefault("python", python[0])
        sources.append("WHEEL")
    binaries = _binaries(installed) if native else {}
    if binaries:
        facts = {**_from_binaries(binaries), **facts}
        sources.append(", ".join(sorted(binaries)[:3]))
    return Build(
        torch=facts.get("torch", ""),
        cuda=facts.get("cuda", ""),
        cxx11abi=facts.get("cxx11abi", ""),
        python=facts.get("python", ""),
        architectures=ordered(_together(binary.architectures for binary in binaries.values())),
        source="; ".join(sources),
        needed=_together(binary.needed for binary in binaries.values()),
    )


def _from_files(installed: Installed, sources: list[str]) -> dict[str, str]:
    if installed.name == "torch":
        return _from_torch(installed.folder / "torch" / "version.py", sources)
    if installed.name == "xformers" and (text := read_text(installed.folder / _XFORMERS_BUILD)):
        try:
            version: Any = json.loads(text)["version"]
            found = {"torch": str(version.get("torch") or ""), "cuda": _cuda_number(version.get("cuda"))}
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}
        sources.append(_XFORMERS_BUILD)
        return {key: value for key, value in found.items() if value}
    return {}


def _from_torch(path: Path, sources: list[str]) -> dict[str, str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return {}
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        named = any(isinstance(target, ast.Name) and target.id == "cuda" for target in targets)
        if named and isinstance(value, ast.Constant):
            sources.append("torch/version.py")
            return {"cuda": str(value.value)} if value.value else {}
    return {}


def _cuda_number(number: Any) -> str:
    """1208 -> "12.8", as xformers writes the version of CUDA."""
    return f"{number // 100}.{number % 100}" if isinstance(number, int) and number else ""


def _wheel_name(installed: Installed) -> str:
    """The file name of the wheel that was installed by its address, which keeps tags that the version lost."""
    text = read_text(installed.info / "direct_url.json")
    if not text:
        return ""
    try:
        url = json.loads(text).get("url", "")
    except (ValueError, AttributeError):
        return ""
    return str(url).rpartition("/")[2].replace("%2B", "+") if str(url).endswith(".whl") else ""


def _from_tags(name: str, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if name != "torch" and (match := _TORCH_TAG.search(text.partition("+")[2])):
        found["torch"] = match[1]
    if match := _CUDA_TAG.search(text.partition("+")[2]) or re.search(r"-cu(\d{2})$", name):
        found["cuda"] = match[1] if len(match[1]) == 2 else f"{match[1][:2]}.{match[1][2:]}"
    if match := _ABI_TAG.search(text):
        found["cxx11abi"] = {"1": "TRUE", "0": "FALSE"}.get(match[1], match[1].upper())
    return found


def _binaries(installed: Installed) -> dict[str, Binary]:
    """File name -> what it says, for every shared object that the distribution recorded."""
    paths = [entry.path for entry in entries(_lines_of_shared_objects(record(installed)))]
    paths = [path for path in paths if _SHARED_OBJECT.search(path)]
    if installed.name == "torch":
        paths = [path for path in paths if Path(path).name.startswith(_OF_TORCH)]
    read = {Path(path).name: read_binary(installed.folder / path) for path in paths}
    return {name: binary for name, binary in read.items() if binary != Binary()}


def _lines_of_shared_objects(content: bytes) -> bytes:
    return b"\n".join(line for line in content.splitlines() if b".so" in line)


def _from_binaries(binaries: dict[str, Binary]) -> dict[str, str]:
    found: dict[str, str] = {}
    names = _together(binary.needed for binary in binaries.values())
    runtimes = {match[1] for name in names if (match := _CUDART.match(name))}
    if len(runtimes) == 1:
        found["cuda"] = runtimes.pop()
    abis = {binary.cxx11abi for binary in binaries.values() if binary.cxx11abi}
    if len(abis) == 1:
        found["cxx11abi"] = abis.pop()
    pythons = {match[1] for name in binaries if (match := _EXTENSION_TAG.search(name))}
    if len(pythons) == 1:
        found["python"] = f"cp{pythons.pop()}"
    return found


def _together(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))
