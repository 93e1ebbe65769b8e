"""Loading ahead of the first measurement: it runs where torch runs, and never stands in the way."""

from __future__ import annotations

import pytest

from attncheck.probe.jobs import Jobs
from attncheck.probe.kernels import warm
from attncheck.probe.protocol import Job


def test_both_computations_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    for name in ("attention", "plain"):
        real = getattr(warm, name)
        monkeypatch.setattr(warm, name, lambda *given, real=real, name=name: (ran.append(name), real(*given))[1])
    warm.load("cpu")
    assert ran == ["attention", "plain"] * 3


def test_a_device_that_is_not_there_is_left_to_the_first_step() -> None:
    warm.load("no-such-device")


def test_a_process_readies_itself_and_still_answers() -> None:
    with Jobs(60.0, warm="cpu") as jobs:
        (done,) = jobs.run(Job("bench-rates", ("clock",), {"device": "cpu"}))
    assert isinstance(done.outcome, tuple)
