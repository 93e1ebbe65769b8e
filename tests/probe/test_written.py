"""Calls as users write them, run on fake backends of TransformerEngine: what they do beside what layers declare."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from packaging.version import Version

from attncheck.frameworks.transformer_engine_call import Written
from attncheck.frameworks.transformer_engine_layers import Setup, layers
from attncheck.frameworks.transformer_engine_params import FLASH_2, FLASH_4, Params
from attncheck.probe import written
from attncheck.probe.jobs import Jobs
from attncheck.probe.kernels import interface as kernel_jobs
from attncheck.probe.protocol import Job, StepDone
from attncheck.probe.written import Plan, read
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import CAUSAL, Alignment, AttentionSpec, MaskSpec, ModelSpec, Part, SoftmaxSpec, Window
from attncheck.semantics.written import PLAIN, SHORT_QUERIES, CallReading, LayerCalls
from tests.backends.environments import H100

SPEC = AttentionSpec(
    Part.DECODER, 0, mask=MaskSpec(Window(15, 0)), num_heads=4, num_kv_heads=2, head_dim=16, head_dim_v=16
)
PLAN = Plan("cpu", installed=True, longest=320, plugins=("tests.plugins.fake_te",), limit=120)
BOTH = {FLASH_2: Version("2.8.3"), FLASH_4: Version("4.0.0b36")}


class JobsHere:
    """Jobs without a process of their own: starting one for each backend takes seconds."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def __enter__(self) -> JobsHere:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, job: Job, *, variables: Mapping[str, str], **_: object) -> Iterator[StepDone]:
        """In this process, under the variables that the job's process would have."""
        before = dict(os.environ)
        os.environ.update(variables)
        try:
            for step in job.steps:
                yield StepDone(step, kernel_jobs.find(job.name).run(step, job.arguments))
        finally:
            os.environ.clear()
            os.environ.update(before)


@pytest.fixture(autouse=True)
def jobs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test about processes takes it back."""
    monkeypatch.setattr(written, "Jobs", JobsHere)


def calls(spec: AttentionSpec = SPEC, **written: Any) -> tuple[LayerCalls, ...]:
    setup = Setup(Version("2.20.2"), Written(**written, given=tuple(written)), Params((9, 0), flash=BOTH))
    return layers(ModelSpec("fake", (spec,), max_position=512), setup)


def read_by(groups: tuple[LayerCalls, ...], plan: Plan = PLAN) -> Mapping[tuple[str, str], CallReading]:
    """(scenario, kernel) -> reading; suggested ones under "mended"."""
    found = read(groups, H100, plan)
    return {("mended" if one.mended else one.call.scenario, one.call.kernel): one for one in found}


def test_each_backend_is_run_with_the_users_own_numbers() -> None:
    found = read_by(calls(window_size=(15, 0)))
    for kernel in ("flash", "flash-4", "fused", "unfused"):
        reading = found[PLAIN, kernel].reading
        assert (reading.outcome, reading.basis, reading.wrong) == (Outcome.READ, Basis.MEASURED, None), kernel
        assert reading.kernel is not None
        assert reading.kernel.dq is not None


def test_the_configs_number_handed_on_sees_one_key_more_and_the_suggestion_is_tried() -> None:
    found = read_by(calls(window_size=(16, 0)))
    for kernel in ("flash", "fused", "unfused"):
        wrong = found[PLAIN, kernel].reading.wrong
        assert wrong is not None
        assert wrong.behind_distances == (16, 16)
        assert (wrong.over, wrong.behind % 4) == (4, 0)
        assert 0 < wrong.behind <= wrong.keys * wrong.over  # one query too many at most for each key and head
        assert found["mended", kernel].reading.wrong is None
        assert found["mended", kernel].reading.basis is Basis.MEASURED


def test_the_wrong_key_is_measured_and_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The release is one whose fused backend is right by the documentation."""
    monkeypatch.setenv("FAKE_TE", "short")
    found = read_by(calls(window_size=(15, 0)))
    wrong = found[PLAIN, "fused"].reading.wrong
    assert wrong is not None
    assert wrong.missed_distances == (15, 15)
    assert found[PLAIN, "unfused"].reading.wrong is None


def test_zeros_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TE", "zeros")
    found = read_by(calls(replace(SPEC, mask=MaskSpec(CAUSAL))))
    wrong = found[PLAIN, "flash-4"].reading.wrong
    assert wrong is not None
    assert wrong.nothing
    assert found[PLAIN, "flash"].reading.wrong is None


def test_zeros_known_of_a_release_are_not_believed_where_it_was_measured() -> None:
    """flash-attn-4 4.0.0b36 is known for them; the fake one is right."""
    found = read_by(calls(replace(SPEC, mask=MaskSpec(CAUSAL))))
    assert found[PLAIN, "flash-4"].call.means is None
    assert found[PLAIN, "flash-4"].reading.wrong is None
    nowhere = read_by(calls(replace(SPEC, mask=MaskSpec(CAUSAL))), replace(PLAN, installed=False))
    assert nowhere[PLAIN, "flash-4"].reading.basis is Basis.STATIC
    assert nowhere[PLAIN, "flash-4"].reading.wrong is not None


