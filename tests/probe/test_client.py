"""The parent's side of the worker: whatever the child does, it is a result, and no child is left behind."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attncheck.errors import NoVerdictError
from attncheck.probe import client, process
from attncheck.probe.client import Prober
from attncheck.probe.protocol import Build, Probe
from attncheck.semantics.observation import Crashed, NotRun, Observed, ScenarioRun
from tests.probe.processes import gone, wait_until_gone

SCENARIOS = ("plain", "left-pad", "right-pad", "decode")
CONFIG = {"model_type": "scripted", "hidden_size": 64}


@pytest.fixture
def prober(monkeypatch: pytest.MonkeyPatch) -> Iterator[Prober]:
    """A prober on scripted workers, with a model built; a scenario may be silent for two seconds."""
    script = process._BOOTSTRAP.replace("attncheck.probe.worker", "tests.probe.scripted_worker")
    monkeypatch.setattr(process, "_BOOTSTRAP", script)
    with Prober(2.0) as prober:
        prober.build(Build(CONFIG))
        yield prober


def outcomes(prober: Prober, implementation: str) -> dict[str, ScenarioRun]:
    runs = list(prober.probe(Probe(implementation, SCENARIOS)))
    assert [run.scenario for run in runs] == list(SCENARIOS), "one run a scenario, in order"
    assert {run.implementation for run in runs} == {implementation}
    return {run.scenario: run for run in runs}


def pids(runs: dict[str, ScenarioRun]) -> set[int]:
    return {json.loads(run.variant)["pid"] for run in runs.values() if isinstance(run.outcome, Observed)}


@pytest.mark.parametrize(
    ("action", "kind", "words"),
    [
        ("dies", "signal", "died of SIGSEGV"),
        ("aborts", "signal", "died of SIGABRT: free(): invalid pointer"),
        ("is-killed", "signal", "died of SIGKILL (often: out of memory)"),
        ("exits", "exit", "ended with status 7: the driver is gone"),
        ("quits", "exit", "ended with status 0"),
        ("hangs", "timeout", "no answer within 2 s"),
        ("hangs-in-native-code", "timeout", "no answer within 2 s"),
        ("raises", "exception", "KeyError: 'nothing'"),
        ("runs-out-of-memory", "memory", "no room"),
        ("loses-the-device", "exception", "the context is lost"),
        ("answers-what-cannot-be-sent", "exception", "a ScenarioRun cannot be sent"),
        ("garbles", "exit", "broke its connection"),
        ("closes-its-pipe", "exit", "broke its connection"),
    ],
)
def test_one_broken_scenario_costs_nothing_but_itself(
    action: str, kind: str, words: str, prober: Prober, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE", 0.5)
    runs = outcomes(prober, f"{action}@left-pad")
    broken = runs.pop("left-pad").outcome
    assert isinstance(broken, Crashed)
    assert broken.kind == kind
    assert words in broken.reason
    assert all(isinstance(run.outcome, Observed) for run in runs.values())
    assert {json.dumps(json.loads(run.variant)["config"]) for run in runs.values()} == {json.dumps(CONFIG)}
    # What only raised keeps its process; everything else is gone, and a new one goes on.
    assert len(pids(runs)) == (1 if action in ("raises", "runs-out-of-memory") else 2)
    assert all(isinstance(run.outcome, Observed) for run in outcomes(prober, "well").values())


def test_after_two_crashes_the_rest_is_not_tried(prober: Prober) -> None:
    runs = outcomes(prober, "dies")
    assert [type(run.outcome) for run in runs.values()] == [Crashed, Crashed, NotRun, NotRun]
    left = runs["decode"].outcome
    assert isinstance(left, NotRun)
    assert "dies crashed 2 times before" in left.reason
    assert "SIGSEGV" in left.reason
    assert all(isinstance(run.outcome, Observed) for run in outcomes(prober, "well").values())


def test_no_worker_is_started_that_nobody_needs(prober: Prober) -> None:
    outcomes(prober, "dies")
    assert prober._worker.closed


def test_a_flood_on_stderr_and_stdout_blocks_nothing(prober: Prober) -> None:
    runs = outcomes(prober, "floods")
    assert all(isinstance(run.outcome, Observed) for run in runs.values())
    assert len(prober._worker.stderr) <= 40
    assert max(map(len, prober._worker.stderr)) <= 4096


def test_a_death_that_comes_late_is_not_blamed_on_the_next_implementation(prober: Prober) -> None:
    before = outcomes(prober, "dies-later")
    after = outcomes(prober, "well")
    assert all(isinstance(run.outcome, Observed) for run in (*before.values(), *after.values()))
    assert pids(before).isdisjoint(pids(after))


def test_an_implementation_that_dies_before_it_starts_is_blamed(prober: Prober) -> None:
    runs = outcomes(prober, "dies-before-it-starts")
    assert [type(run.outcome) for run in runs.values()] == [Crashed, Crashed, NotRun, NotRun]


def test_a_model_that_cannot_be_built_again_ends_the_measuring_not_the_report(prober: Prober, tmp_path: Path) -> None:
    prober.build(Build({**CONFIG, "buildable_once": str(tmp_path / "built")}))
    first = outcomes(prober, "dies@plain")
    assert [type(run.outcome) for run in first.values()] == [Crashed, NotRun, NotRun, NotRun]
    second = outcomes(prober, "well")
    assert {run.outcome for run in second.values()} == {NotRun("it was built once and is no more")}


def test_answers_that_nobody_read_never_answer_the_next_request(prober: Prober) -> None:
    running = prober.probe(Probe("well", SCENARIOS))
    next(running)
    running.close()
    assert all(isinstance(run.outcome, Observed) for run in outcomes(prober, "other").values())


def test_a_large_request_to_a_worker_that_does_not_read_ends_at_the_time_limit(
    prober: Prober, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BUILD_LIMIT", 0.5)
    large = {**CONFIG, "id2label": {str(number): "x" * 50 for number in range(100_000)}}
    prober.build(Build(large))
    os.kill(prober._worker.pid, signal.SIGSTOP)
    with pytest.raises(NoVerdictError, match="building the tiny model failed: no answer within"):
        prober.build(Build(large))


def test_the_worker_inherits_the_path_of_modules(
    prober: Prober, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with Prober(5.0) as other:
        other.build(Build(CONFIG))
        run = next(iter(other.probe(Probe("well", ("plain",)))))
    assert json.loads(run.variant)["path"] == sys.path


def test_modules_of_the_current_folder_do_not_get_in(
    prober: Prober, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("json", "pickle", "queue", "random"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user was imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    with Prober(5.0) as other:
        other.build(Build(CONFIG))


@pytest.mark.parametrize("action", ["well", "hangs", "hangs-in-native-code"])
def test_the_child_is_gone_when_the_prober_closes(action: str, prober: Prober) -> None:
    with Prober(100.0) as other:
        other.build(Build(CONFIG))
        pid = other._worker.pid
        running = other.probe(Probe(f"{action}@left-pad", SCENARIOS))
        next(running)
        assert not gone(pid)
    assert gone(pid)


def test_the_child_is_gone_when_the_work_is_interrupted(prober: Prober) -> None:
    pid = 0

    def interrupt(other: Prober) -> None:
        nonlocal pid
        with other:
            pid = other._worker.pid
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt(Prober(100.0))
    assert gone(pid)


def test_an_idle_worker_that_dies_is_replaced(prober: Prober) -> None:
    os.kill(prober._worker.pid, signal.SIGKILL)
    wait_until_gone(prober._worker.pid)
    assert all(isinstance(run.outcome, Observed) for run in outcomes(prober, "well").values())


def test_a_worker_that_dies_while_it_builds_gives_no_verdict(prober: Prober) -> None:
    with pytest.raises(NoVerdictError, match="building the tiny model failed: the process died of SIGSEGV"):
        prober.build(Build({**CONFIG, "while_building": "dies"}))
    prober.build(Build(CONFIG))
    assert all(isinstance(run.outcome, Observed) for run in outcomes(prober, "well").values())


def test_debugging_shows_the_traceback(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Build({**CONFIG, "while_building": "raises"})
    with pytest.raises(NoVerdictError, match="building the tiny model failed: KeyError: 'nothing'") as quiet:
        prober.build(request)
    monkeypatch.setenv("ATTNCHECK_DEBUG", "1")
    with pytest.raises(NoVerdictError) as loud:
        prober.build(request)
    assert "Traceback" not in quiet.value.hint
    assert "Traceback" in loud.value.hint


@pytest.mark.parametrize("offline", [False, True])
def test_the_environment_of_the_worker(offline: bool, prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("OF_THE_USER", "kept")
    with Prober(5.0, offline=offline) as other:
        other.build(Build(CONFIG))
        run = next(iter(other.probe(Probe("well", ("plain",)))))
    environment = json.loads(run.variant)["environment"]
    assert environment["OF_THE_USER"] == "kept"
    assert environment["TORCHDYNAMO_DISABLE"] == "1"
    assert environment.get("HF_HUB_OFFLINE") == ("1" if offline else None)
