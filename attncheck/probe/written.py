"""The parent's side of calls as users write them: run where that release is installed, else read from what is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from attncheck.backends import interface as backends
from attncheck.environment import Environment
from attncheck.probe.apis import known
from attncheck.probe.jobs import Jobs
from attncheck.probe.protocol import Job
from attncheck.probe.shapes import unread
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis, NotRun, Reason, Rejected
from attncheck.semantics.shape import ShapeReading, WrongCells
from attncheck.semantics.spec import Alignment
from attncheck.semantics.written import (
    PLAIN,
    QUERIES,
    AskedCall,
    CallReading,
    LayerCalls,
    Seen,
    WrittenCall,
    band_cells,
    tokens,
)

#: Silence of one call that counts as a hang: the first one may compile its kernel.
LIMIT = 300.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How to read. device: "cuda" or "cpu". installed: the release that is meant is here, so that kernels are run.

    dtype: of the call. longest: tokens that the user will run at most, None unbounded. plugins: modules with APIs.
    variables: the user's own settings of the framework, for what it selects by itself.
    """

    device: str
    installed: bool
    dtype: str = "bfloat16"
    longest: int | None = None
    limit: float = LIMIT
    seed: int = 0
    plugins: tuple[str, ...] = ()
    variables: Mapping[str, str] | None = None


def read(
    groups: Iterable[LayerCalls], environment: Environment, plan: Plan, progress: Callable[[str], None] = lambda _: None
) -> tuple[CallReading, ...]:
    """What every call does, those that are suggested instead among them (`CallReading.mended`)."""
    wanted = list(_wanted(groups, plan))
    outcomes = _run(wanted, environment, plan, progress) if plan.installed else {}
    return tuple(_reading(group, call, mended, plan, outcomes) for group, call, mended in wanted)


def _wanted(groups: Iterable[LayerCalls], plan: Plan) -> Iterator[tuple[LayerCalls, WrittenCall, bool]]:
    for group in groups:
        typed = replace(group, shape=replace(group.shape, dtype=plan.dtype))
        yield from ((typed, call, False) for call in typed.calls)
        if typed.suggested is not None:
            yield from ((typed, call, True) for call in typed.suggested.calls)


def _asked(group: LayerCalls, call: WrittenCall, plan: Plan) -> AskedCall:
    sides = () if call.means is None else (call.means.left or 0, call.means.right or 0)
    length = tokens(max(group.shape.reach, *sides, 0), plan.longest)
    queries = length if call.scenario == PLAIN else min(QUERIES, length)
    return AskedCall(group.shape, call.arguments, length, queries, call.means)


def _key(group: LayerCalls, call: WrittenCall) -> str:
    return f"{group.part.value}-{group.shape.key}-{call.key}".replace("|", "/")


# Running --------------------------------------------------------------------------------------------


def _run(
    wanted: Iterable[tuple[LayerCalls, WrittenCall, bool]],
    environment: Environment,
    plan: Plan,
    progress: Callable[[str], None],
) -> dict[str, object]:
    """Step -> outcome, for every call whose API can run here."""
    table = known(plan.plugins)
    steps: dict[str, dict[str, AskedCall]] = {}
    for group, call, _ in wanted:
        if call.api in table and _usable(call, group, environment, plan):
            steps.setdefault(call.api, {})[_key(group, call)] = _asked(group, call, plan)
    outcomes: dict[str, object] = {}
    with Jobs(plan.limit) as jobs:
        for name, calls in steps.items():
            api = table[name][1]
            arguments = {"device": plan.device, "seed": plan.seed, "plugins": plan.plugins, "calls": calls}
            job = Job("written", tuple(f"{name}|{key}" for key in calls), arguments)
            for done in jobs.run(job, variables=api.environment, dynamo=api.needs_dynamo, progress=progress):
                outcomes[done.step] = done.outcome
    return outcomes


def _usable(call: WrittenCall, group: LayerCalls, environment: Environment, plan: Plan) -> bool:
    """The API runs on this device whatever the call; whether it takes the call shows when it is made."""
    backend, api = known(plan.plugins)[call.api]
    if plan.device not in api.devices or group.shape.dtype not in api.dtypes:
        return False
    verdict = backend.decide(call.api, environment, backends.Call(device=plan.device, dtype=group.shape.dtype))
    return not isinstance(verdict, Rejected)


def selected(
    group: LayerCalls, plan: Plan, variables: Mapping[str, str], progress: Callable[[str], None] = lambda _: None
) -> object:
    """What the real framework selects for the first plain call: (its words, what it said of the others), or why not."""
    call = next((call for call in group.calls if call.scenario == PLAIN), None)
    if call is None or not plan.installed or plan.device != "cuda":
        return NotRun("no GPU with the release that is meant")
    typed = replace(group, shape=replace(group.shape, dtype=plan.dtype))
    key = _key(typed, call)
    arguments = {"calls": {key: _asked(typed, call, plan)}}
    speaking = {"NVTE_DEBUG": "1", "NVTE_DEBUG_LEVEL": "2"}
    with Jobs(plan.limit) as jobs:
        answers = jobs.run(
            Job("te-selected", (key,), arguments), variables={**variables, **speaking}, progress=progress
        )
        return next(iter(list(answers))).outcome


# Outcomes -------------------------------------------------------------------------------------------


def _reading(
    group: LayerCalls, call: WrittenCall, mended: bool, plan: Plan, outcomes: Mapping[str, object]
) -> CallReading:
    asked = _asked(group, call, plan)
    outcome = outcomes.get(f"{call.api}|{_key(group, call)}")
    aligned: Alignment | None = None
    if isinstance(outcome, Seen):
        reading, aligned = replace(outcome.reading, part=group.part, layers=group.layers), outcome.aligned
    elif outcome is None:
        reading = _foreseen(group, call, asked)
        short = asked.queries < asked.tokens and reading.outcome is Outcome.READ
        aligned = call.alignment if short and call.means is not None else None
    else:
        reading = _broken(group, call, outcome)
    return CallReading(group.part, group.layers, call, replace(reading, implementation=call.kernel), aligned, mended)


def _foreseen(group: LayerCalls, call: WrittenCall, asked: AskedCall) -> ShapeReading:
    """What the documentation, or what is known of the release, says of a call."""
    blank = ShapeReading(
        call.api or call.kernel,
        group.shape,
        Outcome.READ,
        Basis.STATIC,
        part=group.part,
        layers=group.layers,
        q_len=asked.queries,
        kv_len=asked.tokens,
        detail=call.known,
    )
    if call.refused:
        return replace(blank, outcome=Outcome.REFUSED, reasons=call.refused)
    offset = asked.tokens - asked.queries if call.alignment is Alignment.TOP_LEFT else 0
    wrong = band_cells(group.shape.window, call.means, asked.tokens, offset, asked.queries)
    if wrong is None and group.shape.chunk is not None and group.shape.chunk < asked.tokens:
        chunk = group.shape.chunk
        wrong = WrongCells((chunk, chunk - 1), behind=1, behind_distances=(1, 1))
    return replace(blank, wrong=wrong)


def _broken(group: LayerCalls, call: WrittenCall, outcome: object) -> ShapeReading:
    nothing = ShapeReading(call.api, group.shape, Outcome.NOT_RUN, None, part=group.part, layers=group.layers)
    found = unread(nothing, outcome)
    return replace(found, reasons=(Reason(found.detail),)) if found.outcome is Outcome.NOT_RUN else found
