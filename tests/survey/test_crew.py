"""One type that kills its process, hangs or eats memory costs that type alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attncheck.environment import read_environment
from attncheck.survey import options
from attncheck.survey.crew import Crew
from attncheck.survey.store import load
from attncheck.surveyed import Plan, Row, State, Status

#: Patches the worker as it starts: building `opt` is a segmentation fault, `gpt2` hangs in a scenario, `gpt_neo` fills
#: the memory, and `bart` raises something that nobody expects inside attncheck's own code.
SABOTAGE = """
import importlib.abc, importlib.machinery, os, signal, sys, time


def sabotage_build(module):
    original = module.build

    def build(config, **kwargs):
        if config["model_type"] == "opt":
            os.kill(os.getpid(), signal.SIGSEGV)
        if config["model_type"] == "bart":
            raise RuntimeError("nobody expected this")
        return original(config, **kwargs)

    module.build = build


def sabotage_run(module):
    original = module.run

    def run(tiny, request):
        for answer in original(tiny, request):
            yield answer
            if type(answer).__name__ == "Started" and tiny.info.config["model_type"] == "gpt2":
                time.sleep(600)
            if type(answer).__name__ == "Started" and tiny.info.config["model_type"] == "gpt_neo":
                kept = [bytearray(os.urandom(1)) * (1 << 28) for _ in range(12)]
                time.sleep(600)

    module.run = run


PATCHES = {"attncheck.probe.tiny.build": sabotage_build, "attncheck.probe.runner": sabotage_run}


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load, patch = spec.loader.exec_module, PATCHES[name]

        def exec_module(module):
            load(module)
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
"""


def surveyed(tmp_path: Path, *types: str) -> dict[str, Row]:
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    words = ["--types", ",".join(types), "--impl", "eager", "--scenario", "plain,left-pad", "--defaults-only"]
    words += ["-o", str(tmp_path / "out"), "--timeout", "8", "--jobs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "attncheck", "survey", *words],
        capture_output=True, text=True, check=False, timeout=500, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    _, rows = load(str(tmp_path / "out" / "results.jsonl"))
    return {row.model_type: row for row in rows}


def test_a_type_that_kills_its_process_costs_itself_alone(tmp_path: Path) -> None:
    rows = surveyed(tmp_path, "llama", "opt")
    assert rows["opt"].status is Status.LOST
    assert "SIGSEGV" in rows["opt"].reason
    assert [cell.state for cell in rows["llama"].cells] == [State.MEASURED, State.MEASURED]


@pytest.mark.slow
def test_types_that_crash_hang_or_eat_memory_are_results_and_the_others_are_surveyed(tmp_path: Path) -> None:
    rows = surveyed(tmp_path, "bart", "gpt2", "gpt_neo", "llama", "opt")
    assert rows["opt"].status is Status.LOST
    assert "SIGSEGV" in rows["opt"].reason
    assert rows["bart"].status is Status.LOST
    assert "nobody expected this" in rows["bart"].reason
    assert [cell.state for cell in rows["gpt2"].cells] == [State.BREAKS, State.BREAKS]
    assert "no answer within 8 s" in rows["gpt2"].cells[0].reason
    assert [cell.state for cell in rows["gpt_neo"].cells] == [State.BREAKS, State.BREAKS]
    assert "SIGKILL" in rows["gpt_neo"].cells[0].reason
    assert [cell.state for cell in rows["llama"].cells] == [State.MEASURED, State.MEASURED]


class Heavy:
    """A prober whose worker holds 2 GB: too much on a CPU, and what CUDA's libraries take anyway."""

    def __init__(self) -> None:
        self.worker = self
        self.memory = 2_000_000_000
        self.killed = False

    def kill(self) -> None:
        self.killed = True


@pytest.mark.parametrize(("device", "killed"), [("cpu", True), ("cuda", False)])
def test_the_guard_knows_what_a_worker_on_a_gpu_takes(device: str, killed: bool) -> None:
    plan = Plan(("eager",), ("plain",), ("plain",), "float32", device, 0, {}, True, ())
    crew, heavy = Crew(options.SurveyOptions(), plan, read_environment(), set(), lambda _: None), Heavy()
    crew._probers.append(heavy)  # type: ignore[arg-type]
    crew._guard_memory()
    assert heavy.killed is killed


def test_workers_are_counted_by_the_memory_of_their_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_free_bytes", lambda: 20e9)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert options.jobs_of(0, "cpu") == 14
    assert options.jobs_of(0, "cuda") == 3
    assert options.jobs_of(7, "cuda") == 7
