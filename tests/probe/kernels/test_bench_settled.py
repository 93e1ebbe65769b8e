"""What the libraries of a subject hold is left out of later collections, and freed with the next subject."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from attncheck.probe import timing
from attncheck.probe.kernels import bench, bench_calls, bench_layer
from attncheck.probe.timing import Times
from tests.probe.kernels.test_bench_jobs import arguments, case


class Node:
    """Part of a reference cycle."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    bench_calls._settled.cache_clear()
    gc.unfreeze()
    yield
    bench_calls._settled.cache_clear()
    gc.unfreeze()


def test_once_a_subject() -> None:
    bench_calls.settle("one", "cuda")
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    bench_calls.settle("one", "cuda")
    assert gc.get_freeze_count() == 0
    bench_calls.settle("another", "cuda")
    assert gc.get_freeze_count() > 0


def test_what_became_garbage_meanwhile_goes_with_the_next_subject() -> None:
    node = Node()
    there = weakref.ref(node)
    bench_calls.settle("one", "cuda")
    del node
    gc.collect()
    assert there() is not None
    bench_calls.settle("another", "cuda")
    assert there() is None


def test_a_cpu_is_not_asked_what_it_holds() -> None:
    bench_calls.settle("one", "cpu")
    assert gc.get_freeze_count() == 0


def test_kernels_and_layers_settle_before_they_make_their_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(timing, "measure", lambda *_, **__: Times(1e-5, 1e-5, 1e-5, 9, 1e-5))
    for module in (bench, bench_layer):
        monkeypatch.setattr(module, "settle", lambda *given: told.append(given))
    monkeypatch.setattr(bench, "inputs", lambda *given: told.append("inputs") or bench_calls.inputs(*given))  # type: ignore[func-returns-value]
    bench.run("0", arguments(case()))
    assert told == [("made-right", "cpu"), "inputs"]
