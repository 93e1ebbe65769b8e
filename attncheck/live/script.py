"""Runs a script that somebody else wrote, with a watch in each of its Python processes, and reports what they saw."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import attncheck
from attncheck.checks import watched
from attncheck.environment import read_environment
from attncheck.errors import UsageError
from attncheck.live import child, records
from attncheck.report import Report
from attncheck.semantics.watched import Site, Watch, WatchedProcess

#: Folder of the sitecustomize that Python finds first.
_INJECTED = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "watching", "inject")
#: Failures that a report lists.
_FAILURES = 20


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `attncheck run` was asked for. calls: read of each site and kind. measure: repeat them to read masks."""

    command: tuple[str, ...]
    calls: int = 3
    measure: bool = True


@dataclass(frozen=True, slots=True)
class Finished:
    """A script that ended. status: its exit code, 128 + n where signal n ended it. ended_by: that signal, or None."""

    status: int
    ended_by: int | None
    report: Report


def check(command: Sequence[str]) -> None:
    """Raise UsageError for a command that is not there, before anything is started."""
    if not command:
        raise UsageError("no command was given", "for example attncheck run -- python train.py")
    if shutil.which(command[0]) is None:
        name, equals, _ = command[0].partition("=")
        if equals and name.isidentifier():
            hint = "set variables before attncheck, or by env: attncheck run -- env NAME=value python train.py"
            raise UsageError(f"{name}=... sets a variable and is no command", hint)
        raise UsageError(f"{command[0]}: there is no such command", "name a program, such as python train.py")


def run(options: RunOptions) -> Finished:
    """Start the command, wait for it, and report. Raises UsageError where it cannot be started."""
    with spool() as folder:
        ended = child.wait(options.command, watched_environment(os.environ, folder, options), folder)
        processes = records.read(folder)
    status = ended if ended >= 0 else 128 - ended
    report = report_of(processes, options, status, -ended if ended < 0 else None)
    return Finished(status, -ended if ended < 0 else None, report)


@contextlib.contextmanager
def spool() -> Iterator[str]:
    """A folder for the records of all processes, removed at the end."""
    folder = tempfile.mkdtemp(prefix="attncheck-run-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def watched_environment(environment: Mapping[str, str], folder: str, options: RunOptions) -> dict[str, str]:
    """The environment of the script: its own, the injected folder first on PYTHONPATH, and where records go."""
    path = environment.get("PYTHONPATH")
    return {
        **environment,
        "PYTHONPATH": _INJECTED if not path else os.pathsep.join((_INJECTED, path)),
        "ATTNCHECK_WATCH": folder,
        "ATTNCHECK_WATCH_CALLS": str(options.calls),
        "ATTNCHECK_WATCH_MEASURE": str(int(options.measure)),
    }


def report_of(
    processes: Sequence[WatchedProcess], options: RunOptions, status: int | None, ended_by: int | None
) -> Report:
    """The report on what the processes of one script recorded."""
    command = shlex.join(options.command)
    found = watched.conclude(processes, f"attncheck run -- {command}")
    watch = summary(processes, found.sites, options.calls)
    return Report(
        command="run",
        version=attncheck.__version__,
        environment=read_environment(),
        findings=found.findings,
        watch=replace(watch, script=command, status=status, ended_by="" if ended_by is None else _name(ended_by)),
        fail_on="never",
    )


def summary(processes: Sequence[WatchedProcess], sites: Sequence[Site], first: int) -> Watch:
    """What all processes together say beside their calls."""
    active = [process for process in processes if process.calls]
    failures = dict.fromkeys(text for process in processes for text in process.failures)
    return Watch(
        sites=tuple(sites),
        first=first,
        processes=len(active),
        ranks=tuple(sorted({process.rank for process in active if process.rank is not None})),
        compiled=sum(process.compiled for process in processes),
        failures=tuple(failures)[:_FAILURES],
        versions={name: version for process in processes for name, version in process.versions.items()},
    )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
