"""Results as they come: the newest report is kept and rewritten, so that an interrupt or a crash loses nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from attncheck.commands.output import emit, style
from attncheck.errors import NoVerdictError, UsageError
from attncheck.options import FailOn

if TYPE_CHECKING:
    from attncheck.report import Report
    from attncheck.semantics.timing import Bench

#: Writing may take this share of the time: a report of many cells is not rewritten after every one of the fastest.
_SHARE = 0.01


@dataclasses.dataclass(frozen=True, slots=True)
class Earlier:
    """A bench that was written before. source: its file. report: all of it; bench: the one in it."""

    source: str
    report: Report
    bench: Bench


def check_shows_changes(format_name: str) -> None:
    """Raise UsageError for a format in which `--compare` would change nothing."""
    from attncheck.render import interface

    if not interface.find(format_name, "bench").changes:
        showing = (name for name, one in interface.renderers().items() if one.changes)
        raise UsageError(
            f"--compare: --format {format_name} has no place for changes", f"choose from {', '.join(sorted(showing))}"
        )


def earlier(path: str) -> Earlier:
    """The report that `--compare` names. Raises UsageError for what is no report, or one without a bench."""
    from attncheck.stored import report as stored

    hint = "attncheck bench -o old.json --format json writes one"
    try:
        report = stored.read(path)
    except UsageError as error:
        raise UsageError(f"--compare {error.message}", hint) from None
    if report.bench is None:
        raise UsageError(f"--compare {path} is a report of {report.command!r} without a bench", hint)
    return Earlier(path, report, report.bench)


class Partial:
    """Called after each cell with what makes a whole report. output: rewritten now and then, None: nothing is written
    before the end.

    before: the stored run to compare with.
    """

    def __init__(self, format_name: str, output: str | None, fail_on: FailOn, before: Earlier | None) -> None:
        self._format, self._output, self._fail_on, self._before = format_name, output, fail_on, before
        self._made: Callable[[], Report] | None = None
        self._written: Report | None = None
        self._next = 0.0

    def __call__(self, made: Callable[[], Report]) -> None:
        """Keep it; write the report where a file was asked for."""
        self._made = made
        if self._output is None or not _rewritable(self._output) or time.monotonic() < self._next:
            return
        begun = time.monotonic()
        self._write()
        self._next = time.monotonic() + (time.monotonic() - begun) / _SHARE

    def done(self, report: Report) -> None:
        """Keep the report of a run that came to its end (or says itself that it did not)."""
        self._made = lambda: report

    def report(self) -> Report:
        """The newest, against the stored run where there is one."""
        if self._made is None:
            raise NoVerdictError("the bench ended without a report", "please report it")
        return self._compared(self._made())

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """An interrupt ends the run with what there is; of any other failure the results are written first."""
        with _terminated_as_interrupted(), self._saved():
            yield

    @contextlib.contextmanager
    def _saved(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            if not self._cut_short():
                raise
        except BaseException:
            if self._cut_short():
                self._write()
            raise

    def _cut_short(self) -> bool:
        """Keep what there is as incomplete, the last that was written where no newer one can be made.

        False without any cell.
        """
        try:
            report = None if self._made is None else self._made()
        except Exception:
            report = self._written
        if report is None or report.bench is None or not report.bench.cells:
            return False
        self.done(dataclasses.replace(report, bench=dataclasses.replace(report.bench, complete=False)))
        return True

    def _write(self) -> None:
        from attncheck.render import interface

        report = self._written = dataclasses.replace(self.report(), fail_on=self._fail_on.value)
        emit(interface.render(report, self._format, style(self._output)), self._output)

    def _compared(self, report: Report) -> Report:
        if self._before is None or report.bench is None:
            return report
        from attncheck.render import bench_changes
        from attncheck.semantics import timing_changes

        differing = bench_changes.differing(self._before.report, report)
        changes = timing_changes.compare(self._before.bench, report.bench, self._before.source, differing)
        return dataclasses.replace(report, changes=changes)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """What a batch system or `timeout` sends ends the run like Ctrl-C: the results are written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _rewritable(path: str) -> bool:
    """False for what takes every report one after another, such as a pipe or /dev/stdout."""
    return not os.path.lexists(path) or (os.path.isfile(path) and not os.path.islink(path))
