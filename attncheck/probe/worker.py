"""The child process: imports torch and transformers, answers requests over its pipe, and may die without harm."""

from __future__ import annotations

import faulthandler
import importlib
import os
import pickle
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from attncheck.probe.protocol import (
    Answer,
    Build,
    Describe,
    Done,
    Failed,
    NotBuilt,
    Probe,
    Request,
    Started,
)

if TYPE_CHECKING:
    from attncheck.probe.tiny.build import TinyModel


def main() -> None:
    """Serve requests from standard input until it closes.

    Answers go to what was standard output at start; from then on file descriptor 1 is standard error, so that nothing a
    library or kernel prints can mix with them.
    """
    requests: BinaryIO = os.fdopen(os.dup(0), "rb")
    answers: BinaryIO = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    faulthandler.enable()
    server = Server()
    server.warm_up()
    while True:
        try:
            request: Request = pickle.load(requests)
        except EOFError:
            return
        for answer in server.answer(request):
            pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()


class Server:
    """Answers one request after another; keeps the tiny model of the last `Build`."""

    def __init__(self) -> None:
        self._tiny: TinyModel | None = None

    @staticmethod
    def warm_up() -> None:
        """Import the heavy libraries while the parent still reads the config. A failure shows at the first request."""
        try:
            import torch
            import transformers

            # Tiny models gain nothing from threads, and a single thread makes runs repeatable.
            torch.set_num_threads(1)
            transformers.utils.logging.set_verbosity_error()
            transformers.utils.logging.disable_progress_bar()
        except Exception:
            traceback.print_exc()

    def answer(self, request: Request) -> Iterator[Answer]:
        """Every answer to one request, closing with `Done` or `Failed`."""
        try:
            if isinstance(request, Describe):
                from attncheck.probe.tiny.facts import describe

                yield describe(request.config, request.trust_remote_code)
            elif isinstance(request, Build):
                yield self._build(request)
            else:
                yield from self._probe(request)
        except MemoryError as error:
            yield Failed(f"out of memory: {error}")
        except Exception as error:
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

    def _probe(self, request: Probe) -> Iterator[Answer]:
        from attncheck.probe.runner import run

        if self._tiny is None:
            raise RuntimeError("a probe was asked for before a model was built")
        if request.plugins and request.scenarios:
            yield Started(request.implementation, request.scenarios[0])
            for plugin in request.plugins:
                importlib.import_module(plugin)
        yield from run(self._tiny, request)


if __name__ == "__main__":
    main()
