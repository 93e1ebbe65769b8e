"""Imports a library in a process of its own: an import that raises, crashes or hangs is a result, with its cause."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from attncheck.installed.symbols import Complaint, complaint, demangled
from attncheck.installed.trial import Cause, ImportTrial
from attncheck.probe.process import signal_name
from attncheck.semantics.observation import Crashed

#: A first import from a cold disk takes tens of seconds.
LIMIT = 120.0
#: Seconds between two looks at an import: in one place for that long it hangs, with less it may be a slow disk.
APART = 10.0
#: Seconds a process gets to say where it hangs.
_LAST_WORDS = 5.0
#: Imports nothing but the built-in `sys` before the path is set: a `json.py` in the current folder must not get in.
_BOOTSTRAP = (
    "import sys; arguments = sys.argv[1:4]; sys.path[:] = sys.argv[4:]; "
    "from attncheck.probe.importing import main; main(arguments)"
)
#: What libraries write when they import without the part that computes.
_COMPLAINTS = re.compile(
    r"can't load C\+\+/CUDA extensions|bitsandbytes library load error"
    r"|Need to compile C\+\+ extensions|Skipping import of cpp extensions",
    re.IGNORECASE,
)
_MOST_COMPLAINTS = 3
_LONGEST_LINE = 600
#: The processes of imports under way.
_RUNNING: set[subprocess.Popen[bytes]] = set()
_POOLS: set[ThreadPoolExecutor] = set()
#: As faulthandler prints the innermost frame first.
_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+) in ', re.MULTILINE)
#: The line over the frames of each thread.
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x.*$", re.MULTILINE)
#: What glibc prints when a symbol is missed only at its first call; the process then ends with status 127.
_LOOKUP_ERROR = 127


def try_import(module: str, *, operation: str = "", limit: float = LIMIT) -> ImportTrial:
    """Import `module` in a process of its own, and try an operation out of `importing.OPERATIONS` after it.

    limit: seconds for both together.
    """
    import tempfile  # brings random and hashlib, which `doctor --static` has no use for

    pause = f"{limit / 2:g}" if limit / 2 >= APART else ""
    with tempfile.TemporaryFile() as answers, tempfile.TemporaryFile() as chatter:
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOTSTRAP, module, operation, pause, *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=answers,
            stderr=chatter,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
            start_new_session=True,  # a group of its own: what the import leaves running is ended with it
        )
        _RUNNING.add(process)
        try:
            late = not _ended(process, limit)
        finally:
            _end_group(process)
            _RUNNING.discard(process)
        replies = _replies(answers)
        words, before = _read(chatter), _read(answers)
    if not replies:
        if late:
            return _unfinished(module, words, limit, stuck=bool(stack := _stack(before)) and stack == _stack(words))
        return _broken(module, process.returncode, words)
    if "error" in replies[0]:
        return _raised(module, replies[0])
    trial = ImportTrial(module, complaints=_complaints(words))
    if not operation:
        return trial
    return _operated(trial, operation, replies[1:], process.returncode, words, limit if late else None)


@contextlib.contextmanager
def side_by_side(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for several trials. What ends the block early, such as Ctrl-C, ends every trial under way or to come:
    the imports are no part of the terminal's group, which alone hears of it.
    """
    with ThreadPoolExecutor(max_workers=workers) as pool:
        _POOLS.add(pool)
        try:
            yield pool
        except BaseException:
            for each in tuple(_POOLS):
                each.shutdown(wait=False, cancel_futures=True)
            for process in tuple(_RUNNING):
                _end_group(process)
            raise
        finally:
            _POOLS.discard(pool)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the process, and every process that it has started and left behind."""
    if os.name != "posix":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, where all have ended
        os.killpg(process.pid, signal.SIGKILL)


def _ended(process: subprocess.Popen[bytes], limit: float) -> bool:
    """True when the process ended by itself; one that did not is asked where it is, and killed."""
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT if os.name == "posix" else signal.SIGTERM)
        try:
            process.wait(_LAST_WORDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return False
    return True


def _replies(file: IO[bytes]) -> list[Mapping[str, Any]]:
    """The lines that the child wrote whole; what Python's start-up files print stands among them."""
    found: list[Mapping[str, Any]] = []
    for line in _read(file).splitlines():
        try:
            reply = ast.literal_eval(line)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(reply, dict):
            found.append(reply)
    return found


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _unfinished(module: str, words: str, limit: float, *, stuck: bool) -> ImportTrial:
    """An import that was ended after `limit` seconds. stuck: it stood in the same place half of that time before."""
    where = _frame(words, module)
    reason = f"did not finish importing within {limit:g} s"
    if stuck := stuck and bool(where):
        reason = f"hangs while it is imported: after {limit / 2:g} s and after {limit:g} s it was in {where}"
    elif where:
        reason += f" (it was in {where})"
    return ImportTrial(module, Crashed("timeout", reason), Cause.HANG if stuck else Cause.SLOW, where=where)


