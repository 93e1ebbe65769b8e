"""The parent's side of the convention table: which API is read where, in which process, and what stands for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeVar

from attncheck.backends.interface import Api, Backend, Call, Spelling
from attncheck.environment import Environment
from attncheck.probe import ability_rows
from attncheck.probe.apis import known
from attncheck.probe.jobs import Jobs, processes
from attncheck.probe.protocol import Job, StepDone
from attncheck.probe.refusal import FAULTS
from attncheck.probe.worker import LOST
from attncheck.semantics import describe
from attncheck.semantics.convention import Ability, Convention, Outcome
from attncheck.semantics.observation import Crashed, NotRun, Reason, Rejected

Progress = Callable[[str], None]
Group = TypeVar("Group")

#: Variable that tells the processes apart; nothing reads it.
GROUP = "ATTNCHECK_LIBRARY"

#: Queries and keys at which every spelling is read: eight windows of the table long, so that inner queries and both
#: edges show.
EQUAL = (64, 64)
#: What stands for the spelling in the step that only loads the API; also its outcome.
LOAD = "load"
#: Seconds of compiling a call beyond which an API is read only when the user asks for it.
PATIENCE = 20.0
#: What is tried of such an API when the user names it: each feature costs minutes.
PATIENT = ("dtype", "gqa")
#: Processes at a time from which on an API that compiles is read in several of them.
SPLIT_FROM = 6
#: Features that compile a backward as well: they are read beside the others.
TRAINING = ("backward", "determinism")
#: Of those an API documents, the first one here is what its readings use: what models run in, per device.
PREFERRED = {"cuda": ("bfloat16", "float16", "float32"), "cpu": ("float32", "bfloat16", "float16")}


def read(
    jobs: Jobs,
    environment: Environment,
    device: str,
    progress: Progress = lambda _: None,
    *,
    only: Sequence[str] = (),
    plugins: Sequence[str] = (),
    thorough: bool = False,
) -> tuple[tuple[Convention, ...], tuple[Ability, ...]]:
    """The convention table and the abilities of every API on this device ("cpu" or "cuda").

    An API that cannot run here by its documented limits is one row NOT_RUN with the reasons; one that only takes no
    grouped heads is read with as many kv heads as query heads. only: names of APIs, empty = all. plugins: modules that
    each offer a further `BACKEND`. thorough: read in full what compiles anew for each call; else those APIs are read at
    few widths, and where a call takes longer than `PATIENCE` seconds to compile only if they are named, and then only
    the features of `PATIENT`; what that leaves out is NOT_RUN. A stand-in has no abilities. A crash ends neither the
    table nor the other APIs.
    progress: told what is read, from several threads on a GPU.
    """
    conventions: dict[str, Sequence[Convention]] = {}
    abilities: dict[tuple[str, str], Sequence[Ability]] = {}
    lanes = processes() if device == "cuda" else 1
    places: list[_Place] = []
    for name, (backend, api) in known(plugins).items():
        if only and name not in only:
            continue
        dtype = _dtype(api, device)
        conventions[name] = ()
        grouped = True
        if refusal := _refusal(backend, api, environment, device, dtype):
            grouped = False
            if _refusal(backend, api, environment, device, dtype, grouped=False):
                conventions[name] = (_not_run(api, refusal),)
                continue
        seconds = api.on_request.get(device, api.compiles)
        slow = (device in api.on_request or seconds > PATIENCE) and not thorough
        if slow and name not in only:
            ways = f"attncheck doctor --api {name} reads it, --thorough everything"
            conventions[name] = (_not_run(api, f"{_compiles(seconds)}: {ways}"),)
            continue
        arguments = {"device": device, "dtype": dtype, "seed": 0, "plugins": tuple(plugins), "grouped": grouped}
        own = {GROUP: api.name if api.compiles else backend.name} if device == "cuda" else {}
        whole = _Place(
            jobs,
            api,
            arguments,
            {**api.environment, **own},
            few=bool(api.compiles) and not thorough,
            features=() if api.stand_in else PATIENT if slow else tuple(ability_rows.FEATURES),
            left_out=tuple(name for name in ability_rows.FEATURES if slow and name not in PATIENT),
            dear=f"{_compiles(seconds)}: attncheck doctor {f'--api {name} ' if slow else ''}--thorough",
        )
        places += _split(whole) if api.compiles and lanes >= SPLIT_FROM else [whole]

    def work(group: Sequence[_Place]) -> None:
        for place in group:
            progress(f"reading {place.api.name}")
            broken = _loading(place)
            if place.table:
                conventions[place.api.name] = (broken,) if broken else tuple(_conventions(place))
            if not broken:
                abilities.update({(row.api, row.feature): (row,) for row in _abilities(place)})

    groups: dict[object, list[_Place]] = {}
    for place in places:
        groups.setdefault((tuple(sorted(place.variables.items())), place.api.needs_dynamo), []).append(place)
    # What compiles takes longest: it starts first, so that nothing waits for it alone at the end.
    order = sorted(groups.values(), key=lambda group: -sum(place.api.compiles for place in group))
    _in_parallel(jobs, work, order, lanes)
    in_order = [
        abilities[name, feature]
        for name in conventions
        for feature in ability_rows.FEATURES
        if (name, feature) in abilities
    ]
    return tuple(chain.from_iterable(conventions.values())), tuple(chain.from_iterable(in_order))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one API is read, and how. variables: of the process; equal ones share a process. few: as of `steps`.

    table: whether its spellings are read here. features: those of its abilities that are read here. left_out: those
    that cost too much. dear: why, and what reads them.
    """

    jobs: Jobs
    api: Api
    arguments: Mapping[str, Any]
    variables: Mapping[str, str]
    few: bool = False
    table: bool = True
    features: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    dear: str = ""

    def run(self, job: str, steps: Sequence[str]) -> Iterator[StepDone]:
        request = Job(job, tuple(steps), self.arguments)
        return self.jobs.run(request, variables=self.variables, dynamo=self.api.needs_dynamo)


