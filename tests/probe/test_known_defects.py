"""The calls that confirm known defects: right kernels pass them, planted faults do not, and a death is an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch

from attncheck.probe import defects as parent
from attncheck.probe.jobs import Jobs
from attncheck.probe.kernels import defects, subject
from attncheck.probe.kernels.interface import find
from attncheck.probe.protocol import Job, StepDone
from attncheck.semantics.convention import Ability, Outcome
from attncheck.semantics.observation import Basis, Crashed, NotRun, Reason, Rejected

STEPS = tuple(defects.STEPS)


def run(step: str, api: str = "sdpa-math", dtype: str = "bfloat16") -> Ability:
    return defects.run(step, {"api": api, "device": "cpu", "dtype": dtype})


def plant(monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Any]) -> None:
    """Put `fault(right, q, k, v, **arguments)` in the place of the API's callable."""
    real = subject._loaded

    def loaded(name: str, plugins: tuple[str, ...]) -> Any:
        api, right = real(name, plugins)
        return api, lambda *tensors, **arguments: fault(right, *tensors, **arguments)

    monkeypatch.setattr(subject, "_loaded", loaded)


def test_the_parent_asks_for_every_step() -> None:
    assert set(parent.STEPS) == set(defects.STEPS)
    assert find("defects") is defects.JOB


@pytest.mark.parametrize("api", ["sdpa-math", "sdpa-flash"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("step", STEPS)
def test_right_kernels_pass(step: str, api: str, dtype: str) -> None:
    row = run(step, api, dtype)
    assert (row.feature, row.outcome, row.basis, row.agrees) == (step, Outcome.READ, Basis.MEASURED, True)
    assert row.detail == ""
    assert row.api == api


def few_heads(right: Callable[..., Any], query: Any, key: Any, value: Any, **arguments: Any) -> Any:
    """Query heads read the next kv head when there are fewer than 8 of them."""
    return right(query, key, value.roll(1, 1) if key.shape[1] < 8 else value, **arguments)


class Overflow(torch.autograd.Function):
    """Passes through, and gives NaN gradients where a logit's log-sum-exp would leave float32."""

    @staticmethod
    def forward(context: Any, query: Any) -> Any:
        return query.clone()

    @staticmethod
    def backward(context: Any, gradient: Any) -> Any:  # type: ignore[override]
        return gradient * float("nan")


def no_gradient(right: Callable[..., Any], query: Any, key: Any, value: Any, **arguments: Any) -> Any:
    low = bool((query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).max() < -88.7)
    tile = query.shape[2] % 128 == 64
    return right(Overflow.apply(query) if low and tile else query, key, value, **arguments)


def reinterpreted(right: Callable[..., Any], query: Any, key: Any, value: Any, **arguments: Any) -> Any:
    """A float32 mask read as twice as many numbers of the queries' dtype."""
    mask = arguments["attn_mask"](query, key)
    wrong = mask.view(query.dtype)[..., : mask.shape[-1]].nan_to_num(0.0)
    return right(query, key, value, attn_mask=wrong)


@pytest.mark.parametrize(
    ("step", "fault", "words"),
    [
        ("few-kv-heads", few_heads, "12 on 2 heads, 33 keys: off by"),
        ("masked-backward-704", no_gradient, "45056 entries of dq are NaN or Inf at 704 tokens"),
        ("float32-mask", reinterpreted, "off by"),
        ("float32-mask", lambda right, q, k, v, **_: right(q, k, v) * float("nan"), "NaN or Inf in the output"),
    ],
)
def test_the_known_faults_are_seen(
    step: str, fault: Callable[..., Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, fault)
    row = run(step)
    assert (row.outcome, row.agrees) == (Outcome.READ, False)
    assert words in row.detail


def test_a_refusal_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("No available kernel. Aborting execution.")

    plant(monkeypatch, refuse)
    for step in STEPS:
        row = run(step)
        assert row.outcome is Outcome.REFUSED
        assert "No available kernel" in row.detail


def test_an_unknown_step_is_no_answer() -> None:
    with pytest.raises(KeyError):
        run("no such step")


class Scripted:
    """Stands for `Jobs`: answers with what it was given."""

    def __init__(self, outcomes: Mapping[str, Any]) -> None:
        self.outcomes = outcomes
        self.asked: list[Job] = []

    def run(self, job: Job, **_: Any) -> Iterator[StepDone]:
        self.asked.append(job)
        for step in job.steps:
            yield StepDone(step, self.outcomes[step])


def test_every_outcome_of_a_step_is_a_row() -> None:
    good = Ability(parent.API, "few-kv-heads", "right", Outcome.READ, Basis.MEASURED, True)
    jobs = Scripted(
        {
            "few-kv-heads": good,
            "masked-backward-704": Crashed("signal", "the process died of SIGSEGV"),
            "float32-mask": NotRun("defects crashed 3 times before"),
        }
    )
    rows = parent.confirm(jobs)  # type: ignore[arg-type]
    assert [row.outcome for row in rows] == [Outcome.READ, Outcome.CRASHED, Outcome.NOT_RUN]
    assert rows[0] is good
    assert "SIGSEGV" in rows[1].detail
    assert jobs.asked[0].arguments == {"api": parent.API, "device": "cuda", "dtype": "bfloat16"}
    jobs = Scripted(dict.fromkeys(parent.STEPS, Rejected((Reason("no cuDNN"),))))
    assert {row.outcome for row in parent.confirm(jobs)} == {Outcome.REFUSED}  # type: ignore[arg-type]
    jobs = Scripted(dict.fromkeys(parent.STEPS, 5))
    assert {row.outcome for row in parent.confirm(jobs)} == {Outcome.NOT_RUN}  # type: ignore[arg-type]


def test_a_real_worker_answers() -> None:
    with Jobs(120.0) as jobs:
        rows = parent.confirm(jobs, device="cpu", api="sdpa-math")
    assert [(row.feature, row.agrees) for row in rows] == [(step, True) for step in parent.STEPS]


@pytest.mark.gpu
def test_on_a_gpu_the_cudnn_kernel_answers_or_refuses() -> None:
    with Jobs(120.0) as jobs:
        rows = parent.confirm(jobs)
    assert {row.outcome for row in rows} <= {Outcome.READ, Outcome.REFUSED}
    with Jobs(120.0) as jobs:
        math = parent.confirm(jobs, api="sdpa-math")
    assert all(row.agrees for row in math)
