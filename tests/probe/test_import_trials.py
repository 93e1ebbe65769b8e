"""Imports that break in every way there is, each in its own process, and what is said of each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from attncheck.installed.trial import Cause, ImportTrial
from attncheck.probe import imports
from attncheck.probe.imports import try_import
from tests.fake_installs import extension
from tests.probe.processes import wait_until_gone

SYMBOL = "_ZN3c105ErrorC1ENS_14SourceLocationESs"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the front of the path."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def tried(place: Path, body: str, limit: float = 60.0) -> ImportTrial:
    """The trial of a package `fragile` with this body."""
    (place / "fragile").mkdir(exist_ok=True)
    (place / "fragile" / "__init__.py").write_text(body)
    return try_import("fragile", limit=limit)


def reason(trial: ImportTrial) -> str:
    assert trial.failure is not None
    return trial.failure.reason


def test_an_undefined_symbol_is_named_readably_with_who_needs_it(place: Path) -> None:
    file = extension(place, "native_part", calls=SYMBOL)
    trial = tried(place, "import native_part\n")
    assert (trial.cause, trial.subject, trial.where) == (Cause.UNDEFINED_SYMBOL, SYMBOL, file)
    assert trial.readable.startswith("c10::Error::Error")
    assert f"({SYMBOL}), which {file} needs" in reason(trial)


def test_a_wrapped_undefined_symbol_is_still_found(place: Path) -> None:
    extension(place, "native_part", calls=SYMBOL)
    body = (
        "try:\n    import native_part\nexcept ImportError as error:\n    raise RuntimeError('cannot load') from error\n"
    )
    assert tried(place, body).cause is Cause.UNDEFINED_SYMBOL


def test_a_missing_shared_object(place: Path) -> None:
    file = extension(place, "native_part", calls="helper", library="attncheck_absent")
    trial = tried(place, "import native_part\n")
    assert (trial.cause, trial.subject) == (Cause.MISSING_LIBRARY, "libattncheck_absent.so")
    assert reason(trial) == f"the shared object libattncheck_absent.so, which {file} needs, cannot be found"


def test_a_damaged_shared_object(place: Path) -> None:
    (place / "native_part.so").write_bytes(b"no library")
    trial = tried(place, "import native_part\n")
    assert (trial.cause, trial.subject) == (Cause.DAMAGED_LIBRARY, "native_part.so")


@pytest.mark.parametrize(
    ("body", "cause", "subject", "words"),
    [
        (
            "import math\nmath.ThrMma\n",
            Cause.MISSING_NAME,
            "ThrMma",
            "no attribute 'ThrMma' (in fragile/__init__.py:2)",
        ),
        ("from math import nothing_such\n", Cause.MISSING_NAME, "nothing_such", "cannot import name"),
        ("import absent_part.deep\n", Cause.MISSING_MODULE, "absent_part", "No module named 'absent_part'"),
        ("import fragile.absent\n", Cause.MISSING_MODULE, "fragile.absent", "No module named 'fragile.absent'"),
        ("raise RuntimeError('no\\nGPU')\n", Cause.OTHER, "", "RuntimeError: no GPU (in fragile/__init__.py:1)"),
        ("raise SystemExit(7)\n", Cause.EXIT, "7", "exited with 7"),
        ("import os; os._exit(3)\n", Cause.EXIT, "3", "exited with 3"),
    ],
)
def test_what_python_says(place: Path, body: str, cause: Cause, subject: str, words: str) -> None:
    trial = tried(place, body)
    assert (trial.cause, trial.subject) == (cause, subject)
    assert words in reason(trial)


@pytest.mark.skipif(os.name != "posix", reason="signals are a matter of POSIX systems")
@pytest.mark.parametrize(
    ("body", "name"),
    [("import ctypes\nctypes.string_at(0)\n", "SIGSEGV"), ("import os\nos.abort()\n", "SIGABRT")],
)
def test_a_death_by_signal_says_where(place: Path, body: str, name: str) -> None:
    trial = tried(place, body)
    assert (trial.cause, trial.subject, trial.where) == (Cause.SIGNAL, name, "fragile/__init__.py:2")
    assert trial.failure is not None
    assert trial.failure.kind == "signal"
    assert f"died of {name} in fragile/__init__.py:2" in reason(trial)


def test_an_import_that_had_no_more_time_says_where_it_was(place: Path) -> None:
    trial = tried(place, "import time\ntime.sleep(600)\n", limit=2.0)
    assert trial.failure is not None
    assert (trial.failure.kind, trial.cause) == ("timeout", Cause.SLOW)
    if os.name == "posix":
        assert trial.where == "fragile/__init__.py:2"
        assert reason(trial) == "did not finish importing within 2 s (it was in fragile/__init__.py:2)"


@pytest.mark.skipif(os.name != "posix", reason="what a process was at when it is ended is told on POSIX systems")
@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\ntime.sleep(600)\n", "HANG"),
        ("import time\ntime.sleep(2.5)\ntime.sleep(600)\n", "SLOW"),
    ],
)
def test_only_what_stands_in_one_line_hangs(
    place: Path, body: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "APART", 1.0)
    trial = tried(place, body, limit=4.0)
    assert (trial.cause, trial.where) == (Cause[cause], "fragile/__init__.py:3")
    assert ("after 2 s and after 4 s it was in fragile/__init__.py:3" in reason(trial)) is (cause == "HANG")


def test_a_good_import_that_was_looked_at_on_the_way_is_good(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "APART", 0.1)
    assert tried(place, "import time\ntime.sleep(1.5)\n", limit=2.6) == ImportTrial("fragile")


@pytest.mark.skipif(os.name != "posix", reason="process groups are a matter of POSIX systems")
@pytest.mark.parametrize("last", ["", "raise SystemExit(1)\n", "import time\ntime.sleep(600)\n"])
def test_a_process_left_behind_is_waited_for_by_nobody_and_ended(place: Path, last: str) -> None:
    body = (
        "import pathlib, subprocess, sys\n"
        "left = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(place / 'left')!r}).write_text(str(left.pid))\n"
    )
    tried(place, body + last, limit=3.0 if "sleep" in last else 60.0)
    assert wait_until_gone(int((place / "left").read_text()))


def test_what_ends_the_trials_early_ends_those_under_way_and_those_to_come(place: Path) -> None:
    (place / "endless.py").write_text("import time\ntime.sleep(600)\n")
    found: list[Future[ImportTrial]] = []

    def interrupted() -> None:
        with imports.side_by_side(1) as pool:
            found.extend(pool.submit(try_import, "endless") for _ in range(2))
            while not imports._RUNNING:
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    under_way, to_come = found
    assert under_way.result().failure is not None
    assert to_come.cancelled()
    assert not imports._RUNNING
    assert not imports._POOLS


def test_an_import_that_works_with_a_complaint(place: Path) -> None:
    body = (
        "import sys\n"
        "print('loading', file=sys.stderr)\n"
        "print(\"WARNING: xFormers can't load C++/CUDA extensions. xFormers was built for:\\n"
        '    PyTorch 2.10.0+cu128\\nunrelated", file=sys.stderr)\n'
    )
    trial = tried(place, body)
    assert trial.failure is None
    (complaint,) = trial.complaints
    assert complaint.endswith("was built for: PyTorch 2.10.0+cu128")


def test_an_import_that_is_sound_says_nothing(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trial = tried(place, "print('welcome'); import sys; print('hello', file=sys.stderr)\n")
    assert trial == ImportTrial("fragile")
    assert capfd.readouterr() == ("", "")
    assert "fragile" not in sys.modules
    assert try_import("fragile").failure is None


def test_what_breaks_at_shutdown_is_no_failed_import(place: Path) -> None:
    assert tried(place, "import atexit, os\natexit.register(os.abort)\n").failure is None


def test_two_libraries_in_one_package_are_told_apart(place: Path) -> None:
    tried(place, "")
    (place / "fragile" / "cute.py").write_text("raise AttributeError(\"module 'c' has no attribute 'ThrMma'\")\n")
    assert try_import("fragile").failure is None
    assert try_import("fragile.cute").where == "fragile/cute.py:1"


def test_an_operation_that_fails_after_a_good_import(place: Path) -> None:
    (place / "torch").mkdir()
    (place / "torch" / "__init__.py").write_text(
        "float16 = 'half'\nclass cuda:\n    is_available = staticmethod(lambda: True)\ndef ones(*a, **b): return 1\n"
    )
    (place / "xformers").mkdir()
    (place / "xformers" / "__init__.py").write_text("")
    (place / "xformers" / "ops.py").write_text(
        "def memory_efficient_attention(q, k, v):\n    raise NotImplementedError('No operator found')\n"
    )
    trial = try_import("xformers", operation="xformers")
    assert trial.failure is None
    assert trial.operation_failure is not None
    assert trial.operation_failure.reason == "NotImplementedError: No operator found"
    (place / "xformers" / "ops.py").write_text("import os\ndef memory_efficient_attention(q, k, v): os.abort()\n")
    crashed = try_import("xformers", operation="xformers").operation_failure
    assert crashed is not None
    assert crashed.kind == ("signal" if os.name == "posix" else "exit")
    shutil.rmtree(place / "torch")


def test_no_path_of_this_machine_stands_in_the_place(place: Path) -> None:
    trial = tried(place, "1 / 0\n")
    assert str(place) not in reason(trial)


def test_what_python_prints_at_its_start_is_not_taken_for_an_answer(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "sitecustomize.py").write_text("print('welcome to this cluster')")
    monkeypatch.setenv("PYTHONPATH", str(place))
    assert tried(place, "").failure is None
    assert "as planned" in reason(tried(place, "raise ValueError('as planned')"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_an_import_ends_with_whoever_asked_for_it(place: Path) -> None:
    (place / "endless.py").write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(place / 'pid')!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from attncheck.probe.imports import try_import; try_import('endless')"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as asking:
        while not ((place / "pid").exists() and (place / "pid").read_text()):
            time.sleep(0.01)
        asking.kill()
    assert wait_until_gone(int((place / "pid").read_text()))
