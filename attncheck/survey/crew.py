"""The workers of a survey: threads that each own a probing process and take types one after another."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from attncheck.environment import Environment
from attncheck.errors import AttnCheckError
from attncheck.probe.client import Prober
from attncheck.probe.protocol import ClassFacts
from attncheck.survey.examine import describe, examine
from attncheck.survey.options import WORKER_BYTES, SurveyOptions
from attncheck.survey.settings import Setting, settings_of
from attncheck.surveyed import Plan, Row, Status

#: A worker above this share of its memory is replaced by a fresh one before the next type.
_TIRED = 0.7
#: Seconds between two looks at the workers' memory.
_LOOK = 0.5


class Crew:
    """Surveys many types at once. emit: called with every row, from any thread, one at a time.

    done: (type, setting) pairs that need not be probed again. now: what each worker is doing, for progress.
    """

    def __init__(
        self,
        options: SurveyOptions,
        plan: Plan,
        environment: Environment,
        done: set[tuple[str, str]],
        emit: Callable[[Row], None],
    ) -> None:
        self._options, self._plan, self._environment = options, plan, environment
        self._done, self._emit = done, emit
        self._most = WORKER_BYTES[plan.device]
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._probers: list[Prober] = []
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self.now: dict[int, str] = {}
        self.finished = 0

    def work(self, types: Sequence[str], jobs: int, watch: Callable[[], None]) -> None:
        """Survey the types with `jobs` workers; `watch` is called about twice a second. KeyboardInterrupt passes."""
        for name in types:
            self._waiting.put(name)
        threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(jobs)]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                time.sleep(_LOOK)
                self._guard_memory()
                watch()
        finally:
            self.stop()
            for thread in threads:
                thread.join(timeout=10)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End all workers; what is being probed is not finished."""
        self._stopped.set()
        for prober in list(self._probers):
            prober.worker.kill()

    def _guard_memory(self) -> None:
        for prober in list(self._probers):
            if prober.worker.memory > self._most:
                prober.worker.kill()  # the probe that is running becomes a crash, and another worker goes on

    def _run(self, number: int) -> None:
        try:
            with Prober(self._options.timeout, offline=True) as prober:
                self._probers.append(prober)
                while not self._stopped.is_set():
                    try:
                        name = self._waiting.get_nowait()
                    except queue.Empty:
                        return
                    self._type(prober, number, name)
                    self.now.pop(number, None)
                    if prober.worker.memory > _TIRED * self._most and not self._waiting.empty():
                        prober.renew()
        except BaseException as error:
            if not self._stopped.is_set():  # a full disk, a bug: the others stop too, and the run says why
                self._failure = error
                self._stopped.set()

    def _type(self, prober: Prober, number: int, name: str) -> None:
        self.now[number] = name
        facts = describe(prober, name)
        if isinstance(facts, Row):
            self._put(replace(facts, last=True))
            return
        settings: tuple[Setting, ...] = settings_of(name, facts.kind, facts.defaults, facts.keys)
        if not self._plan.settings:
            settings = settings[:1]
        for setting in settings:
            if (name, setting.name) in self._done:
                continue
            row = self._setting(prober, number, facts, setting)
            last = setting is settings[-1] or (not setting.name and row.status is not Status.SURVEYED)
            self._put(replace(row, last=last))
            if last or self._stopped.is_set():
                return

    def _setting(self, prober: Prober, number: int, facts: ClassFacts, setting: Setting) -> Row:
        def tell(text: str) -> None:
            self.now[number] = " ".join(filter(None, (facts.model_type, setting.name, text)))

        tell("")
        limit = self._options.type_timeout
        try:
            return examine(prober, facts, setting, self._plan, self._environment, limit, tell)
        except AttnCheckError as error:
            reason = error.message
        except Exception as error:  # one type that attncheck cannot digest must not end the survey
            reason = f"attncheck itself failed: {type(error).__name__}: {error}"
        return Row(facts.model_type, setting.name, setting.assignments, Status.LOST, reason)

    def _put(self, row: Row) -> None:
        """Keep a row, unless it comes from a worker that was killed because the survey ends."""
        with self._lock:
            if self._stopped.is_set():
                return
            self._emit(row)
            self._done.add((row.model_type, row.setting))
            self.finished += row.last
