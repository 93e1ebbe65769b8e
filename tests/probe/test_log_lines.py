"""Warnings of transformers are heard each time, and its logger is left as it was."""

from __future__ import annotations

import logging

from transformers.utils import logging as library

from attncheck.probe.log_lines import warnings_heard


def test_what_is_said_once_is_heard_each_time() -> None:
    logger = library.get_logger("transformers.models.some")
    for _ in range(2):
        with warnings_heard() as lines:
            logger.warning_once("it is\nso")
            logger.warning_once("it is\nso")
            logger.info("not this")
        assert list(lines) == ["it is so"]


def test_the_logger_is_left_as_it_was() -> None:
    logger = logging.getLogger("transformers")
    before = logger.level, list(logger.handlers), logger.propagate
    try:
        with warnings_heard():
            raise KeyError("x")
    except KeyError:
        pass
    assert (logger.level, list(logger.handlers), logger.propagate) == before


def test_a_line_that_does_not_fit_its_arguments_is_no_failure() -> None:
    with warnings_heard() as lines:
        logging.getLogger("transformers").warning("%d of %d", "x")
    assert list(lines) == []
