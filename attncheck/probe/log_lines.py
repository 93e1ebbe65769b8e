"""Hears the warnings that transformers logs while something runs, those included that it would print only once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Characters of a line that are kept.
LONGEST = 400


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.lines[" ".join(record.getMessage().split())[:LONGEST]] = None
        except Exception:  # a line whose arguments do not fit it: the library's mistake, and no result of ours
            return


@contextmanager
def warnings_heard() -> Iterator[dict[str, None]]:
    """The texts of transformers' log at WARNING and above, in order, each once. The logger is restored at the end.

    `warning_once` remembers for the whole process what it said; it is made to forget, so that each model is heard.
    """
    from transformers.utils import logging as library

    logger = logging.getLogger("transformers")
    once: Any = getattr(library, "warning_once", None)
    if hasattr(once, "cache_clear"):
        once.cache_clear()
    ear = _Ear()
    level, handlers, propagate = logger.level, logger.handlers, logger.propagate
    logger.setLevel(logging.WARNING)
    logger.handlers, logger.propagate = [ear], False
    try:
        yield ear.lines
    finally:
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate
