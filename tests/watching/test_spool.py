"""The record of a watched process as a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attncheck.live import records
from attncheck.semantics.watched import WatchedCall, WatchedModel
from attncheck.watching.spool import Spool


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_fork_numbers_models_as_its_parent(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), {"rank": None, "command": ""})
    spool.model(WatchedModel("One", {"model_type": "one"}))
    child = os.fork()
    if not child:
        try:
            spool.call(WatchedCall("sdpa", "scaled_dot_product_attention", model=0))
            spool.model(WatchedModel("Two", {"model_type": "two"}))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    (forked,) = [process for process in records.read(str(tmp_path)) if process.calls]
    assert forked.pid == child
    assert [model.name for model in forked.models] == ["One", "Two"]
