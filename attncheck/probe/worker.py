"""The child process: imports torch and transformers, answers requests over its pipe, and may die without harm."""

from __future__ import annotations

import faulthandler
import importlib
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from attncheck.probe.parent import die_with_parent
from attncheck.probe.protocol import (
    PREAMBLE,
    Answer,
    AskTorch,
    AskTypes,
    Build,
    Describe,
    Done,
    Failed,
    Job,
    NotBuilt,
    Probe,
    Ready,
    Request,
    Started,
    StepDone,
)
from attncheck.semantics.observation import Crashed, ScenarioRun

if TYPE_CHECKING:
    from attncheck.probe.tiny.build import TinyModel

#: Set to "kernels" in the environment of a worker that shall serve kernel jobs only, which need no transformers.
ROLE = "ATTNCHECK_WORKER"
#: Set to a device in the environment of a worker that shall first load what every measurement there needs.
WARM = "ATTNCHECK_WARM"
#: Modules, joined by commas, that it shall import as well while it has nothing to do.
IMPORTS = "ATTNCHECK_IMPORTS"
#: What is said of a process that must be replaced.
LOST = "the CUDA context is lost"


def main() -> None:
    """Serve requests from standard input; the process ends when that closes, whatever it is doing.

    Answers go to what was standard output at start; from then on file descriptor 1 is standard error, so that nothing a
    library or kernel prints can mix with them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent decides
    die_with_parent()
    requests: BinaryIO = os.fdopen(os.dup(0), "rb")
    answers: BinaryIO = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    answers.write(PREAMBLE)
    answers.flush()
    faulthandler.enable()
    inbox: queue.Queue[Request] = queue.Queue()
    threading.Thread(target=receive, args=(requests, inbox), daemon=True).start()
    server = Server()
    server.warm_up()
    send(answers, Ready())
    while True:
        for answer in server.answer(inbox.get()):
            send(answers, answer)


def receive(requests: BinaryIO, inbox: queue.Queue[Request]) -> None:
    """Pass requests on, from a thread of its own, so that the end of the parent is noticed in the middle of work."""
    while True:
        try:
            request = pickle.load(requests)
        except Exception:  # the pipe is closed, or broken: there is nobody to work for
            os._exit(0)
        inbox.put(request)


def send(answers: BinaryIO, answer: Answer) -> None:
    """Write one whole answer; one that cannot be pickled is answered by `Failed`."""
    try:
        data = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        reason = f"a {type(answer).__name__} cannot be sent: {type(error).__name__}: {error}"
        data = pickle.dumps(Failed(reason, traceback.format_exc(), spent=True), protocol=pickle.HIGHEST_PROTOCOL)
    answers.write(data)
    answers.flush()


class Server:
    """Answers one request after another; keeps the tiny model of the last `Build`."""

    def __init__(self) -> None:
        self._tiny: TinyModel | None = None
        self._unusable: Failed | None = None

    def warm_up(self) -> None:
        """Import the heavy libraries while the parent still reads the config. A failure answers every request."""
        name = "torch"
        try:
            import torch

            # Tiny models gain nothing from threads, and a single thread makes runs repeatable.
            torch.set_num_threads(1)
            if os.environ.get(ROLE) == "kernels":
                if device := os.environ.get(WARM):
                    from attncheck.probe.kernels.warm import load

                    load(device)
                for module in filter(None, os.environ.get(IMPORTS, "").split(",")):
                    with suppress(Exception):  # told where it is needed
                        importlib.import_module(module)
                return
            name = "transformers"
            import transformers

            transformers.utils.logging.set_verbosity_error()
            transformers.utils.logging.disable_progress_bar()
        except (Exception, SystemExit) as error:
            self._unusable = Failed(
                f"{name} cannot be used: {type(error).__name__}: {error}",
                traceback.format_exc(),
                kind="import",
                hint=f"see `attncheck doctor`, and try: {os.path.basename(sys.executable)} -c 'import {name}'",
            )

    def answer(self, request: Request) -> Iterator[Answer]:
        """Every answer to one request, closing with `Done` or `Failed`."""
        try:
            if self._unusable is not None:
                yield self._unusable
                return
            if isinstance(request, Describe):
                from attncheck.probe.tiny.facts import describe

                yield describe(request.config, request.trust_remote_code)
            elif isinstance(request, Build):
                yield self._build(request)
            elif isinstance(request, Job):
                yield from self._job(request)
            elif isinstance(request, AskTorch):
                from attncheck.probe.torch_trial import state_text

                yield StepDone("torch", state_text())
            elif isinstance(request, AskTypes):
                from attncheck.probe.tiny.library import model_types

                yield StepDone("types", model_types())
            else:
                yield from self._probe(request)
        except DeviceLost as error:
            yield Failed(str(error), spent=True)
        except MemoryError as error:
            yield Failed(f"out of memory: {error}", kind="memory")
        except Exception as error:
            if lost := device_error():
                reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}; {LOST} ({lost})"
                yield Failed(reason, traceback.format_exc(), spent=True)
            else:
                yield Failed(f"{type(error).__name__}: {error}", traceback.format_exc())
        else:
            yield Done()

    def _build(self, request: Build) -> Answer:
        from attncheck.probe.tiny.build import build

        built = build(request.config, trust_remote_code=request.trust_remote_code)
        if isinstance(built, NotBuilt):
            return built
        self._tiny = built
        return built.info

    def _job(self, request: Job) -> Iterator[Answer]:
        from attncheck.probe.kernels.interface import find
        from attncheck.probe.refusal import outcome_of

        job = find(request.name)
        for step in request.steps:
            yield Started(request.name, step)
            try:
                outcome = job.run(step, request.arguments)
            except Exception as error:  # whatever a kernel library raises is an answer
                outcome = outcome_of(error)
            if isinstance(outcome, Crashed):
                require_device(outcome)
            yield StepDone(step, outcome)

    def _probe(self, request: Probe) -> Iterator[Answer]:
        from attncheck.probe.runner import run

        if self._tiny is None:
            raise RuntimeError("a probe was asked for before a model was built")
        if request.plugins and request.scenarios:
            yield Started(request.implementation, request.scenarios[0])
            for plugin in request.plugins:
                importlib.import_module(plugin)
        for answer in run(self._tiny, request):
            if isinstance(answer, ScenarioRun) and isinstance(answer.outcome, Crashed):
                require_device(answer.outcome)
            yield answer


class DeviceLost(Exception):
    """The GPU answers this process no more; only a new process can use it again."""


def device_error() -> str:
    """Type of what every call on the GPU raises from now on (illegal address, device-side assertion), "" if none does.

    Also "" where this process has not used a GPU.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return ""
    try:
        torch.cuda.synchronize()
    except Exception as error:  # the first call after such a crash raises it again, whatever its type
        return type(error).__name__
    return ""


def require_device(crash: Crashed) -> None:
    """Raise DeviceLost when the crash left the CUDA context in error."""
    if lost := device_error():
        raise DeviceLost(f"{crash.reason}; {LOST} ({lost})")


if __name__ == "__main__":
    main()
