"""The child's side of an import trial: import one module, try one operation of it, write down what happened.

Started by `attncheck.probe.imports`; what it writes are lines of `repr`, one for the import and one for the operation,
on the standard output that it was given. Whatever the library prints itself goes to standard error.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from attncheck.probe.parent import die_with_parent


def main(arguments: list[str]) -> None:
    """arguments: the module, the name of an operation out of `OPERATIONS` or "" for none, and the seconds after which
    the import writes down where it is, "" for never.
    """
    module, operation, pause = arguments
    die_with_parent()  # a group of its own hears nothing of a signal to the parent's
    answers = os.dup(1)
    os.dup2(2, 1)
    faulthandler.enable()  # a death by signal, and the parent's SIGABRT when it waited too long, tell where it was
    if pause:
        faulthandler.dump_traceback_later(float(pause), file=answers)
    answer = _attempt(lambda: __import__(module))
    faulthandler.cancel_dump_traceback_later()  # before the answer is written, or the two might mix
    os.write(answers, f"{answer!r}\n".encode())
    if "error" not in answer and operation:
        os.write(answers, f"{_attempt(OPERATIONS[operation])!r}\n".encode())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what breaks while the interpreter shuts down says nothing about the import


def _attempt(action: Callable[[], Any]) -> dict[str, Any]:
    """What the action returned or raised, as plain data."""
    try:
        done = action()
    except BaseException as error:  # SystemExit and KeyboardInterrupt out of a library are results as well
        chain = list(_chain(error))
        return {
            "error": type(error).__name__,
            "text": str(error),
            "exit": _exit_code(error) if isinstance(error, SystemExit) else None,
            "name": getattr(error, "name", None) or "",
            "file": getattr(error, "path", None) or "",
            "texts": [f"{type(entry).__name__}: {entry}" for entry in chain],
            "at": _place(chain[-1].__traceback__ or error.__traceback__),
        }
    return {"done": done if isinstance(done, str) else ""}


def _exit_code(error: SystemExit) -> int | str:
    return error.code if isinstance(error.code, (int, str)) else 0


def _chain(error: BaseException | None) -> Any:
    """The error, what caused it, and so on to the first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _place(traceback: TracebackType | None) -> tuple[str, int]:
    """File and line of the innermost frame that is a real file."""
    place = ("", 0)
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if not name.startswith("<") and name != __file__:
            place = (name, traceback.tb_lineno)
        traceback = traceback.tb_next
    return place


def _xformers() -> str:
    """One call of the operator that xformers is used for. Raises what that raises; "" without a GPU to run it on."""
    import torch

    if not torch.cuda.is_available():
        return ""
    from xformers.ops import memory_efficient_attention

    query = torch.ones(1, 16, 1, 64, device="cuda", dtype=torch.float16)
    memory_efficient_attention(query, query, query)
    torch.cuda.synchronize()
    return "xformers.ops.memory_efficient_attention"


def _torch_state() -> str:
    from attncheck.probe.torch_trial import state_text

    return state_text()


def _torch_flags() -> str:
    from attncheck.probe.torch_trial import flags_text

    return flags_text()


#: Name -> an operation whose success shows that a library has operators; it returns what it called, "" for nothing.
OPERATIONS: dict[str, Callable[[], str]] = {
    "xformers": _xformers,
    "torch-state": _torch_state,
    "torch-flags": _torch_flags,
}
