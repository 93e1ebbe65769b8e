"""The use case of `survey`: every type with every implementation and scenario, results kept as they come."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from attncheck.environment import read_environment
from attncheck.errors import UsageError
from attncheck.probe.client import Prober
from attncheck.survey.crew import Crew
from attncheck.survey.options import SurveyOptions, jobs_of, plan_of
from attncheck.survey.store import Store, load
from attncheck.surveyed import Row, State, Survey

#: The file of results inside the folder.
RESULTS = "results.jsonl"

Progress = Callable[[str], None]


class Interrupted(Exception):
    """The user stopped the survey; `survey` holds what is done."""

    def __init__(self, survey: Survey) -> None:
        super().__init__("interrupted")
        self.survey = survey


def survey(options: SurveyOptions, progress: Progress = lambda _: None) -> Survey:
    """Survey what is not yet in the folder. Raises UsageError for bad options, Interrupted when the user stops it."""
    environment = read_environment()
    plan = plan_of(options, environment)
    folder = os.path.abspath(options.folder)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UsageError(f"-o {options.folder} cannot be made: {error.strerror}", "name another folder") from None
    started, ticks = time.monotonic(), _cpu_seconds()
    with Store(os.path.join(folder, RESULTS), plan) as store:
        progress("reading which model types there are")
        types = _types(options)
        done = {(row.model_type, row.setting) for row in store.rows}
        todo = _todo(types, store.rows)
        crew = Crew(options, plan, environment, done, store.append)
        watch = _watch(crew, store, types, len(todo), started, progress)
        stopped = False
        try:
            if todo:
                crew.work(todo, min(jobs_of(options.jobs, plan.device), len(todo)), watch)
        except KeyboardInterrupt:
            stopped = True
        rows = [row for row in store.rows if row.model_type in set(types)]
    found = Survey(
        plan=plan,
        rows=_ordered(rows),
        left=len(todo) - crew.finished,
        seconds=time.monotonic() - started,
        cpu_seconds=_cpu_seconds() - ticks,
    )
    if stopped:
        raise Interrupted(found)
    return found


def stored(options: SurveyOptions, found: Survey) -> Survey:
    """All that the folder holds, for its tables: what this call surveyed, and the types of earlier calls."""
    _, rows = load(os.path.join(options.folder, RESULTS))
    earlier = [row for row in rows if options.types and row.model_type not in options.types]
    unfinished = {row.model_type for row in earlier} - {row.model_type for row in earlier if row.last}
    return replace(found, rows=_ordered(rows), left=found.left + len(unfinished))


def _ordered(rows: Iterable[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (row.model_type, row.setting)))


def _types(options: SurveyOptions) -> tuple[str, ...]:
    """The types to survey. Raises UsageError for one that transformers does not know."""
    with Prober(options.timeout, offline=True) as prober:
        known = prober.model_types()
    if strange := [name for name in options.types if name not in known]:
        near = difflib.get_close_matches(strange[0], known, 3)
        hint = f"did you mean {', '.join(near)}?" if near else "leave out --types for all"
        raise UsageError(f"--types {strange[0]}: the installed transformers has no such model type", hint)
    return tuple(name for name in known if not options.types or name in options.types)


def _todo(types: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """The types of which some setting is missing: a type's rows come one after another, and the last one says so."""
    complete = {row.model_type for row in rows if row.last}
    return [name for name in types if name not in complete]


def _watch(
    crew: Crew, store: Store, types: Collection[str], todo: int, started: float, progress: Progress
) -> Callable[[], None]:
    every, asked = len(types), frozenset(types)

    def watch() -> None:
        spent = time.monotonic() - started
        mismatch = {row.model_type for row in store.rows if any(cell.state is State.MISMATCH for cell in row.cells)}
        wrong = len(mismatch & asked)
        left = f", {_minutes(spent / crew.finished * (todo - crew.finished))} left" if crew.finished >= 5 else ""
        at = "; ".join(text for _, text in sorted(crew.now.items()))
        progress(f"{every - todo + crew.finished} of {every} types, {wrong} with mismatches{left}: {at}")

    return watch


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _cpu_seconds() -> float:
    """Processor time of this process and of all children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
