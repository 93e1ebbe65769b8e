"""Which calls are still to be recorded: the first of each call site and kind; known sites are closed."""

from __future__ import annotations

import os
import threading
import weakref
from types import FrameType
from typing import Any

import torch

from attncheck.watching.apis import Ask

#: Calls in a row without anything new after which a site is closed: at least so many, and so many for each module.
_PATIENCE, _PATIENCE_EACH = 64, 4
#: Records of one process: a script that attends from thousands of places is not read to the last of them.
MOST_RECORDS = 4096


def number_of(frame: FrameType) -> int:
    """A call site as a number: an instruction of a code object, cheap to make at every call."""
    return id(frame.f_code) + frame.f_lasti


_ALL: weakref.WeakSet[Sites] = weakref.WeakSet()


def _forked() -> None:
    for sites in list(_ALL):
        sites.forked()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forked)


class Sites:
    """The call sites of a process. closed: numbers of those from which nothing new is expected; read without a lock."""

    def __init__(self, calls: int) -> None:
        self.closed: set[int] = set()
        self.records = 0
        self._calls = calls
        self._lock = threading.Lock()
        self._counts: dict[Any, int] = {}
        self._passed: dict[int, int] = {}
        self._modules: dict[int, set[int]] = {}
        self._codes: dict[int, Any] = {}
        self._alive: dict[int, tuple[Any, int]] = {}
        self._seen = 0
        _ALL.add(self)

    def forked(self) -> None:
        """In the child of a fork: a thread that is not there any more may have held the lock."""
        self._lock = threading.Lock()

    def claim(self, frame: FrameType, module: Any, asking: Ask) -> int | None:
        """How manieth call of its site and kind this is, from 0; None for one too many.

        A kind is what commonly changes the mask: whether one is passed, is_causal, one query or more, training.
        """
        site = number_of(frame)
        tokens = {"bhsd": -2, "bshd": 1, "thd": 0}[asking.api.layout]
        one = asking.api.layout != "thd" and asking.query.shape[tokens] == 1
        training = getattr(module, "training", None), torch.is_grad_enabled()
        with self._lock:
            self._codes[id(frame.f_code)] = frame.f_code  # kept alive, so that its id is not used again
            who = self._identity(module)
            kind = site, who, asking.mask is None, asking.is_causal, one, training
            count = self._counts.get(kind, 0)
            if count >= self._calls or self.records >= MOST_RECORDS:
                self._pass(site, frame)
                return None
            self._counts[kind] = count + 1
            self.records += 1
            self._passed[site] = 0
            self._modules.setdefault(site, set()).add(who)
        return count

    def passed(self, frame: FrameType) -> None:
        """A call of this site went by without anything to record."""
        with self._lock:
            self._pass(number_of(frame), frame)

    def reopen(self) -> None:
        """Expect something new from every site."""
        with self._lock:
            self.closed.clear()
            self._passed.clear()

    def _pass(self, site: int, frame: FrameType) -> None:
        self._codes[id(frame.f_code)] = frame.f_code
        self._passed[site] = passed = self._passed.get(site, 0) + 1
        if passed >= max(_PATIENCE, _PATIENCE_EACH * len(self._modules.get(site, ()))):
            self.closed.add(site)

    def _identity(self, module: Any) -> int:
        """A number for the module that no other module gets, without keeping the module alive."""
        if module is None:
            return 0
        known, number = self._alive.get(id(module), (None, 0))
        if known is None or known() is not module:
            number = self._seen = self._seen + 1
            self._alive[id(module)] = weakref.ref(module), number
        return number
