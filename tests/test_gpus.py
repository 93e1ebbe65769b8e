"""GPUs as NVML or nvidia-smi list them, and what CUDA_VISIBLE_DEVICES leaves of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from attncheck import gpus
from attncheck.gpus import Gpu, read_gpus, visible_gpus

H100 = Gpu(0, "H100", (9, 0), 80 << 30)
PAIR = (H100, Gpu(1, "H100", (9, 0), 80 << 30))
MIXED = (H100, Gpu(1, "T4", (7, 5), 16 << 30))
UUIDS = ("GPU-aaa1", "GPU-bbb2")


class NVMLError(Exception):
    pass


def fake_nvml(gpus: tuple[Gpu, ...], broken: str = "") -> ModuleType:
    """NVML as nvidia-ml-py offers it; `broken` names the call that fails."""
    module: Any = ModuleType("pynvml")
    module.NVMLError = NVMLError
    calls = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: b"580.65.06",
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 13000,
        "nvmlDeviceGetCount": lambda: len(gpus),
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetCudaComputeCapability": lambda handle: gpus[handle].capability,
        "nvmlDeviceGetMemoryInfo": lambda handle: type("Memory", (), {"total": gpus[handle].memory}),
        "nvmlDeviceGetName": lambda handle: gpus[handle].name,
        "nvmlDeviceGetUUID": lambda handle: UUIDS[handle],
    }
    for name, call in calls.items():
        setattr(module, name, call)
    if broken:

        def fail(*_: object) -> None:
            raise NVMLError("out of order")

        setattr(module, broken, fail)
    return module  # type: ignore[no-any-return]


def test_gpus_come_from_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(PAIR))
    found, driver, note, source = read_gpus({})
    assert source.startswith("NVML")
    assert [(gpu.name, gpu.capability, gpu.memory) for gpu in found] == [("H100", (9, 0), 80 << 30)] * 2
    assert driver == "580.65.06 (CUDA 13.0)"
    assert note == ""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pynvml looks for its library in several places")
def test_without_the_library_pynvml_is_not_imported_to_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_NVML_LIBRARY", "libattncheck-absent.so.1")
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    quick = read_gpus({})
    assert "pynvml" not in sys.modules
    assert quick == ((), "", quick[2], "NVML (nvidia-ml-py)")
    monkeypatch.setitem(sys.modules, "pynvml", absent_nvml())
    assert read_gpus({}) == quick  # what pynvml itself says where there is no library


def absent_nvml() -> ModuleType:
    """The real pynvml, made to look for a library that does not exist."""
    import pynvml

    def load(_: str) -> None:
        raise OSError("cannot open shared object file")

    module: Any = ModuleType("pynvml")
    source = Path(pynvml.__file__).read_text()
    exec(compile(source, pynvml.__file__, "exec"), module.__dict__)
    module.CDLL = load
    return module  # type: ignore[no-any-return]


def test_with_the_library_pynvml_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(gpus.ctypes, "CDLL", lambda name: object())
    assert not gpus._without_nvml()


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetName"])
def test_a_driver_that_fails_is_a_note(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(PAIR, broken))
    found, _, note, _ = read_gpus({})
    assert found == ()
    assert "out of order" in note


def test_a_card_without_a_driver_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (vendor, kind) in enumerate([("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000")]):
        device = tmp_path / str(number)
        device.mkdir()
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text(kind + "\n")
    assert gpus._nvidia_cards(tmp_path) == 1
    assert gpus._nvidia_cards(tmp_path / "absent") == 0
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(PAIR, "nvmlInit"))
    monkeypatch.setattr(gpus, "_nvidia_cards", lambda _: 1)
    assert "on the PCI bus, but the driver does not answer" in read_gpus({})[2]


SMI = """\
#!/bin/sh
if [ $# -eq 0 ]; then echo "| NVIDIA-SMI 580.65.06   Driver Version: 580.65.06   CUDA Version: 13.0 |"; exit; fi
echo "0, H100, 9.0, 81559, 580.65.06, GPU-aaa1"
echo "1, H100, 9.0, [N/A], 580.65.06, GPU-bbb2"
"""


def nvidia_smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a program of that name first on the path and hides nvidia-ml-py."""
    program = folder / "nvidia-smi"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, "pynvml", None)


def test_without_nvidia_ml_py_nvidia_smi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, SMI, monkeypatch)
    found, driver, note, source = read_gpus({"CUDA_VISIBLE_DEVICES": "GPU-bbb2"})
    assert [(gpu.index, gpu.capability, gpu.memory) for gpu in found] == [(1, (9, 0), 0)]
    assert driver == "580.65.06 (CUDA 13.0)"
    assert "leaves 1 of 2" in note
    assert source.startswith("nvidia-smi")
    assert read_gpus({})[0][0].memory == 81559 << 20


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/sh\nexit 9\n", "exit status 9"),
        ("#!/bin/sh\necho 'No devices were found'\n", "not understood: No devices were found"),
        ("#!/bin/sh\n", "lists no GPU"),
    ],
)
def test_an_nvidia_smi_that_fails_is_a_note(
    script: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(tmp_path, script, monkeypatch)
    found, _, note, _ = read_gpus({})
    assert found == ()
    assert words in note


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (None, [0, 1]),
        ("0,1", [0, 1]),
        ("1", [1]),
        ("1,0", [1, 0]),
        ("", []),
        ("-1", []),
        ("0,-1,1", [0]),
        ("0,7,1", [0]),
        ("GPU-bbb2", [1]),
        ("GPU-b", [1]),
        ("GPU-", []),
    ],
)
def test_cuda_visible_devices_as_cuda_reads_it(wanted: str | None, left: list[int]) -> None:
    found, note = visible_gpus(PAIR, UUIDS, {} if wanted is None else {"CUDA_VISIBLE_DEVICES": wanted})
    assert [gpu.index for gpu in found] == left
    assert bool(note) == (left != [0, 1])


def test_what_cannot_be_mapped_is_listed_whole_with_a_note() -> None:
    for variables in ({"CUDA_VISIBLE_DEVICES": "MIG-1"}, {"CUDA_VISIBLE_DEVICES": "1"}):
        found, note = visible_gpus(MIXED, UUIDS, variables)
        assert found == MIXED
        assert note
    by_bus = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert [gpu.name for gpu in visible_gpus(MIXED, UUIDS, by_bus)[0]] == ["T4"]
