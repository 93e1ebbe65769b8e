"""Broken installations made of small fakes, named by `attncheck doctor` itself: real processes, real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fake_installs import distribution, extension

SYMBOL = "_ZN3c105ErrorC1ENS_14SourceLocationESs"
PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
#: A torch that costs nothing to import, so that these tests take seconds.
TORCH = {"torch/__init__.py": "__version__ = '2.13.0+cu130'\n", "torch/version.py": "cuda = '13.0'\nhip = None\n"}
WARNING = "xFormers can't load C++/CUDA extensions. xFormers was built for:\n    PyTorch 2.10.0+cu128 with CUDA 1208"
XFORMERS = {
    "xformers/__init__.py": f"import sys\nprint({WARNING!r}, file=sys.stderr)\n",
    "xformers/cpp_lib.json": '{"version": {"cuda": 1208, "torch": "2.10.0+cu128", "python": "3.10.19"}}',
}


def doctor(folder: Path, *arguments: str) -> dict[str, Any]:
    """The report of `attncheck doctor --format json` where `folder` comes first on the path."""
    command = [sys.executable, "-m", "attncheck", "doctor", "--format", "json", *arguments]
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def messages(report: dict[str, Any], slug: str) -> dict[str, dict[str, Any]]:
    """First word of the message, the distribution's name -> finding."""
    return {entry["message"].split()[0]: entry for entry in report["findings"] if entry["slug"] == slug}


