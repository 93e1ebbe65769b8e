"""A worker without torch: its main loop is the real one, and each implementation does what its name says.

`dies@decode` dies in the scenario `decode` and is well in every other; `dies` dies in each. The outcome of a scenario
says in its `variant` which process ran it, where, and for which model. A config's `while_building` names an action too.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from attncheck.probe import worker
from attncheck.probe.protocol import Answer, Failed, NotBuilt, Probe, Started, TinyInfo
from attncheck.semantics.observation import Basis, Observed, Reason, ScenarioRun

REAL_SEND = worker.send
PIPE: list[Any] = []


def send(answers: Any, answer: Answer) -> None:
    PIPE[:] = [answers]
    REAL_SEND(answers, answer)


def garble() -> None:
    PIPE[0].write(b"this is no pickle\n" * 10)
    PIPE[0].flush()
    time.sleep(10_000)


def flood() -> None:
    for _ in range(64):
        os.write(2, b"x" * 65536)
    for _ in range(10_000):
        os.write(1, b"a line of chatter on what was standard output\n")


def die_loudly() -> None:
    os.write(2, b"free(): invalid pointer\n")
    os.abort()


def run_out_of_memory() -> None:
    raise MemoryError("no room")


def exit_with_words() -> None:
    os.write(2, b"the driver is gone\n")
    os._exit(7)


ACTIONS = {
    "dies": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "aborts": die_loudly,
    "is-killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exits": exit_with_words,
    "quits": lambda: sys.exit(0),
    "hangs": lambda: time.sleep(10_000),
    "hangs-in-native-code": lambda: ctypes.PyDLL(None).sleep(10_000),  # PyDLL never releases the interpreter lock
    "raises": lambda: {}["nothing"],
    "runs-out-of-memory": run_out_of_memory,
    "floods": flood,
    "garbles": garble,
    "closes-its-pipe": lambda: (os.close(PIPE[0].fileno()), time.sleep(10_000)),
}


class Server(worker.Server):
    lingering = False

    def warm_up(self) -> None:
        pass

    def _build(self, request: Any) -> Answer:
        ACTIONS.get(request.config.get("while_building"), lambda: None)()
        flag = request.config.get("buildable_once")
        if flag is not None:
            if os.path.exists(flag):
                return NotBuilt((Reason("it was built once and is no more"),))
            with open(flag, "x"):
                pass
        self._tiny = request.config
        return TinyInfo(request.config, "causal-lm", "Scripted", 1)

    def _probe(self, request: Probe) -> Iterator[Answer]:
        if Server.lingering:
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._tiny is None:
            raise RuntimeError("a probe was asked for before a model was built")
        action, _, where = request.implementation.partition("@")
        if action == "dies-before-it-starts":
            os.kill(os.getpid(), signal.SIGSEGV)
        for scenario in request.scenarios:
            yield Started(request.implementation, scenario)
            if where in ("", scenario):
                if action == "loses-the-device":
                    yield Failed("the context is lost", spent=True)
                    return
                if action == "answers-what-cannot-be-sent":
                    yield ScenarioRun(request.implementation, scenario, "", Basis.MEASURED, lambda: None)  # type: ignore[arg-type]
                    return
                Server.lingering = action == "dies-later"
                ACTIONS.get(action, lambda: None)()
            about = {"pid": os.getpid(), "config": dict(self._tiny), "path": sys.path, "environment": dict(os.environ)}
            yield ScenarioRun(request.implementation, scenario, json.dumps(about), Basis.MEASURED, Observed(()))


def main() -> None:
    worker.Server = Server  # type: ignore[misc]
    worker.send = send
    worker.main()
