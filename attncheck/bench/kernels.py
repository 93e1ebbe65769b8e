"""The kernel level: check each API against float64 at the sizes of its cases, then time it at those it gets right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from attncheck.backends.interface import Api
from attncheck.bench import gate, memory, subjects
from attncheck.bench.grid import Attention, cases
from attncheck.bench.session import Session
from attncheck.checks import speed
from attncheck.probe import baselines
from attncheck.probe.protocol import Job
from attncheck.semantics.convention import Outcome
from attncheck.semantics.timing import BenchCase, BenchCell

#: Short case -> what its check gave, and the seconds of its first call.
Checks = dict[BenchCase, tuple[gate.Checked, float]]


def lacks(session: Session, name: str) -> str:
    """Why an API can run here in none of the dtypes of the grid, "" where it can."""
    plan = session.plan
    dtypes = dict.fromkeys(attention.shape.dtype for attention in plan.grid.attentions)
    reasons = [subjects.lacks(name, session.apis, session.environment, plan.device, dtype) for dtype in dtypes]
    return "" if "" in reasons else "; ".join(dict.fromkeys(reasons))


def measure(session: Session, name: str) -> None:
    """Check and time one API at all its cases; where it cannot run here at all, one cell says so."""
    found = list(cases(session.plan.grid, "kernel", name))
    if not found:
        return
    if reason := lacks(session, name):
        session.total -= len(found) - 1
        session.add(BenchCell(found[0][0], Outcome.NOT_RUN, detail=reason))
        return
    api, device = session.apis[name][1], session.plan.device
    checks = _check(session, api, [case for case, _ in found])
    exhausted = memory.Exhausted()
    for _, same in groupby(found, key=lambda entry: entry[0].kv_len):
        timed: dict[BenchCase, float] = {}
        for case, attention in same:
            short = gate.checked_case(case, device)
            seen, first_call = checks[short]
            if (cell := _untimed(session, case, attention, api, seen)) is not None:
                session.add(cell)
            elif reason := memory.too_large(case, device) or exhausted.reason(case):
                session.add(BenchCell(case, Outcome.NOT_RUN, detail=reason))
            else:
                timed[case] = first_call
                checks[short] = seen, 0.0  # the next case of this kind finds it compiled
        for cell in _timed(session, api, timed):
            exhausted.note(cell)
            session.add(cell)


def _timed(session: Session, api: Api, compiled: Mapping[BenchCase, float]) -> Iterator[BenchCell]:
    """The cells of cases with the seconds that their checks spent compiling for them."""
    steps = {str(number): case for number, case in enumerate(compiled)}
    for done in session.steps(Job("bench", tuple(steps), _arguments(session, steps)), api, steps):
        case = steps[done.step]
        yield session.cell(case, done.outcome, compiled[case])


def _check(session: Session, api: Api, found: Sequence[BenchCase]) -> Checks:
    """Every short case that is needed.

    One with a backward tells about the forward, too; only where that gives nothing the forward is asked by itself.
    """
    wanted = list(dict.fromkeys(gate.checked_case(case, session.plan.device) for case in found))
    checks = _run_checks(session, api, [case for case in wanted if case.backward])
    alone = []
    for case in wanted:
        both, _ = checks.get(replace(case, backward=True), (gate.Checked(), 0.0))
        if case not in checks and both.reading is None:
            alone.append(case)
        elif case not in checks:
            checks[case] = both, 0.0
    return {**checks, **_run_checks(session, api, alone)}


def _run_checks(session: Session, api: Api, wanted: Sequence[BenchCase]) -> Checks:
    steps = {str(number): case for number, case in enumerate(wanted)}
    checks: Checks = {}
    job = Job("bench-check", tuple(steps), _arguments(session, steps))
    for done in session.steps(job, api):
        first_call = float(done.outcome[1]) if isinstance(done.outcome, tuple) else 0.0
        session.timed += first_call
        checks[steps[done.step]] = gate.checked(done.outcome), first_call
    return checks


def _untimed(session: Session, case: BenchCase, attention: Attention, api: Api, seen: gate.Checked) -> BenchCell | None:
    """The cell of a case that is not timed, None for one that is."""
    for outcome, why in (
        (Outcome.REFUSED, seen.refused),
        (Outcome.CRASHED, seen.crashed),
        (Outcome.NOT_RUN, seen.not_run),
    ):
        if why:
            return BenchCell(case, outcome, detail=why)
    fault = seen.fault(case.backward)
    if fault is None:
        return None
    session.note(speed.wrong_kernel(fault, case, session.typed))
    session.excluded[case] = fault.slug
    if baselines.called_by_layers(api, case.inputs):
        session.wrong[api.serves, attention, case.backward] = fault.slug
    if session.options.include_wrong:
        return None
    return BenchCell(case, Outcome.NOT_RUN, excluded=fault.slug, detail=fault.headline)


def _arguments(session: Session, steps: Mapping[str, BenchCase]) -> dict[str, object]:
    return {
        "device": session.plan.device,
        "seed": session.options.seed,
        "plugins": (*subjects.PLUGINS, *session.modules),
        "cases": dict(steps),
    }
