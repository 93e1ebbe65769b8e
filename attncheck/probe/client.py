"""The parent's side of the probes: asks a worker, replaces it when it dies, and turns its death into results."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from attncheck.errors import NoVerdictError
from attncheck.probe.jobs import every_step
from attncheck.probe.process import Worker, WorkerDied
from attncheck.probe.protocol import (
    AskTypes,
    Build,
    ClassFacts,
    Describe,
    Failed,
    Job,
    NotBuilt,
    Probe,
    Request,
    Started,
    StepDone,
    TinyInfo,
    UnknownType,
)
from attncheck.probe.scenario import every_scenario
from attncheck.semantics.observation import Basis, Crashed, NotRun, ScenarioRun

#: Crashes of one implementation after which its remaining scenarios are no longer tried: each costs a new worker.
CRASHES_TOLERATED = 2
#: Reading a class and building a tiny model takes a few seconds; the time limit of a scenario may be shorter.
BUILD_LIMIT = 120.0
#: What the worker's libraries must find in their environment.
_ENVIRONMENT = {
    # flex_attention runs uncompiled: a compiled first call costs tens of seconds on a CPU.
    "TORCHDYNAMO_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class Prober:
    """A worker with memory: replaced after a crash, given the model again, and sent on with what is left."""

    def __init__(self, limit: float, *, offline: bool = False) -> None:
        """limit: seconds one scenario may stay silent. offline: no network for the libraries in the worker either."""
        self._limit = limit
        self._environment = {**_ENVIRONMENT, **(_OFFLINE if offline else {})}
        self._build: Build | None = None
        self._lost = ""  # why no further worker can have the model
        self._worker = Worker(self._environment)

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close(kill=True)

    def describe(self, request: Describe) -> ClassFacts | UnknownType:
        """What transformers knows of the model type. Raises NoVerdictError when it cannot be used at all."""
        facts: ClassFacts | UnknownType = self._single(request, (ClassFacts, UnknownType), "reading the model class")
        return facts

    @property
    def worker(self) -> Worker:
        """The process that answers now."""
        return self._worker

    def renew(self) -> None:
        """End the worker and start another one, whose imports go on meanwhile; it has no model."""
        self._worker.close(kill=True)
        self._build, self._lost = None, ""
        self._worker = Worker(self._environment)

    def model_types(self) -> tuple[str, ...]:
        """Every model type of the installed transformers, sorted. Raises NoVerdictError when it cannot be used."""
        answer: StepDone = self._single(AskTypes(), (StepDone,), "listing the model types")
        return tuple(answer.outcome)

    def build(self, request: Build) -> TinyInfo | NotBuilt:
        """Build the tiny model. Raises NoVerdictError when the worker dies over it."""
        self._build, self._lost = None, ""
        built: TinyInfo | NotBuilt = self._single(request, (TinyInfo, NotBuilt), "building the tiny model")
        self._build = request
        return built

    def probe(self, request: Probe, progress: Callable[[str], None] = lambda _: None) -> Iterator[ScenarioRun]:
        """Every run of every scenario asked for. A crash is a run with outcome `Crashed`, never an exception."""
        left = list(request.scenarios)
        crashes = 0
        silent_deaths = 0
        while left:
            if self._lost or not self._ready():
                yield from self._skipped(request, left, self._lost)
                return
            current = ""
            try:
                for answer in self._ask(replace(request, scenarios=tuple(left)), self._limit):
                    if isinstance(answer, Started):
                        current = answer.scenario
                        del left[: left.index(current)]
                        progress(f"{request.implementation}: {current}")
                    elif isinstance(answer, ScenarioRun):
                        yield answer
                    elif isinstance(answer, Failed):
                        raise WorkerDied(answer.kind, answer.reason)
                return
            except WorkerDied as death:
                silent_deaths += not current
                if not current and silent_deaths == 1 and death.kind in ("signal", "exit"):
                    continue  # what an implementation before this one broke may end the process only now
                crashes += 1
                yield self._without(request, left.pop(0), Crashed(death.kind, death.reason))
                if crashes >= CRASHES_TOLERATED:
                    reason = f"{request.implementation} crashed {crashes} times before ({death.reason})"
                    yield from self._skipped(request, left, reason)
                    return

    def job(self, job: Job, progress: Callable[[str], None] = lambda _: None) -> Iterator[StepDone]:
        """Every step of a kernel job, in the process that already has its imports; a death is the step's outcome."""
        yield from every_step(job, lambda request: self._ask(request, max(self._limit, BUILD_LIMIT)), progress)

    def _ready(self) -> bool:
        """Make sure that a worker has the model; False, with `_lost` set, when none can have it again."""
        if self._worker.closed and self._build is not None:
            try:
                rebuilt = self._single(self._build, (TinyInfo, NotBuilt), "building the tiny model again")
            except NoVerdictError as error:
                self._lost = error.message
            else:
                if isinstance(rebuilt, NotBuilt):
                    self._lost = "; ".join(reason.text for reason in rebuilt.reasons)
        return not self._lost

    def _skipped(self, request: Probe, left: Sequence[str], reason: str) -> Iterator[ScenarioRun]:
        for scenario in left:
            yield self._without(request, scenario, NotRun(reason))

    @staticmethod
    def _without(request: Probe, scenario: str, outcome: Crashed | NotRun) -> ScenarioRun:
        core = next(known.core for known in every_scenario() if known.name == scenario)
        return ScenarioRun(request.implementation, scenario, "", Basis.MEASURED, outcome, core)

    def _single(self, request: Request, kinds: tuple[type[Any], ...], doing: str) -> Any:
        """The one answer to a request. Raises NoVerdictError when there is none."""
        result: Any = None
        try:
            for answer in self._ask(request, max(self._limit, BUILD_LIMIT)):
                if isinstance(answer, Failed):
                    hint = answer.hint or "set ATTNCHECK_DEBUG=1 to see the traceback"
                    message = answer.reason if answer.kind == "import" else f"{doing} failed: {answer.reason}"
                    raise NoVerdictError(message, _debugging(answer.traceback) or hint)
                if isinstance(answer, kinds):
                    result = answer
        except WorkerDied as death:
            if not self._worker.ready:
                doing = "importing torch and transformers"
            raise NoVerdictError(f"{doing} failed: {death.reason}", "see `attncheck doctor`") from death
        return result

    def _ask(self, request: Request, limit: float) -> Iterator[Any]:
        """What a worker answers; a new one is started where none is left."""
        if self._worker.closed:
            self._worker = Worker(self._environment)
        with contextlib.closing(self._worker.ask(request, limit)) as answers:
            yield from answers


def _debugging(text: str) -> str:
    """The traceback of the worker when ATTNCHECK_DEBUG asks for it."""
    return text if os.environ.get("ATTNCHECK_DEBUG") == "1" else ""
