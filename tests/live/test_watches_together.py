"""Watches that overlap, a watch round `verify`, and a watch of compiled code: nobody's calls get lost or mixed up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attncheck
from tests.live.test_watch import IDS, model, nothing_is_left_behind

__all__ = ["nothing_is_left_behind"]  # for every test of this file, too


def test_a_watch_inside_a_watch_counts_its_own_calls() -> None:
    made = model()
    with attncheck.watch(made) as outer:
        for _ in range(100):  # the outer one has seen enough, and its sites are closed
            made(input_ids=IDS)
        with attncheck.watch(made, calls=1) as inner:
            for _ in range(2):
                made(input_ids=IDS)
        made.eval()
        made(input_ids=IDS)
    assert (len(outer.calls), len(inner.calls)) == (8, 2)
    for watching in (outer, inner):
        report = watching.report
        assert report.watch is not None
        assert report.watch.failures == ()
        assert {site.verdict for site in report.watch.sites} == {"ok"}
        assert len(watching.models) == 1
    assert [call.number for call in inner.calls] == [0, 0]
    assert [call.training for call in outer.calls[-2:]] == [False, False]


def test_watches_of_two_models_keep_them_apart_and_may_end_in_any_order() -> None:
    teacher, student = model("eager"), model()
    first, second = attncheck.watch(teacher), attncheck.watch(student)
    of_teacher, of_student = first.__enter__(), second.__enter__()
    for _ in range(2):
        teacher(input_ids=IDS)
        student(input_ids=IDS)
    first.__exit__(None, None, None)
    teacher(input_ids=IDS)
    student(input_ids=IDS)
    second.__exit__(None, None, None)
    assert [call.implementation for call in of_teacher.calls] == ["eager"] * 4
    assert [call.implementation for call in of_student.calls] == ["sdpa"] * 6
    assert [call.model for call in of_student.calls] == [0] * 6


def test_facts_alone_stay_facts_beside_a_watch_that_measures() -> None:
    made = model()
    with attncheck.watch(made, calls=1, measure=False) as facts:
        made(input_ids=IDS)
        with attncheck.watch(made, calls=1) as measured:
            made(input_ids=IDS)
    assert [bool(call.seen) for call in facts.calls] == [False, False]
    assert [bool(call.seen) for call in measured.calls] == [True, True]


def test_what_verify_runs_is_no_step_of_the_model() -> None:
    made = model().eval()
    with attncheck.watch(made) as watching:
        report = attncheck.verify(made, {"input_ids": IDS})
        assert (watching.calls, watching.failures) == ([], [])
        made(input_ids=IDS)
    assert report.findings == ()
    assert len(watching.calls) == 2


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("TORCHDYNAMO_DISABLE")
    torch._dynamo.reset()
    with torch._dynamo.config.patch(disable=False):
        yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize("whole", [True, False], ids=["whole model", "layers"])
def test_compiled_code_is_compiled_once_more_and_then_left_alone(whole: bool) -> None:
    made, graphs = model(), []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph

    for module in [made] if whole else made.model.layers:
        module.compile(backend=backend)
    made(input_ids=IDS)
    own = len(graphs)
    assert own == (1 if whole else 2)
    with attncheck.watch(made) as watching:
        made(input_ids=IDS)
    assert len(graphs) == 2 * own
    assert watching.calls == []
    assert "calls inside compiled code were not seen" in watching.failures[0]
    for _ in range(3):
        made(input_ids=IDS)
        with attncheck.watch(made):
            made(input_ids=IDS)
    with torch.compiler.set_stance("force_eager"), attncheck.watch(made) as watching:
        made(input_ids=IDS)
    assert watching.failures == []
    assert {site.verdict for site in watching.report.watch.sites} == {"ok"}  # type: ignore[union-attr]
    made(input_ids=IDS)
    assert len(graphs) == 2 * own


@pytest.mark.usefixtures("compiling")
def test_verify_compiles_nothing() -> None:
    made, graphs = model(), []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph

    made.compile(backend=backend)
    made(input_ids=IDS)
    (remark,) = attncheck.verify(made, {"input_ids": IDS}).findings
    assert "parts of the model are compiled" in remark.message
    made(input_ids=IDS)
    assert len(graphs) == 1
