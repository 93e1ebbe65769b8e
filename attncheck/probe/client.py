"""The parent's side of the worker: start it, ask it, and turn its death or silence into results."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import IO, Any

from attncheck.errors import NoVerdictError
from attncheck.probe.protocol import (
    Answer,
    Build,
    ClassFacts,
    Describe,
    Done,
    Failed,
    NotBuilt,
    Probe,
    Request,
    Started,
    TinyInfo,
    UnknownType,
)
from attncheck.probe.scenario import scenarios
from attncheck.semantics.observation import Basis, Crashed, NotRun, ScenarioRun

#: Importing torch and transformers from a cold disk takes tens of seconds; silence for this long is a hang.
START_LIMIT = 300.0
#: Crashes of one implementation after which its remaining scenarios are no longer tried: each costs a new worker.
CRASHES_TOLERATED = 2
_STDERR_LINES = 40
_BOOTSTRAP = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from attncheck.probe.worker import main; main()"


class WorkerDied(Exception):
    """The worker exited or had to be killed. kind: "signal", "exit" or "timeout"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Worker:
    """One child process. Not thread-safe; `close` waits for it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOTSTRAP, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._requests = self._process.stdin
        self._answers: queue.Queue[Answer | None] = queue.Queue()
        self.stderr: collections.deque[str] = collections.deque(maxlen=_STDERR_LINES)
        self._threads = [
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._drain, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, request: Request, limit: float) -> Iterator[Answer]:
        """Send a request and yield its answers up to, not including, `Done`.

        limit: seconds of silence allowed before each answer. Raises WorkerDied; `Failed` is yielded like any answer.
        """
        try:
            pickle.dump(request, self._requests, protocol=pickle.HIGHEST_PROTOCOL)
            self._requests.flush()
        except (BrokenPipeError, OSError):
            raise self._death() from None
        while True:
            try:
                answer = self._answers.get(timeout=limit)
            except queue.Empty:
                self.close(kill=True)
                raise WorkerDied("timeout", f"no answer within {limit:g} s") from None
            if answer is None:
                raise self._death()
            if isinstance(answer, Done):
                return
            yield answer
            if isinstance(answer, Failed):
                return

    def close(self, kill: bool = False) -> None:
        """End the process and wait for it."""
        if kill:
            self._process.kill()
        with contextlib.suppress(OSError):
            self._requests.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(timeout=1)

    def _death(self) -> WorkerDied:
        self.close()
        code = self._process.returncode
        last = next((line for line in reversed(self.stderr) if line.strip()), "")
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            hint = " (often: out of memory)" if name == "SIGKILL" else ""
            return WorkerDied("signal", f"the process died of {name}{hint}")
        return WorkerDied("exit", f"the process ended with status {code}" + (f": {last}" if last else ""))

    def _read(self, stream: IO[bytes]) -> None:
        while True:
            try:
                self._answers.put(pickle.load(stream))
            except (EOFError, OSError, ValueError, pickle.UnpicklingError):
                self._answers.put(None)
                return

    def _drain(self, stream: IO[bytes]) -> None:
        for line in stream:
            self.stderr.append(line.decode(errors="replace").rstrip())


class Prober:
    """A worker with memory: restarts it after a crash, rebuilds the model, and goes on with what is left."""

    def __init__(self, limit: float, *, offline: bool = False) -> None:
        """limit: seconds one scenario may stay silent. offline: no network for the libraries in the worker either."""
        self._limit = limit
        self._environment = {
            # flex_attention runs uncompiled: a compiled first call costs tens of seconds on a CPU.
            "TORCHDYNAMO_DISABLE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": "1",
        }
        if offline:
            self._environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        self._build: Build | None = None
        self._worker = Worker(self._environment)

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close(kill=True)

    def describe(self, request: Describe) -> ClassFacts | UnknownType:
        """What transformers knows of the model type. Raises NoVerdictError when it cannot be used at all."""
        facts: ClassFacts | UnknownType = self._single(request, (ClassFacts, UnknownType), "reading the model class")
        return facts

    def build(self, request: Build) -> TinyInfo | NotBuilt:
        """Build the tiny model. Raises NoVerdictError when the worker dies over it."""
        self._build = request
        built: TinyInfo | NotBuilt = self._single(request, (TinyInfo, NotBuilt), "building the tiny model")
        return built

    def probe(self, request: Probe, progress: Callable[[str], None] = lambda _: None) -> Iterator[ScenarioRun]:
        """Every run of every scenario asked for. A crash is a run with outcome `Crashed`, never an exception."""
        left = list(request.scenarios)
        crashes = 0
        while left:
            current = left[0]
            try:
                for answer in self._worker.ask(replace(request, scenarios=tuple(left)), self._patience()):
                    self._warm = True
                    if isinstance(answer, Started):
                        while left[0] != answer.scenario:
                            left.pop(0)
                        current = answer.scenario
                        progress(f"{request.implementation}: {current}")
                    elif isinstance(answer, ScenarioRun):
                        yield answer
                    elif isinstance(answer, Failed):
                        raise WorkerDied("exception", answer.reason)
                return
            except WorkerDied as death:
                crashes += 1
                left.remove(current)
                yield self._without(request, current, Crashed(death.kind, death.reason))
                if death.kind != "exception":
                    self._restart()
                if crashes >= CRASHES_TOLERATED:
                    reason = f"{request.implementation} crashed {crashes} times before ({death.reason})"
                    for scenario in left:
                        yield self._without(request, scenario, NotRun(reason))
                    return

    _warm = False

    def _patience(self) -> float:
        return self._limit if self._warm else max(self._limit, START_LIMIT)

    @staticmethod
    def _without(request: Probe, scenario: str, outcome: Crashed | NotRun) -> ScenarioRun:
        core = next(known.core for known in scenarios() if known.name == scenario)
        return ScenarioRun(request.implementation, scenario, "", Basis.MEASURED, outcome, core)

    def _single(self, request: Request, kinds: tuple[type[Any], ...], doing: str) -> Any:
        try:
            for answer in self._worker.ask(request, self._patience()):
                self._warm = True
                if isinstance(answer, kinds):
                    result = answer
                elif isinstance(answer, Failed):
                    raise NoVerdictError(f"{doing} failed: {answer.reason}", hint=debug_hint(answer.traceback))
            return result
        except WorkerDied as death:
            raise NoVerdictError(f"{doing} failed: {death.reason}") from death

    def _restart(self) -> None:
        self._worker.close(kill=True)
        self._worker = Worker(self._environment)
        self._warm = False
        if self._build is not None:
            self.build(self._build)


def debug_hint(text: str) -> str:
    """The traceback of the worker when ATTNCHECK_DEBUG asks for it, else how to see it."""
    return text if os.environ.get("ATTNCHECK_DEBUG") else "set ATTNCHECK_DEBUG=1 to see the traceback"
