"""Reads what the loader says of a native library that cannot be loaded, and makes C++ symbols readable."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from attncheck.installed.trial import Cause

#: Wordings of glibc, of macOS and of Windows. Groups: subject, and `library` for the file that needs it.
_COMPLAINTS = (
    (Cause.UNDEFINED_SYMBOL, re.compile(r"(?:(?P<library>[^\s:]+): )?undefined symbol: (?P<subject>[^\s,]+)")),
    (Cause.UNDEFINED_SYMBOL, re.compile(r"[Ss]ymbol not found(?: in flat namespace)?:? '?(?P<subject>[^\s']+)")),
    (Cause.MISSING_LIBRARY, re.compile(r"(?P<subject>[^\s:]+): cannot open shared object file")),
    (Cause.MISSING_LIBRARY, re.compile(r"Library not loaded: (?P<subject>\S+)")),
    (Cause.MISSING_LIBRARY, re.compile(r"DLL load failed while importing (?P<library>\w+): The specified module")),
    (
        Cause.OLD_SYSTEM_LIBRARY,
        re.compile(
            r"version [`'](?P<subject>(?:GLIBC|GLIBCXX|CXXABI)[^']*)' not found(?: \(required by (?P<library>[^)]+))?"
        ),
    ),
    (
        Cause.DAMAGED_LIBRARY,
        re.compile(r"(?P<subject>[^\s:]+): (?:invalid ELF header|file too short|wrong ELF class|ELF load command)"),
    ),
)
#: Where a symbol belongs, by the start of its readable form; the first that fits.
_HOMES = (
    (("c10::", "at::", "torch::", "caffe2::", "aoti_torch", "torch_"), "torch"),
    (("cudnn",), "cuDNN"),
    (("cublas",), "cuBLAS"),
    (("nccl",), "NCCL"),
    (("__cuda", "cuda"), "the CUDA runtime"),
    (("_Py", "Py"), "Python"),
)
#: What c++filt writes for std::string, with the namespace that tells its ABI.
_STRING = re.compile(r"(std::(?:__cxx11::)?)basic_string<char, std::char_traits<char>, std::allocator<char> ?>")
_LIMIT = 5.0


@dataclass(frozen=True, slots=True)
class Complaint:
    """What the loader named. subject: symbol or library; library: path of the file that needs it, "" where unnamed."""

    cause: Cause
    subject: str
    library: str = ""


def complaint(text: str) -> Complaint | None:
    """The first complaint of a native loader in a text, None when there is none."""
    for cause, pattern in _COMPLAINTS:
        if match := pattern.search(text):
            groups = match.groupdict()
            return Complaint(cause, groups.get("subject") or "", groups.get("library") or "")
    return None


def demangled(symbol: str) -> str:
    """A C++ symbol as a programmer writes it: by c++filt where it is installed, else its qualified name."""
    if not symbol.lstrip("_").startswith("Z"):
        return symbol
    if (program := shutil.which("c++filt")) is not None:
        try:
            done = subprocess.run(
                [program, symbol], capture_output=True, text=True, timeout=_LIMIT, check=True, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.SubprocessError):
            return qualified_name(symbol)
        return _STRING.sub(r"\1string", done.stdout.strip()) or symbol
    return qualified_name(symbol)


def qualified_name(symbol: str) -> str:
    """The qualified name inside a symbol of the Itanium C++ ABI, without the arguments; itself when it is none.

    `_ZN3c105ErrorC1E...` -> `c10::Error::Error`, `_ZNK2at6Tensor4sizeEl` -> `at::Tensor::size`.
    """
    rest = re.sub(r"^_+ZN?K?", "", symbol)
    parts: list[str] = []
    while match := re.match(r"\d+", rest):
        length = int(match[0])
        parts.append(rest[match.end() : match.end() + length])
        rest = rest[match.end() + length :]
    if not parts:
        return symbol
    if re.match(r"C[123]", rest):
        parts.append(parts[-1])
    elif re.match(r"D[012]", rest):
        parts.append(f"~{parts[-1]}")
    return "::".join(parts)


def home(readable: str) -> str:
    """The library that a symbol should come from, "" when its name does not tell."""
    bare = re.sub(r"^(?:typeinfo|vtable|guard variable|VTT) for ", "", readable)
    return next((name for starts, name in _HOMES if bare.startswith(starts)), "")
