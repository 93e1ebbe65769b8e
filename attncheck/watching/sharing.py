"""The one watcher of a process: watches that overlap share it, and the last one to leave puts everything back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attncheck.watching.listeners import Listener
    from attncheck.watching.watcher import Watcher

_lock = threading.RLock()
_current: Watcher | None = None


def join(listener: Listener) -> Watcher:
    """The watcher of this process, which from now on tells this listener too."""
    from attncheck.watching.watcher import Watcher

    global _current
    with _lock:
        if _current is None:
            _current = Watcher(listener)
        else:
            _current.join(listener)
        return _current


def leave(listener: Listener) -> None:
    """Tell that listener nothing more; where it was the last one, put everything back."""
    global _current
    with _lock:
        if _current is not None and not _current.leave(listener):
            _current = None


@contextmanager
def unheard() -> Iterator[None]:
    """Calls of this thread are told to no watch while it lasts: they are attncheck's own."""
    watcher = _current
    if watcher is None:
        yield
    else:
        with watcher.deaf():
            yield
