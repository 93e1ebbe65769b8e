"""Settings of the whole suite. With this file here, pytest puts the folder above on the path (`tests.builders`)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from attncheck import pipeline
from attncheck.probe.client import Prober

# As in the worker: flex_attention runs uncompiled, and tiny models gain nothing from threads. Before torch is imported.
os.environ["TORCHDYNAMO_DISABLE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
# In a GitHub workflow every command would annotate; the tests of that set what they need.
for _name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
    os.environ.pop(_name, None)

# Started in the background (`pytest &` in a script), everything below inherits that interrupts are ignored.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def worker() -> Iterator[Prober]:
    """One worker process for all tests that may share it: importing torch and transformers costs seconds."""
    with Prober(120.0, offline=True) as prober:
        yield prober


@pytest.fixture
def shared_worker(worker: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets every `attncheck compare` of a test that runs in this process use the one worker."""

    class Shared:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def __enter__(self) -> Prober:
            return worker

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(pipeline, "Prober", Shared)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where torch sees no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
