"""Tells a library's announced refusal (Rejected) from a crash (Crashed), given the exception it raised."""

from __future__ import annotations

import dis
import re
from types import TracebackType

from attncheck.semantics.observation import Crashed, Reason, Rejected

#: Packages whose deliberate `raise` counts as an announcement. An attention function of the user's own is none of them.
ANNOUNCERS = ("transformers", "torch")
#: What libraries raise to say that they do not support something. Slips in the code raise the same types without a
#: `raise` statement, which is how the two are told apart.
REFUSALS = (ValueError, NotImplementedError, ImportError)
#: What errors of the device or of torch itself say; their exception type is the one that refusals have, too.
FAULTS = (
    "CUDA error",
    "CUDA driver error",
    "illegal memory access",
    "device-side assert",
    "misaligned address",
    "unspecified launch failure",
    "EXECUTION_FAILED",
    "INTERNAL_ERROR",
    "INTERNAL ASSERT",
    "CUBLAS_STATUS",
)
#: Where torch's out-of-memory errors on a GPU say what did not fit, and into what.
_WANTED, _FREE = re.compile(r"[Tt]ried to allocate [\d.]+ \w+"), re.compile(r"of which ([\d.]+ \w+) is free")
#: Modules of ours that hand the library's calls on to torch unchanged.
ONLOOKERS = ("attncheck.probe.reading.operations", "attncheck.probe.indices_checked")


def outcome_of(error: BaseException) -> Rejected | Crashed:
    """What an exception out of a forward pass means.

    Rejected: a `raise` statement of transformers or torch with an exception type out of `REFUSALS`, so somebody foresaw
    the case and says so; also a package that they need and that is not installed. Everything else, implicit errors of
    the same types ("too many values to unpack") included, is a crash of kind "memory" or "exception".
    """
    text = first_line(error)
    if out_of_memory(error):
        return Crashed("memory", memory_words(error))
    frame = innermost(error.__traceback__)
    if frame is not None and from_library(frame) and refuses(error, frame):
        return Rejected((Reason(first_sentence(error), source=place(frame)),))
    where = f" (in {place(frame)})" if frame is not None else ""
    return Crashed("exception", f"{type(error).__name__}: {text}{where}")


def refuses(error: BaseException, frame: TracebackType) -> bool:
    """True for a missing package, a raised exception out of `REFUSALS`, and an assertion that says what it wants."""
    if isinstance(error, AssertionError):
        return bool(str(error))
    return isinstance(error, ModuleNotFoundError) or (isinstance(error, REFUSALS) and on_raise_statement(frame))


def first_line(error: BaseException) -> str:
    """The first non-empty line of the message, or the type's name."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def first_sentence(error: BaseException) -> str:
    """The first sentence of the message: what is refused, without the advice that libraries add."""
    return first_line(error).partition(". ")[0].rstrip(".")


def out_of_memory(error: BaseException) -> bool:
    """True for Python's and torch's out-of-memory errors, on any device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "out of memory" in str(error))


def memory_words(error: BaseException) -> str:
    """What an out-of-memory error says, without the account of every process that torch adds."""
    wanted, free = (pattern.search(str(error)) for pattern in (_WANTED, _FREE))
    if wanted is None:
        return first_sentence(error)
    return f"{wanted[0]}, {free[1]} free" if free else wanted[0]


def innermost(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback entry in which the exception was raised, an onlooker's between the library and torch left out."""
    last = traceback
    while traceback is not None:
        if module_of(traceback) not in ONLOOKERS:
            last = traceback
        traceback = traceback.tb_next
    return last


def from_library(frame: TracebackType) -> bool:
    """True when the entry belongs to a library out of `ANNOUNCERS`."""
    return module_of(frame).partition(".")[0] in ANNOUNCERS


def on_raise_statement(frame: TracebackType) -> bool:
    """True when the entry stands on a `raise` statement, false for an error of the interpreter or of C code."""
    code = frame.tb_frame.f_code.co_code
    return frame.tb_lasti >= 0 and dis.opname[code[frame.tb_lasti]] == "RAISE_VARARGS"


def module_of(frame: TracebackType) -> str:
    """Name of the Python module of a traceback entry."""
    return str(frame.tb_frame.f_globals.get("__name__", ""))


def place(frame: TracebackType) -> str:
    """Module, and class where there is one, of a traceback entry: what a reader looks up. Holds no file system path."""
    owner = frame.tb_frame.f_locals.get("self")
    name = frame.tb_frame.f_code.co_name
    return f"{module_of(frame)}.{type(owner).__name__}.{name}" if owner is not None else f"{module_of(frame)}.{name}"
