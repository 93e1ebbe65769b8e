"""Who is told of attention calls: each listener has its own count of calls, its own models and its own end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from attncheck.probe.inside.unwrap import config_of
from attncheck.semantics.watched import WatchedCall, WatchedModel
from attncheck.watching.apis import Ask
from attncheck.watching.context import Context
from attncheck.watching.sites import MOST_RECORDS, Sites, number_of


@dataclass(eq=False, slots=True)
class Listener:
    """One watch of a process.

    calls: how many of each site and kind it is told of. on_model, on_call, on_failure: get what is read, as it is read.
    measure: whether it wants calls to be repeated. active: whether calls are to be recorded now. after: called behind
    each record, outside of everything that swallows exceptions.
    """

    calls: int
    on_model: Callable[[WatchedModel], None]
    on_call: Callable[[WatchedCall], None]
    on_failure: Callable[[str], None]
    measure: bool = True
    active: Callable[[], bool] | None = None
    after: Callable[[], None] | None = None
    sites: Sites = field(init=False)
    _numbers: dict[int, int] = field(default_factory=dict, init=False)
    _said: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.sites = Sites(self.calls)

    def listens(self) -> bool:
        """Whether calls are to be recorded now."""
        return self.active is None or self.active()

    def take(self, call: WatchedCall, number: int, context: Context) -> None:
        """A call that has been read; number: the how manieth of its site and kind this is for this listener."""
        self.on_call(replace(call, number=number, model=self._model(context)))

    def fail(self, text: str, *, once: bool = False) -> None:
        """What could not be done."""
        if once and text in self._said:
            return
        self._said.add(text)
        with suppress(Exception):
            self.on_failure(text)

    def _model(self, context: Context) -> int | None:
        """The model's number; hands the model on when it is met first."""
        if context.root is None:
            return None
        if context.root.number not in self._numbers:
            model = context.root.model()
            self.on_model(WatchedModel(type(model).__name__, plain(config_of(model).to_dict())))
            # Counted as they are handed on: a model whose first call failed is met, and not in the record.
            self._numbers[context.root.number] = len(self._numbers)
        return self._numbers[context.root.number]


Claims = tuple[tuple[Listener, int], ...]


class Listeners:
    """All listeners of a process. closed: numbers of sites from which none of them expects anything new.

    `closed` is one object for good: stand-ins read it without a lock.
    """

    def __init__(self) -> None:
        self.closed: set[int] = set()
        self._all: tuple[Listener, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def full(self) -> bool:
        """Whether none takes any more records."""
        return all(listener.sites.records >= MOST_RECORDS for listener in self._all)

    def add(self, listener: Listener) -> None:
        """From now on, this one too."""
        self._all = (*self._all, listener)
        self.closed.clear()

    def remove(self, listener: Listener) -> None:
        """From now on, not this one."""
        self._all = tuple(known for known in self._all if known is not listener)
        self.reopen()

    def claim(self, frame: FrameType, module: Any, asking: Ask) -> Claims:
        """Who wants this call, and the how manieth of its site and kind it is for whom."""
        found = []
        for listener in self._all:
            if listener.listens() and (number := listener.sites.claim(frame, module, asking)) is not None:
                found.append((listener, number))
        self._close(frame)
        return tuple(found)

    def passed(self, frame: FrameType) -> None:
        """A call of this site went by without anything to record."""
        for listener in self._all:
            listener.sites.passed(frame)
        self._close(frame)

    def expect(self, sites: set[int]) -> None:
        """Something new may come from these sites."""
        self.closed.difference_update(sites)
        for listener in self._all:
            listener.sites.closed.difference_update(sites)

    def reopen(self) -> None:
        """Expect something new from every site."""
        self.closed.clear()
        for listener in self._all:
            listener.sites.reopen()

    def fail(self, text: str, *, once: bool = False) -> None:
        """Tell those who listen now what could not be done."""
        for listener in self._all:
            with suppress(Exception):
                if listener.listens():
                    listener.fail(text, once=once)

    def _close(self, frame: FrameType) -> None:
        number = number_of(frame)
        if all(number in listener.sites.closed for listener in self._all):
            self.closed.add(number)


def plain(value: Any) -> Any:
    """A config's values as JSON has them."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    return str(value).removeprefix("torch.")
