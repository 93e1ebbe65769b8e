"""What torch says of itself, from throw-away processes that may crash: scripted torch packages, and the real one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from attncheck import doctor
from attncheck.environment import Library
from attncheck.installed.state import TorchState
from attncheck.probe import machine, torch_state, torch_trial
from attncheck.semantics.observation import Crashed
from tests.backends.environments import CPU_ONLY

#: A torch of which attncheck finds a few parts only, as in an older or damaged installation.
SCRIPTED = """
import types
__version__ = "2.9.0"
version = types.SimpleNamespace(cuda="12.8", hip=None)
on = dict(flash=True, math=True)
class cuda:
    is_available = staticmethod(lambda: False)
    get_arch_list = staticmethod(lambda: [])
    @staticmethod
    def init(): raise RuntimeError("Found no NVIDIA driver on your system.\\nPlease check that you have a GPU.")
_C = types.SimpleNamespace(_GLIBCXX_USE_CXX11_ABI=True, _cuda_getArchFlags=lambda: "sm_80 sm_90 compute_90")
def broken(): raise RuntimeError("cuDNN version incompatibility: compiled against (9, 10, 2) but found (9, 1, 0)")
backends = types.SimpleNamespace(
    cuda=types.SimpleNamespace(flash_sdp_enabled=lambda: on["flash"], math_sdp_enabled=lambda: on["math"]),
    cudnn=types.SimpleNamespace(version=broken, enabled=True),
)
"""


def package(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first on the path of this process and of those it starts."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_installed_torch_describes_itself() -> None:
    import torch

    state = torch_state.read()
    assert isinstance(state, TorchState)
    assert state.version == torch.__version__
    assert state.cuda == (torch.version.cuda or "")
    assert state.cuda_available == torch.cuda.is_available()
    assert bool(state.cuda_error) != state.cuda_available
    assert state.problems == ()
    assert state.flags["torch.backends.cuda.flash_sdp_enabled()"] == "True"
    assert state.flags["torch.get_default_dtype()"] == "torch.float32"
    assert set(state.flags) <= set(torch_trial.FLAGS)
    assert len(state.devices) == torch.cuda.device_count()


def test_what_torch_cannot_tell_is_a_problem_and_the_rest_stands(place: Path) -> None:
    package(place, "torch", SCRIPTED)
    state = torch_state.read()
    assert isinstance(state, TorchState)
    assert (state.version, state.cuda, state.cudnn) == ("2.9.0", "12.8", "")
    assert state.architectures == ("sm_80", "sm_90", "compute_90")
    assert state.cuda_error == "Found no NVIDIA driver on your system."
    assert state.flags == {
        "torch.backends.cuda.flash_sdp_enabled()": "True",
        "torch.backends.cuda.math_sdp_enabled()": "True",
        "torch.backends.cudnn.enabled": "True",
    }
    (problem,) = state.problems
    assert problem.startswith("cuDNN: RuntimeError: cuDNN version incompatibility")


SEGFAULT = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (SEGFAULT, "signal", "SIGSEGV"),
        ("raise ImportError('libcudart.so.12: cannot open shared object file')", "exception", "libcudart.so.12"),
        ("import sys; sys.exit(3)", "exit", "3"),
        ("import time; time.sleep(1000)", "timeout", "did not finish importing within 2 s"),
        ("print('x' * 100_000); import sys; sys.stdout.flush(); " + SEGFAULT, "signal", "SIGSEGV"),
        (
            f"{SCRIPTED}\ndef init(): {SEGFAULT}\ncuda.init = init",
            "signal",
            "torch was imported, but asking for its state",
        ),
        (f"{SCRIPTED}\ndel version", "exception", "torch was imported, but asking for its state"),
        ("", "exception", "torch was imported, but asking for its state"),
    ],
)
def test_a_torch_that_breaks_is_a_result(text: str, kind: str, words: str, place: Path) -> None:
    package(place, "torch", text)
    state = torch_state.read(2.0 if kind == "timeout" else 60.0)
    assert isinstance(state, Crashed)
    assert state.kind == kind
    assert words in state.reason
    assert str(place) not in state.reason


def test_chatter_does_not_mix_with_the_answer(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    package(place, "torch", f"import os; print('hello'); os.write(1, b'native')\n{SCRIPTED}")
    assert isinstance(torch_state.read(), TorchState)
    assert capfd.readouterr() == ("", "")


PATCHED = replace(
    CPU_ONLY, libraries=(*CPU_ONLY.libraries, Library("deepspeed", "0.18"), Library("unsloth", "2026.10.9"))
)


def test_flags_that_an_import_changes_are_found(place: Path) -> None:
    package(place, "torch", SCRIPTED)
    package(place, "deepspeed", "import torch; torch.on['flash'] = False")
    package(place, "unsloth", "raise NotImplementedError('Unsloth cannot find any torch accelerator? You need a GPU.')")
    state = torch_state.read()
    assert isinstance(state, TorchState)
    flag = "torch.backends.cuda.flash_sdp_enabled()"
    assert torch_state.with_changes(state, PATCHED).changed_by_import == (("deepspeed", flag, "True", "False"),)
    assert torch_state.with_changes(state, CPU_ONLY).changed_by_import == ()


@pytest.mark.parametrize("text", ["pass", SEGFAULT, "import torch", "import torch; del torch.backends"])
def test_an_import_that_changes_nothing_or_dies_is_no_change(text: str, place: Path) -> None:
    package(place, "torch", SCRIPTED)
    package(place, "deepspeed", text)
    package(place, "unsloth", "")
    state = torch_state.read()
    assert isinstance(state, TorchState)
    assert torch_state.with_changes(state, PATCHED) == state


@pytest.mark.parametrize(
    ("number", "text"), [(91900, "9.19.0"), (90100, "9.1.0"), (8902, "8.9.2"), (8907, "8.9.7"), (None, "")]
)
def test_cudnn_numbers_are_versions(number: int | None, text: str) -> None:
    assert torch_trial.cudnn_version(number) == text


def test_the_reason_why_cuda_does_not_start_is_the_first_thing_torch_says() -> None:
    import warnings

    def unavailable() -> bool:
        warnings.warn(
            "CUDA initialization: The NVIDIA driver on your system is too old (found version 12020). "
            "(Triggered internally at CUDAFunctions.cpp:119.)",
            stacklevel=1,
        )
        return False

    def refuse() -> None:
        raise RuntimeError("No CUDA GPUs are available")

    fake = SimpleNamespace(
        version=SimpleNamespace(cuda="13.0", hip=None), cuda=SimpleNamespace(is_available=unavailable, init=refuse)
    )
    available, reason = torch_trial._cuda(fake)
    assert not available
    assert reason == "CUDA initialization: The NVIDIA driver on your system is too old (found version 12020)."


def crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> doctor.Report:
    info = tmp_path / "torch-2.9.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.9.0\n")
    monkeypatch.setattr(machine, "IMPORTED", ("torch",))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    only = ("install-broken", "setting-disables-kernels")
    return doctor.examine(doctor.DoctorOptions(only=only))


def test_doctor_survives_a_torch_that_dies_and_says_what_was_not_run(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(place, "torch", SEGFAULT)
    report = crash(place, monkeypatch)
    checks = {check.code: (check.status, check.reason) for check in report.checks}
    assert checks["ATC801"][0] == "finding"
    assert checks["ATC831"][0] == "not_run"
    assert "SIGSEGV" in checks["ATC831"][1]
    assert report.torch is None


def test_doctor_imports_torch_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = place / "imports.log"
    package(place, "torch", f"open({str(log)!r}, 'a').write('torch\\n')\n{SCRIPTED}")
    report = crash(place, monkeypatch)
    assert report.torch is not None
    assert report.torch.version == "2.9.0"
    assert log.read_text() == "torch\n"
