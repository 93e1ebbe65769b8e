"""The parent's side of kernel jobs: one worker per environment; the death of a worker is the result of its step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from attncheck.probe.process import Worker, WorkerDied
from attncheck.probe.protocol import AskTorch, Failed, Job, Started, StepDone
from attncheck.probe.worker import IMPORTS, ROLE, WARM
from attncheck.semantics.observation import Crashed, NotRun

#: Kernel libraries raise into a process whose environment says this; nothing is fetched by a probe of kernels.
_ENVIRONMENT = {ROLE: "kernels", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
#: Added where torch.compile is not needed: uncompiled kernels answer at once.
_NO_DYNAMO = {"TORCHDYNAMO_DISABLE": "1"}
#: Deaths of one job's worker after which its remaining steps are no longer tried: each costs a new process.
CRASHES_TOLERATED = 3


#: Processes that work at the same time, at most: each holds a CUDA context (half a GiB) and torch (a GiB of memory).
MOST_PROCESSES = 8


def processes() -> int:
    """How many processes may work at the same time here: one for two CPU cores, since importing and compiling is work
    of the CPU; at least 2, at most `MOST_PROCESSES`.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # systems other than Linux
        cores = os.cpu_count() or 1
    return min(MOST_PROCESSES, max(2, cores // 2))


class JobsEnded(Exception):
    """The workers were ended from another thread; nothing can be asked any more."""


def every_step(
    job: Job, ask: Callable[[Job], Iterator[object]], progress: Callable[[str], None] = lambda _: None
) -> Iterator[StepDone]:
    """Every step's outcome, in order; `ask` gives the answers of a worker, and after a death those of a new one."""
    left = list(job.steps)
    crashes = 0
    while left:
        current = ""
        try:
            for answer in ask(Job(job.name, tuple(left), job.arguments)):
                if isinstance(answer, Started):
                    current = answer.scenario
                    progress(f"{job.name}: {current}")
                elif isinstance(answer, StepDone):
                    left.remove(answer.step)
                    current = ""
                    yield answer
                elif isinstance(answer, Failed):
                    raise WorkerDied(answer.kind, answer.reason)
            return
        except WorkerDied as death:
            crashes += 1
            yield StepDone(left.pop(0), Crashed(death.kind, death.reason))
            if crashes >= CRASHES_TOLERATED:
                reason = f"{job.name} crashed {crashes} times before ({death.reason})"
                yield from (StepDone(step, NotRun(reason)) for step in left)
                return


class Jobs:
    """Workers for kernel jobs. A context manager: every process is ended with it.

    Threads may share it as long as each asks for variables of its own, and so has a process of its own.
    """

    def __init__(self, limit: float, warm: str = "") -> None:
        """limit: seconds one step may stay silent. warm: device that each process readies itself for at its start."""
        self._limit = limit
        self._always = {**_ENVIRONMENT, WARM: warm} if warm else _ENVIRONMENT
        self._workers: dict[tuple[tuple[str, str], ...], Worker] = {}
        self._ended = False

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill every process; who waits for one, in whatever thread, gets `JobsEnded`."""
        self._ended = True
        for worker in list(self._workers.values()):
            worker.close(kill=True)

    def prepare(
        self, *, variables: Mapping[str, str] | None = None, dynamo: bool = False, imports: Sequence[str] = ()
    ) -> None:
        """Start the process that a job with these settings will run in: its imports go on meanwhile.

        imports: modules that the job needs besides torch.
        """
        self._worker({**({} if dynamo else _NO_DYNAMO), **(variables or {})}, {IMPORTS: ",".join(imports)})

    def torch_state(self, patience: float) -> str | None:
        """What torch says of itself in the process of `prepare()`: JSON of `torch_trial.state`.

        None unless all went well: the process is not ready within `patience` seconds, it died, torch raised.
        """
        worker = self._worker(_NO_DYNAMO)
        if not worker.wait(patience):
            return None
        try:
            with contextlib.closing(worker.ask(AskTorch(), self._limit)) as answers:
                told = [answer.outcome for answer in answers if isinstance(answer, StepDone)]
        except WorkerDied:
            return None
        return str(told[0]) if told else None

    def run(
        self,
        job: Job,
        *,
        variables: Mapping[str, str] | None = None,
        dynamo: bool = False,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Iterator[StepDone]:
        """Every step's outcome, in order. A step whose process dies or hangs has the outcome `Crashed`.

        variables: further environment variables of the process. dynamo: torch.compile must work in it.
        """
        needed = {**({} if dynamo else _NO_DYNAMO), **(variables or {})}
        yield from every_step(job, lambda request: self._ask(request, needed), progress)

    def _ask(self, request: Job, variables: Mapping[str, str]) -> Iterator[object]:
        with contextlib.closing(self._worker(variables).ask(request, self._limit)) as answers:
            yield from answers

    def _worker(self, variables: Mapping[str, str], once: Mapping[str, str] | None = None) -> Worker:
        """The process of these variables. once: further ones for a process that is started now."""
        key = tuple(sorted(variables.items()))
        if self._ended:
            raise JobsEnded
        worker = self._workers.get(key)
        if worker is None or worker.closed:
            worker = self._workers[key] = Worker({**self._always, **variables, **(once or {})})
        return worker