def commands(finding: dict[str, Any]) -> list[str]:
    """What a finding says to paste into a shell."""
    return [line for entry in finding["recommendations"] for line in entry["paste"].get("pip", [])]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One environment in which everything is broken in its own way, examined once."""
    folder = tmp_path_factory.mktemp("site")
    distribution(folder, "torch", "2.13.0+cu130", TORCH)
    symbol = extension(folder, "flash_attn_2_cuda", calls=SYMBOL)
    library = extension(folder, "triton_native", calls="helper", library="attncheck_absent")
    body = {"flash_attn/__init__.py": "import flash_attn_2_cuda\n"}
    version = "2.8.3+cu12torch2.5cxx11abifalse"
    distribution(folder, "flash-attn", version, body, tag=f"{PYTHON}-{PYTHON}-linux_x86_64", recorded=(symbol,))
    distribution(folder, "triton", "3.6.0", {"triton/__init__.py": "import triton_native\n"}, recorded=(library,))
    distribution(folder, "xformers", "0.0.35", XFORMERS)
    distribution(folder, "kernels", "0.18.3", {"kernels/__init__.py": "import ctypes\nctypes.string_at(0)\n"})
    distribution(folder, "bitsandbytes", "0.48", {"bitsandbytes/__init__.py": "import os\nos.abort()\n"})
    distribution(folder, "flashinfer-python", "0.7", {"flashinfer/__init__.py": "import time\ntime.sleep(600)\n"})
    distribution(folder, "nvidia-cudnn-frontend", "1.32", {"cudnn/__init__.py": "import math\nmath.absent_name\n"})
    distribution(
        folder, "transformer-engine", "2.20", {"transformer_engine/__init__.py": "import transformer_engine_torch\n"}
    )
    return doctor(folder, "--timeout", "4")


@pytest.mark.parametrize(
    ("name", "words", "mended_by"),
    [
        ("flash-attn", "undefined symbol: c10::Error::Error", "--no-build-isolation flash-attn==2.8.3"),
        ("flash-attn", "built for torch 2.5, here runs torch 2.13.0+cu130", "flash-attn==2.8.3"),
        ("triton", "the shared object libattncheck_absent.so, which triton_native", "triton==3.6.0"),
        ("kernels", "the import died of SIGSEGV in kernels/__init__.py:2", "kernels==0.18.3"),
        ("bitsandbytes", "the import died of SIGABRT in bitsandbytes/__init__.py:2", "bitsandbytes==0.48"),
        (
            "flashinfer-python",
            "did not finish importing within 4 s (it was in flashinfer/__init__.py:2)",
            "flashinfer-python==0.7",
        ),
        ("nvidia-cudnn-frontend", "AttributeError: module 'math' has no attribute 'absent_name'", "frontend==1.32"),
        ("transformer-engine", "No module named 'transformer_engine_torch'", '"transformer-engine-torch"'),
    ],
)
def test_broken_imports_are_named(broken: dict[str, Any], name: str, words: str, mended_by: str) -> None:
    finding = messages(broken, "install-broken")[name]
    slow = "did not finish" in words
    assert (finding["severity"], finding["basis"]) == ("warning" if slow else "error", "measured")
    assert words in finding["message"]
    pasted = commands(finding)
    assert any(line.startswith("pip install") and mended_by in line for line in pasted), pasted


def test_operators_that_are_missing_are_named(broken: dict[str, Any]) -> None:
    finding = messages(broken, "operators-missing")["xformers"]
    assert "xformers 0.0.35 is installed but without operators" in finding["message"]
    assert "built for torch 2.10.0+cu128, here runs torch 2.13.0+cu130" in finding["message"]
    assert commands(finding)[0].endswith("/whl/cu130")


def test_a_second_torch_on_the_path_is_named(broken: dict[str, Any]) -> None:
    finding = messages(broken, "several-copies").get("torch")
    assert finding is not None
    assert "2.13.0+cu130 in" in finding["message"]


def test_every_failure_stands_beside_checks_that_ran(broken: dict[str, Any]) -> None:
    status = {entry["code"]: entry["status"] for entry in broken["checks"]}
    assert status["ATC801"] == "finding"
    assert status["ATC803"] == "ok"
    assert broken["summary"]["exit_code"] == 1


def test_flash_attn_over_flash_attn_4(tmp_path: Path) -> None:
    distribution(tmp_path, "torch", "2.13.0+cu130", TORCH)
    new = {"flash_attn/cute/__init__.py": "from .core import ThrMma\n", "flash_attn/cute/core.py": "ThrMma = 1\n"}
    distribution(tmp_path, "flash-attn-4", "4.0.0b36", new)
    old = {"flash_attn/__init__.py": "", "flash_attn/cute/__init__.py": "import math\nmath.ThrMma\n"}
    distribution(tmp_path, "flash-attn", "2.8.3", {**old, "flash_attn/cute/core.py": "OldMma = 1\n"})
    report = doctor(tmp_path, "--check", "files-clobbered", "--check", "install-broken")
    clobbered = messages(report, "files-clobbered")["flash-attn"]
    mend = "pip install --force-reinstall --no-deps flash-attn-4==4.0.0b36"
    assert clobbered["severity"] == "error"
    assert "2 file(s)" in clobbered["message"]
    assert commands(clobbered) == [mend]
    broken = messages(report, "install-broken")
    assert set(broken) & {"flash-attn", "flash-attn-4"} == {"flash-attn-4"}
    assert "its files were overwritten by flash-attn 2.8.3" in broken["flash-attn-4"]["message"]
    assert commands(broken["flash-attn-4"]) == [mend]
    distribution(tmp_path, "flash-attn-4", "4.0.0b36", new)  # the order that works
    report = doctor(tmp_path, "--check", "files-clobbered", "--check", "install-broken")
    assert messages(report, "files-clobbered")["flash-attn"]["severity"] == "note"
    assert not set(messages(report, "install-broken")) & {"flash-attn", "flash-attn-4"}


def test_static_reads_files_only(tmp_path: Path) -> None:
    distribution(tmp_path, "flash-attn", "2.8.3+cu12torch2.5", {"flash_attn/__init__.py": "import os; os.abort()\n"})
    distribution(tmp_path, "fake-flash-attention", "0.1", {"flash_attn_interface.py": ""})
    distribution(tmp_path, "xformers", "0.0.35", XFORMERS)
    distribution(tmp_path, "xformers", "0.0.30")
    report = doctor(tmp_path, "--static")
    slugs = {finding["slug"] for finding in report["findings"]}
    assert {"built-for-another-torch", "several-copies", "foreign-module"} <= slugs
    assert "install-broken" not in slugs
    assert {entry["code"]: entry["status"] for entry in report["checks"]}["ATC801"] == "not_run"