def _broken(module: str, code: int, words: str) -> ImportTrial:
    """A process that ended before it could say how the import went."""
    where = _frame(words, module)
    inside = f" in {where}" if where else ""
    if code < 0:
        name = signal_name(-code)
        return ImportTrial(
            module, Crashed("signal", f"the import died of {name}{inside}"), Cause.SIGNAL, name, name, where
        )
    if code == _LOOKUP_ERROR and (found := complaint(words)) is not None:
        return _native(module, found, where)
    last = next((line.strip() for line in reversed(words.splitlines()) if line.strip()), "")
    reason = f"the import exited with {code}" + (f": {last[:_LONGEST_LINE]}" if last else "")
    return ImportTrial(module, Crashed("exit", reason), Cause.EXIT, str(code), where=where)


def _raised(module: str, reply: Mapping[str, Any]) -> ImportTrial:
    """An import that raised, by the first exception of its chain that names something."""
    where = _at(reply)
    kind, text = str(reply["error"]), str(reply["text"])
    if kind == "SystemExit":
        reason = (
            f"the import exited with {reply['exit']} in {where}" if where else f"the import exited with {reply['exit']}"
        )
        return ImportTrial(module, Crashed("exit", reason), Cause.EXIT, str(reply["exit"]), where=where)
    texts = [str(entry) for entry in reply["texts"]]
    for entry in texts:
        if (found := complaint(entry)) is not None:
            return _native(module, found, _relative(str(reply["file"])) or where)
    said = _one_line(texts)
    cause, subject = Cause.OTHER, ""
    if kind == "ModuleNotFoundError" and reply["name"]:
        cause, subject = Cause.MISSING_MODULE, str(reply["name"])
    elif kind in ("AttributeError", "ImportError") and (
        name := re.search(r"has no attribute '(\w+)'|import name '(\w+)'", text)
    ):
        cause, subject = Cause.MISSING_NAME, name[1] or name[2]
    inside = f" (in {where})" if where else ""
    return ImportTrial(module, Crashed("exception", f"{said}{inside}"), cause, subject, subject, where)


def _native(module: str, found: Complaint, where: str) -> ImportTrial:
    """A shared object that the loader refused."""
    by = os.path.basename(found.library) or (
        os.path.basename(where) if where.endswith((".so", ".pyd", ".dylib")) else ""
    )
    needed = f", which {by} needs" if by else ""
    readable = found.subject
    if found.cause is Cause.UNDEFINED_SYMBOL:
        readable = demangled(found.subject)
        spelled = f" ({found.subject})" if readable != found.subject else ""
        reason = f"undefined symbol: {readable}{spelled}{needed}"
    elif found.cause is Cause.MISSING_LIBRARY:
        reason = f"the shared object {found.subject or 'of a library'}{needed} cannot be found"
        reason = reason.replace(" needs cannot", " needs, cannot")
    elif found.cause is Cause.OLD_SYSTEM_LIBRARY:
        reason = f"this system has no {found.subject}{needed}"
    else:
        reason = f"{os.path.basename(found.subject)} is damaged or made for another processor"
    return ImportTrial(
        module,
        Crashed("exception", reason),
        found.cause,
        os.path.basename(found.subject),
        readable,
        _relative(found.library) or where,
    )


