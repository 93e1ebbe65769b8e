"""The facts that processes tell: on a machine without a GPU one process imports torch; one that breaks is replaced."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attncheck.environment import Library
from attncheck.installed.trial import Cause
from attncheck.probe import machine
from attncheck.probe.machine import Facts, Wanted, gather
from tests.backends.environments import CPU_ONLY, H100
from tests.probe.test_torch_state import SCRIPTED, SEGFAULT, package

TORCH = f"{SCRIPTED}\ndef set_num_threads(number): pass\n"
#: What is true in the worker that runs kernels, and in no trial.
IN_WORKER = "__import__('os').environ.get('ATTNCHECK_WORKER')"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first on the path, for a torch of the test's own."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    return tmp_path


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that the convention table was read on; the reading itself is replaced."""
    read: list[str] = []

    def table(_: Any, __: Any, device: str, ___: Any, **____: Any) -> Any:
        read.append(device)
        return (), ()

    monkeypatch.setattr(machine.convention_table, "read", table)
    return read


def facts(place: Path, torch: str, limit: float = 60.0, environment: Any = CPU_ONLY) -> tuple[Facts, list[str]]:
    """What is gathered with that torch, and the roles of the processes that imported it: "kernels", "" of a trial."""
    log = place / "imports.log"
    log.write_text("")
    package(place, "torch", f"open({str(log)!r}, 'a').write(str({IN_WORKER} or 'trial') + '\\n')\n{torch}")
    libraries = (Library("torch", "2.9.0"),)
    found = gather(replace(environment, libraries=libraries), Wanted(limit=limit), lambda _: None)
    return found, log.read_text().split()


def test_the_worker_is_the_only_process_that_imports_a_sound_torch(place: Path, tables: list[str]) -> None:
    found, importers = facts(place, TORCH)
    assert importers == ["kernels"]
    assert found.torch is not None
    assert found.torch.version == "2.9.0"
    assert found.imports is not None
    assert found.imports["torch"].failure is None
    assert tables == ["cpu"]
    assert found.missing == {}


def test_beside_a_gpu_torch_has_a_trial_of_its_own(place: Path, tables: list[str]) -> None:
    found, importers = facts(place, TORCH, environment=H100)
    assert importers == ["trial"]
    assert found.torch is not None
    assert tables == ["cpu"]  # this torch cannot start CUDA


@pytest.mark.parametrize(
    ("torch", "cause", "words"),
    [
        (SEGFAULT, Cause.SIGNAL, "SIGSEGV"),
        ("import math\nmath.absent_name", Cause.MISSING_NAME, "absent_name"),
        ("import time; time.sleep(1000)", Cause.SLOW, "did not finish importing within 2 s"),
    ],
)
def test_a_torch_that_breaks_is_named_by_a_trial(
    torch: str, cause: Cause, words: str, place: Path, tables: list[str]
) -> None:
    found, importers = facts(place, torch, limit=2.0 if cause is Cause.SLOW else 60.0)
    assert importers == ["kernels", "trial"]
    assert found.imports is not None
    trial = found.imports["torch"]
    assert trial.cause is cause
    assert trial.failure is not None
    assert words in trial.failure.reason
    assert found.torch is None
    assert tables == []
    assert words in found.missing["torch"]
    assert words in found.missing["conventions"]


def test_a_torch_that_dies_when_asked_for_its_state(place: Path, tables: list[str]) -> None:
    found, importers = facts(place, f"{TORCH}\ndef init(): {SEGFAULT}\ncuda.init = init")
    assert importers == ["kernels", "trial"]
    assert found.imports is not None
    assert found.imports["torch"].failure is None
    assert "torch was imported, but asking for its state" in found.missing["torch"]
    assert tables == []


@pytest.mark.parametrize("accident", [SEGFAULT, "raise RuntimeError('not here')", "import time; time.sleep(1000)"])
def test_bad_news_of_the_worker_alone_are_not_believed(
    accident: str, place: Path, tables: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "PATIENCE", 2.0 if "sleep" in accident else 60.0)
    found, importers = facts(place, f"if {IN_WORKER}:\n    {accident}\n{TORCH}")
    assert importers == ["kernels", "trial"]
    assert found.imports is not None
    assert found.imports["torch"].failure is None
    assert found.torch is not None
    assert tables == ["cpu"]


def test_what_nobody_needs_is_not_started(place: Path, tables: list[str]) -> None:
    package(place, "torch", "raise RuntimeError")
    environment = replace(CPU_ONLY, libraries=(Library("torch", "2.9.0"),))
    found = gather(environment, Wanted(False, False, False, False), lambda _: None)
    assert found == Facts(missing=dict.fromkeys(("imports", "torch", "conventions", "abilities"), machine.NOT_NEEDED))
    assert tables == []


def test_without_torch_nothing_is_asked_of_it(tables: list[str]) -> None:
    found = gather(replace(CPU_ONLY, libraries=()), Wanted(), lambda _: None)
    assert found.imports == {}
    assert found.missing == dict.fromkeys(("torch", "conventions", "abilities"), "torch is not installed")
    assert tables == []