def test_the_diagonal_of_fewer_queries() -> None:
    found = read_by(calls(window_size=(15, 0)))
    assert found[SHORT_QUERIES, "fused"].aligned is Alignment.TOP_LEFT
    assert found[SHORT_QUERIES, "flash"].reading.outcome is Outcome.REFUSED
    moved = read_by(calls(window_size=(15, 0), attn_mask_type="causal_bottom_right"))
    assert {moved[SHORT_QUERIES, kernel].aligned for kernel in ("flash", "fused")} == {Alignment.BOTTOM_RIGHT}
    assert moved[SHORT_QUERIES, "flash"].reading.wrong is None


def test_a_softcap_that_is_not_asked_for_shows_in_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    capped = replace(SPEC, softmax=SoftmaxSpec(softcap=5.0))
    lost = read_by(calls(capped, window_size=(15, 0)))[PLAIN, "unfused"].reading
    kept = read_by(calls(capped, window_size=(15, 0), softcap=5.0))[PLAIN, "unfused"].reading
    assert lost.kernel is not None
    assert kept.kernel is not None
    assert lost.plain is not None
    assert lost.kernel.output > 10 * lost.plain.output
    assert kept.kernel.output < 3 * lost.plain.output
    monkeypatch.setenv("FAKE_TE", "no-softcap")
    ignored = read_by(calls(capped, window_size=(15, 0), softcap=5.0))[PLAIN, "unfused"].reading
    assert ignored.kernel is not None
    assert ignored.kernel.output > 10 * lost.plain.output


def test_sinks_are_handed_to_the_learnable_softmax() -> None:
    sinking = replace(SPEC, softmax=SoftmaxSpec(sinks=True))
    kept = read_by(calls(sinking, window_size=(15, 0), softmax_type="learnable"))[PLAIN, "fused"].reading
    lost = read_by(calls(sinking, window_size=(15, 0)))[PLAIN, "fused"].reading
    assert kept.kernel is not None
    assert lost.kernel is not None
    assert lost.kernel.output > 5 * kept.kernel.output


def test_a_backend_that_dies_is_a_result_and_the_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "Jobs", Jobs)
    monkeypatch.setenv("FAKE_TE", "dies")
    found = read_by(calls(window_size=(15, 0)))
    assert found[PLAIN, "fused"].reading.outcome is Outcome.CRASHED
    assert "SIGSEGV" in found[PLAIN, "fused"].reading.detail
    assert found[PLAIN, "unfused"].reading.wrong is None


def test_a_refusal_has_the_librarys_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TE", "refuses")
    reading = read_by(calls(window_size=(15, 0)))[PLAIN, "flash"].reading
    assert reading.outcome is Outcome.REFUSED
    assert "for fun" in reading.reasons[0].text


def test_what_does_not_fit_is_read_for_one_group_of_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TE", "memory")
    reading = read_by(calls(window_size=(15, 0)))[PLAIN, "fused"].reading
    assert (reading.outcome, reading.wrong) == (Outcome.READ, None)
    assert "one group of 2 query heads" in reading.detail
    assert reading.shape.num_heads == 4


def test_a_window_that_the_users_sequences_never_fill_cannot_show() -> None:
    short = read_by(calls(window_size=(16, 0)), replace(PLAN, longest=8))
    assert short[PLAIN, "fused"].reading.wrong is None
    assert short[PLAIN, "fused"].reading.kv_len == 8


def test_without_the_release_the_documentation_speaks() -> None:
    found = read_by(calls(window_size=(16, 0)), replace(PLAN, installed=False))
    reading = found[PLAIN, "fused"].reading
    assert (reading.outcome, reading.basis) == (Outcome.READ, Basis.STATIC)
    assert reading.wrong is not None
    assert reading.wrong.behind_distances == (16, 16)
    assert found[SHORT_QUERIES, "flash"].reading.outcome is Outcome.REFUSED


@pytest.mark.parametrize("size", [(15, 0), (16, 0), (14, 0), None, (15, 3)])
@pytest.mark.parametrize("declared", [Window(15, 0), CAUSAL])
def test_what_is_measured_is_what_the_documentation_says(size: Any, declared: Window) -> None:
    """The fake backends follow it, so both sides must find the same first difference and distances."""
    groups = calls(replace(SPEC, mask=MaskSpec(declared)), window_size=size)
    measured, static = (read_by(groups, replace(PLAN, installed=here)) for here in (True, False))
    for key, one in measured.items():
        if (
            key[1] == "flash-4"
            or one.reading.outcome is not Outcome.READ
            or static[key].reading.outcome is not one.reading.outcome
        ):
            continue
        seen, told = one.reading.wrong, static[key].reading.wrong
        assert (seen is None) is (told is None), key
        if seen is not None and told is not None and key[0] == PLAIN:
            assert seen.nothing is told.nothing
            assert (seen.ahead > 0, seen.behind > 0, seen.missed > 0) == (
                told.ahead > 0,
                told.behind > 0,
                told.missed > 0,
            )