def _operated(
    trial: ImportTrial,
    operation: str,
    replies: list[Mapping[str, Any]],
    code: int,
    words: str,
    limit: float | None,
) -> ImportTrial:
    """The trial with what became of the operation."""
    failure: Crashed | None
    called = operation
    if replies and "error" not in replies[0]:
        failure, called = None, str(replies[0]["done"])
    elif replies:
        failure = Crashed("exception", _one_line([str(entry) for entry in replies[0]["texts"]]))
    elif limit is not None:
        where = _frame(words, trial.module)
        was = f" (it was in {where})" if where else ""
        failure = Crashed("timeout", f"the call did not finish within {limit:g} s{was}")
    else:
        broken = _broken(trial.module, code, words).failure
        assert broken is not None
        failure = Crashed(broken.kind, broken.reason.replace("the import", "the call"))
    return ImportTrial(trial.module, complaints=trial.complaints, operation=called, operation_failure=failure)


def _one_line(texts: list[str]) -> str:
    """The exception's first lines, and what caused it where that says something else."""
    lines = [" ".join(entry.split())[:_LONGEST_LINE] for entry in texts]
    told = [line for index, line in enumerate(lines) if index == 0 or line.partition(": ")[2] not in lines[0]]
    return " <- ".join(told[:2] if len(told) < 3 else (told[0], told[-1]))


def _complaints(words: str) -> tuple[str, ...]:
    """Lines that say that a part will not work, each with the indented lines that go on with it."""
    found: list[str] = []
    lines = words.splitlines()
    for index, line in enumerate(lines):
        if not _COMPLAINTS.search(line):
            continue
        rest = []
        for following in lines[index + 1 : index + 4]:
            if not following.startswith("  "):
                break
            rest.append(following.strip())
        found.append(" ".join([line.strip(), *rest])[:_LONGEST_LINE])
    return tuple(dict.fromkeys(found))[:_MOST_COMPLAINTS]


def _stack(words: str) -> tuple[tuple[str, str], ...]:
    """(file, line) of the main thread's frames in what faulthandler printed; empty when it printed nothing."""
    _, *threads = _THREAD.split(words)
    stacks = [tuple((frame["file"], frame["line"]) for frame in _FRAME.finditer(text)) for text in threads]
    return next((stack for stack in reversed(stacks) if stack), ())  # the oldest thread comes last


def _frame(words: str, module: str) -> str:
    """Where the process was when it died, from what faulthandler printed; "" when it printed nothing.

    The innermost frame of the package that was imported; of any other file where it was not in there.
    """
    own = str(Path(__file__).with_name("importing.py"))
    frames = [match for match in _FRAME.finditer(words) if match["file"] != own and not match["file"].startswith("<")]
    top = module.partition(".")[0]
    inside = [frame for frame in frames if top in (part.partition(".")[0] for part in Path(frame["file"]).parts)]
    return next((f"{_relative(frame['file'])}:{frame['line']}" for frame in (*inside, *frames)), "")


def _at(reply: Mapping[str, Any]) -> str:
    file, line = reply["at"]
    return f"{_relative(str(file))}:{line}" if file else ""


def _relative(file: str) -> str:
    """The file relative to the longest entry of the path that holds it: no folder of this machine in a report."""
    places = [
        entry.rstrip(os.sep) + os.sep for entry in sys.path if entry and file.startswith(entry.rstrip(os.sep) + os.sep)
    ]
    return file[len(max(places, key=len)) :] if places else file