def _split(whole: _Place) -> list[_Place]:
    """The same work in several processes: where every call compiles anew, little is done twice by that."""
    training = tuple(feature for feature in whole.features if feature in TRAINING)
    others = tuple(feature for feature in whole.features if feature not in TRAINING)
    parts = [replace(whole, features=())]
    for name, features in (("abilities", others), ("training", training)):
        if features:
            own = {**whole.variables, GROUP: f"{whole.api.name} {name}"}
            parts.append(replace(whole, variables=own, table=False, features=features, left_out=()))
    return parts


def _in_parallel(jobs: Jobs, work: Callable[[Group], None], groups: Sequence[Group], threads: int) -> None:
    """Run `work` on each group. Whatever interrupts that ends the workers, so that no thread goes on."""
    if threads == 1:
        for group in groups:
            work(group)
        return
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(work, group) for group in groups]
        try:
            for one in wait(running, return_when=FIRST_EXCEPTION).done:
                one.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            jobs.end()
            raise


def _loading(place: _Place) -> Convention | None:
    """The one row of an API that cannot be loaded, None of one that can."""
    (done,) = place.run("conventions", [f"{place.api.name}|{LOAD}"])
    return None if done.outcome == LOAD else replace(_unread(done.outcome), api=place.api.name, call=place.api.call)


def _conventions(place: _Place) -> Iterator[Convention]:
    """Every spelling at equal lengths first: one that crashes there is not tried at the others, each a new process."""
    api = place.api
    asked = {
        f"{api.name}|{index}|{q_len}x{kv_len}": (spelling, q_len, kv_len)
        for index, spelling in enumerate(api.spellings)
        for q_len, kv_len in dict.fromkeys((EQUAL, *spelling.lengths))
    }
    outcomes: dict[str, object] = {}

    def run(steps: Sequence[str]) -> None:
        for done in place.run("conventions", steps):
            outcomes[done.step] = done.outcome

    run([step for step, (_, *lengths) in asked.items() if tuple(lengths) == EQUAL])
    crashed = [asked[step][0] for step, outcome in outcomes.items() if isinstance(outcome, Crashed)]
    left = [step for step in asked if step not in outcomes]
    skipped = {step for step in left if any(asked[step][0] is spelling for spelling in crashed)}
    run([step for step in left if step not in skipped])
    for step, (spelling, q_len, kv_len) in asked.items():
        outcome = NotRun("it crashed at equal lengths") if step in skipped else outcomes[step]
        yield _convention(api, spelling, q_len, kv_len, outcome)


