"""A child process that behaves as if nobody stood before it: streams, signals, job control and exit are its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from attncheck.errors import UsageError
from attncheck.live import witness

#: Passed on to the child when somebody sends them to this process alone.
_FORWARDED = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT")
    if hasattr(signal, name)
)
#: Seconds between looks at the child where its end was not announced.
_LOOK = 0.5


def wait(command: Sequence[str], environment: Mapping[str, str], leftover: str = "") -> int:
    """Run the command to its end. Returns its exit code, or minus the number of the signal that ended it.

    It inherits every open stream. What is sent to this process alone (`kill`, a batch system) is passed on; what is
    sent to all (Ctrl-C in a terminal, `timeout`, a control group) reaches it by itself, and once. SIGKILL of this
    process kills it too, where the system has handles of processes. leftover: a folder that is then removed.
    Raises UsageError where it cannot start.
    """
    if not hasattr(signal, "sigtimedwait") or not hasattr(os, "posix_spawnp"):
        return _plainly(command, environment)
    blocked = (*_FORWARDED, signal.SIGCHLD)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        unborn = signal.sigpending()
        child = _spawn(command, environment, before)
        beside = witness.started(command, child, leftover)
        # What came between the two the child may have got; the witness was not there to tell.
        unwitnessed = signal.sigpending() - unborn
        try:
            ended = _attended(child, blocked, beside, unwitnessed)
        finally:
            if beside is not None:
                beside.dismiss()
        while signal.sigtimedwait(blocked, 0) is not None:
            pass  # a second Ctrl-C, meant for the child: it must not end the report
        return ended
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _attended(
    child: int, blocked: Sequence[signal.Signals], beside: witness.Witness | None, unwitnessed: set[signal.Signals]
) -> int:
    while True:
        told = signal.sigtimedwait(blocked, _LOOK)
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if told is None or told.si_signo not in _FORWARDED:
            continue
        to_many = None if beside is None or told.si_signo in unwitnessed else beside.told(told.si_signo)
        unwitnessed.discard(signal.Signals(told.si_signo))
        # `timeout` sends to its own child first, then to all: the same signal once more, not a second one.
        while signal.sigtimedwait((told.si_signo,), 0) is not None:
            pass
        if _shall_have(child, told.si_pid, to_many):
            os.kill(child, told.si_signo)


def _shall_have(child: int, sender: int, to_many: bool | None) -> bool:
    """Whether the child is to be sent a signal of this process. sender: 0 for the kernel (a terminal's Ctrl-C)."""
    if to_many is None:
        return bool(sender)
    # A child that has left the group did not get what was sent to the group, and would have been named by itself.
    return not to_many or (bool(sender) and os.getpgid(child) != os.getpgrp())


def _spawn(command: Sequence[str], environment: Mapping[str, str], mask: set[int] | set[signal.Signals]) -> int:
    """Start the child with this process's own signal settings, as they were before Python changed them."""
    changed = [number for name in ("SIGPIPE", "SIGXFSZ") if (number := getattr(signal, name, None)) is not None]
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    try:
        return os.posix_spawnp(command[0], list(command), dict(environment), setsigmask=mask, setsigdef=changed)
    except OSError as error:
        raise UsageError(
            f"{command[0]} cannot be started: {error.strerror}", "name a program that can be run"
        ) from None


def _plainly(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Where Python cannot tell who sent a signal: those of the terminal reach both, others end this process alone."""
    try:
        process = subprocess.Popen(list(command), env=dict(environment), close_fds=False)
    except OSError as error:
        raise UsageError(
            f"{command[0]} cannot be started: {error.strerror}", "name a program that can be run"
        ) from None
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def end_like(status: int, ended_by: int | None) -> None:
    """End this process the way the child ended: of the same signal, without a core file of its own, or by its code."""
    if ended_by is not None:
        try:
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        except (ImportError, OSError, ValueError):
            pass
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        if ended_by != getattr(signal, "SIGKILL", 9):
            signal.signal(ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by)
    sys.exit(status)
