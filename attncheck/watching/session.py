"""The watch of one process of a watched script: what is imported gets stand-ins, what they see goes to the spool."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import Any

from attncheck.watching import sharing
from attncheck.watching.hooks import is_watched
from attncheck.watching.listeners import Listener
from attncheck.watching.spool import Spool
from attncheck.watching.watcher import compiled_graphs

#: Libraries whose versions a report names.
_LIBRARIES = ("torch", "transformers", "flash_attn", "flash_attn_interface", "xformers", "accelerate")


class Session:
    """Made when the first watched module has been imported. folder: of the spool.

    ATTNCHECK_WATCH_CALLS: calls that are read of each site and kind. ATTNCHECK_WATCH_MEASURE=0: no call is repeated.
    """

    def __init__(self, folder: str) -> None:
        self._spool = Spool(folder, process_facts())
        calls = int(os.environ.get("ATTNCHECK_WATCH_CALLS", "3"))
        measure = os.environ.get("ATTNCHECK_WATCH_MEASURE", "1") != "0"
        spool = self._spool
        self._watcher = sharing.join(Listener(calls, spool.model, spool.call, spool.failure, measure=measure))
        atexit.register(self._end)

    def loaded(self, name: str, module: Any) -> None:
        """A watched module has been imported."""
        if name == "torch":
            self._watcher.replacing.module("torch.nn.functional", module.nn.functional)
            self._notice_modes(module.nn.Module)
        elif name == "transformers.modeling_utils":
            self._watcher.replacing.interface(module)
        elif is_watched(name) and "modeling_" in name.rpartition(".")[2]:
            self._watcher.replacing.modeling(module)
        else:
            self._watcher.replacing.module(name, module)

    def _notice_modes(self, kind: Any) -> None:
        """Wake the watch where a module switches between training and evaluation: masks may be others from then on."""
        usual, watcher = kind.train, self._watcher

        def train(self: Any, mode: bool = True) -> Any:
            if mode is not self.training and self._modules:
                watcher.wake()
            return usual(self, mode)

        train.__doc__, train.__wrapped__ = usual.__doc__, usual  # type: ignore[attr-defined]
        kind.train = train

    def _end(self) -> None:
        with suppress(Exception):  # the interpreter is going down: nobody is left to tell
            self._spool.end(compiled=compiled_graphs(), versions=versions())


def process_facts() -> dict[str, Any]:
    """Who writes the record: rank in a distributed run, and what was started."""
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", ""))
    return {"rank": int(rank) if rank.isdigit() else None, "command": " ".join(sys.orig_argv[1:])[:500]}


def versions() -> dict[str, str]:
    """Versions of the libraries with attention that this process has loaded."""
    found = {name: getattr(sys.modules.get(name), "__version__", None) for name in _LIBRARIES}
    return {name: str(version) for name, version in found.items() if version is not None}
