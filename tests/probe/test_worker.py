"""The child process: it says what it cannot import, mixes nothing into its answers, and never outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attncheck.errors import NoVerdictError
from attncheck.probe import client, process, worker
from attncheck.probe.client import Prober
from attncheck.probe.protocol import Build, Describe, Failed, Job, Probe
from attncheck.semantics.observation import Crashed, Observed
from tests.probe.processes import gone, wait_until_gone

REQUEST = Describe({"model_type": "llama"})
#: A parent that tells the id of its child, gives it work that never ends, and waits.
PARENT = """
import sys
from attncheck.probe import process
process._BOOTSTRAP = process._BOOTSTRAP.replace("attncheck.probe.worker", "tests.probe.scripted_worker")
from attncheck.probe.client import Prober
from attncheck.probe.protocol import Build, Probe
prober = Prober(1000.0)
prober.build(Build({"model_type": "scripted"}))
for run in prober.probe(Probe(sys.argv[1] + "@decode", ("plain", "decode"))):
    print(prober._worker.pid, flush=True)
"""


def library(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "torch",
            "raise ModuleNotFoundError(\"No module named 'torch'\")",
            "torch cannot be used: ModuleNotFoundError: No module named 'torch'",
        ),
        (
            "torch",
            "raise ImportError('libcudart.so.12: cannot open shared object file')",
            "torch cannot be used: ImportError: libcudart.so.12: cannot open shared object file",
        ),
        ("torch", "import sys; sys.exit(3)", "torch cannot be used: SystemExit: 3"),
        ("torch", "def broken(:", "torch cannot be used: SyntaxError"),
        (
            "torch",
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "importing torch and transformers failed: the process died of SIGSEGV",
        ),
        ("torch", "import os; os._exit(5)", "importing torch and transformers failed: the process ended with status 5"),
        (
            "torch",
            "import time; time.sleep(1000)",
            "importing torch and transformers failed: no answer within 1 s",
        ),
        (
            "transformers",
            "raise RuntimeError('operator torchvision::nms does not exist')",
            "transformers cannot be used: RuntimeError: operator torchvision::nms does not exist",
        ),
        ("transformers", "", "transformers cannot be used: AttributeError: module 'transformers' has no attribute"),
        ("torch", "", "torch cannot be used: AttributeError: module 'torch' has no attribute"),
    ],
)
def test_a_library_that_cannot_be_imported_is_named(
    name: str, text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in text:
        monkeypatch.setattr(process, "START_LIMIT", 1.0)
        monkeypatch.setattr(client, "BUILD_LIMIT", 1.0)
    if name != "torch":
        library(tmp_path, "torch", "def set_num_threads(count): pass")
    library(tmp_path, name, text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with Prober(1.0) as prober, pytest.raises(NoVerdictError) as caught:
        prober.describe(REQUEST)
    assert words in caught.value.message
    assert caught.value.exit_code == 3
    if "cannot be used" in words:
        assert f"import {name}" in caught.value.hint


def test_chatter_during_the_imports_is_not_mixed_into_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chatter = "print('python chatter'); sys.stdout.flush(); os.write(1, b'native chatter' * 9000)"
    chatter = f"import os, sys; set_num_threads = print; {chatter}"
    library(tmp_path, "torch", chatter)
    library(tmp_path, "transformers", "raise ImportError('as planned')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Prober(1.0) as prober, pytest.raises(NoVerdictError, match="as planned"):
        prober.describe(REQUEST)


def test_what_python_prints_at_its_start_is_not_mixed_into_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('welcome to this cluster')")
    library(tmp_path, "torch", "raise ImportError('as planned')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Prober(1.0) as prober, pytest.raises(NoVerdictError, match="as planned"):
        prober.describe(REQUEST)


@pytest.mark.parametrize("action", ["hangs", "hangs-in-native-code"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_busy_worker_does_not_outlive_its_parent(action: str, number: signal.Signals) -> None:
    if action == "hangs-in-native-code" and sys.platform != "linux":
        pytest.skip("only Linux ends a process with its parent while it holds the interpreter lock")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, action],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run may ignore it
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.send_signal(number)
        parent.wait()
    assert wait_until_gone(child)


def test_an_interrupt_is_left_to_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    script = process._BOOTSTRAP.replace("attncheck.probe.worker", "tests.probe.scripted_worker")
    monkeypatch.setattr(process, "_BOOTSTRAP", script)
    with Prober(5.0) as prober:
        prober.build(Build({"model_type": "scripted"}))
        os.kill(prober._worker.pid, signal.SIGINT)
        run = next(iter(prober.probe(Probe("well", ("plain",)))))
    assert isinstance(run.outcome, Observed)


@pytest.fixture
def lost_device(monkeypatch: pytest.MonkeyPatch) -> str:
    """What every call on the GPU raises."""
    import torch

    error = "CUDA error: an illegal memory access was encountered\nSearch for it in the documentation"

    def refuse() -> None:
        raise RuntimeError(error)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", refuse)
    return error


def test_a_crash_that_leaves_the_device_well_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    worker.require_device(Crashed("exception", "ValueError: as planned"))


def test_a_crash_that_leaves_the_device_in_error_needs_a_new_process(lost_device: str) -> None:
    crash = Crashed("exception", f"RuntimeError: {lost_device.splitlines()[0]}")
    with pytest.raises(worker.DeviceLost, match="illegal memory access was encountered; the CUDA context is lost"):
        worker.require_device(crash)


@pytest.mark.parametrize("lost", [True, False])
def test_so_does_an_error_outside_of_any_scenario(lost: bool, request: pytest.FixtureRequest) -> None:
    error = request.getfixturevalue("lost_device") if lost else "as planned"

    class Broken(worker.Server):
        def _job(self, request: Job) -> Iterator[Any]:
            raise RuntimeError(error)

    (failed,) = Broken().answer(Job("any", ("step",)))
    assert isinstance(failed, Failed)
    assert failed.spent is lost
    words = f"RuntimeError: {error.splitlines()[0]}"
    assert failed.reason == (f"{words}; the CUDA context is lost (RuntimeError)" if lost else words)
