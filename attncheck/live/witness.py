"""A process beside the child that is told whom a signal was sent to, and that ends the child where attncheck is killed.

The kernel does not say whether a signal was sent to one process or to all of a group, a session or a control group. A
process that does nothing but block signals says it: what it got as well was sent to many, the child among them.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence

#: Seconds until a signal that was sent to many has reached all of them, by a sender that tells them one by one.
_ALL_TOLD = 0.1
#: Seconds to wait for an answer; a stopped process gives none.
_ANSWER = 1.0


class Witness:
    """Started after the child, in its process group, with the signals blocked that shall be told apart.

    Its command line names the child's command and not attncheck: `pkill -f train.py` finds child, witness and this
    process, `pkill -f "attncheck run"` this process alone.
    """

    def __init__(self, command: Sequence[str], child: int, leftover: str) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        code = f"{inspect.getsource(_watch)}\n_watch()"
        handle = _handle(child)
        self._heard: set[int] = set()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={**os.environ, "WITNESS_CHILD": str(handle), "WITNESS_FOLDER": leftover},
                pass_fds=() if handle < 0 else (handle,),
            )
        finally:
            if handle >= 0:
                os.close(handle)

    def told(self, number: int) -> bool | None:
        """Whether a signal that this process got a moment ago was sent to many; None where the witness is gone."""
        select.select([], [], [], _ALL_TOLD)
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            process.stdin.write(b"?")
            answer = process.stdout.read(256) if select.select([process.stdout], [], [], _ANSWER)[0] else b""
        except OSError:
            return None
        self._heard |= set(answer or b"")
        found = number in self._heard
        self._heard.discard(number)  # the others are asked for next
        return found if answer else None

    def dismiss(self) -> None:
        """End it: the child has ended, or is left to itself."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.write(b".")
        process.stdin.close()
        process.stdout.close()
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(_ANSWER)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def started(command: Sequence[str], child: int, leftover: str) -> Witness | None:
    """A witness; None where there can be none."""
    try:
        return Witness(command, child, leftover)
    except (OSError, ValueError):
        return None


def _handle(child: int) -> int:
    """A handle of the process that no later process of its number can have; -1 where the system has none."""
    try:
        return os.pidfd_open(child)
    except (AttributeError, OSError):
        return -1


def _watch() -> None:
    """What the witness runs, by itself: no import but these, and no word that would be found in its command line."""
    import os
    import select
    import shutil
    import signal

    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    while (asked := os.read(0, 1)) == b"?":
        got = [0]
        while (told := signal.sigtimedwait(blocked, 0)) is not None:
            got.append(told.si_signo)
        os.write(1, bytes(got))
    child = int(os.environ["WITNESS_CHILD"])
    if asked or child < 0:
        return
    # The end of the pipe without a word: who waits for the child was killed, and whoever did it meant the child.
    try:
        signal.pidfd_send_signal(child, signal.SIGKILL)
        select.select([child], [], [], 5)
    except OSError:
        pass  # it had ended already
    if os.environ["WITNESS_FOLDER"]:
        shutil.rmtree(os.environ["WITNESS_FOLDER"], ignore_errors=True)
