"""Loading ahead of the first measurement: it runs where torch runs, and never stands in the way."""

from __future__ import annotations

from pathlib import Path

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


def test_a_process_imports_ahead_what_it_is_told_and_survives_what_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaks_ahead.py").write_text("raise RuntimeError('as planned')\n")
    (tmp_path / "came_ahead.py").write_text(f"open({str(tmp_path / 'seen')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Jobs(60.0) as jobs:
        jobs.prepare(imports=("breaks_ahead", "came_ahead"))
        (done,) = jobs.run(Job("bench-rates", ("clock",), {"device": "cpu"}))
    assert isinstance(done.outcome, tuple)
    assert (tmp_path / "seen").exists()