def _abilities(place: _Place) -> tuple[Ability, ...]:
    """What was tried, and as NOT_RUN what was not for its cost."""
    name = place.api.name
    tried = ability_rows.steps(name, few=place.few, features=place.features)
    outcomes = {done.step: _told(place.api, done) for done in (place.run("abilities", tried) if tried else ())}
    every = ability_rows.steps(name, features=(*place.features, *place.left_out))
    outcomes |= {step: NotRun(place.dear) for step in every if step not in tried}
    return ability_rows.merged([(step, ability_rows.ability(step, outcome)) for step, outcome in outcomes.items()])


def _told(api: Api, done: StepDone) -> object:
    """The outcome of a step; an exception in a dtype that the API does not document is its way to refuse that.

    A fault of the device is not: whoever calls this way loses the GPU.
    """
    _, feature, *variant = done.step.split("|")
    broken = done.outcome
    if feature != "dtype" or variant[0] in api.dtypes or not isinstance(broken, Crashed) or broken.kind != "exception":
        return broken
    if any(fault in broken.reason for fault in (*FAULTS, LOST)):
        return broken
    return Rejected((Reason(f"{broken.reason}; it documents {', '.join(api.dtypes)}"),))


def _convention(api: Api, spelling: Spelling, q_len: int, kv_len: int, outcome: object) -> Convention:
    if isinstance(outcome, Convention):
        return outcome
    return replace(
        _unread(outcome),
        api=api.name,
        call=spelling.text,
        question=question_of(spelling, q_len, kv_len),
        q_len=q_len,
        kv_len=kv_len,
        expected=expected_of(spelling, q_len, kv_len),
        number=spelling.number,
        pattern=spelling.pattern,
    )


def _unread(outcome: object) -> Convention:
    """A row that says what kept it from being read, and nothing else."""
    if isinstance(outcome, Crashed):
        kind, detail = Outcome.CRASHED, outcome.reason
    elif isinstance(outcome, Rejected):
        kind, detail = Outcome.REFUSED, outcome.said
    else:
        kind = Outcome.NOT_RUN
        detail = outcome.reason if isinstance(outcome, NotRun) else f"not understood: {type(outcome).__name__}"
    return Convention("", "", "", 0, 0, kind, None, detail=detail)


def question_of(spelling: Spelling, q_len: int, kv_len: int) -> str:
    """Which question of the table a reading at these lengths answers."""
    return spelling.question if q_len == kv_len else "short-queries" if q_len < kv_len else "more-queries"


def expected_of(spelling: Spelling, q_len: int, kv_len: int) -> str:
    """What the documentation promises for these lengths, in words; "" where it promises nothing."""
    if spelling.promise is None:
        return ""
    words = describe.band(spelling.promise.left, spelling.promise.right)
    return words if q_len == kv_len or spelling.alignment is None else f"{words}, {spelling.alignment.value}"


def _refusal(
    backend: Backend, api: Api, environment: Environment, device: str, dtype: str, *, grouped: bool = True
) -> str:
    """Why this API is not read here, "" when it is. grouped: with fewer kv heads than query heads."""
    if device not in (*api.devices, *api.on_request):
        return f"runs on {' or '.join(api.devices)} only" + ("" if environment.gpus else "; no GPU here")
    call = Call(
        device,
        dtype,
        head_dim=64,
        head_dim_v=64,
        num_heads=4,
        num_kv_heads=2 if grouped else 4,
        q_len=EQUAL[0],
        kv_len=EQUAL[1],
        causal=True,
    )
    verdict = backend.decide(api.name, environment, call)
    return verdict.said if isinstance(verdict, Rejected) else ""


def _compiles(seconds: float) -> str:
    return f"each new call compiles for about {seconds:.0f} s"


def _dtype(api: Api, device: str) -> str:
    return next((name for name in PREFERRED[device] if name in api.dtypes), api.dtypes[0])


def _not_run(api: Api, reason: str) -> Convention:
    return replace(_unread(NotRun(reason)), api=api.name, call=api.call)
