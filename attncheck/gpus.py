"""The GPUs that CUDA would show to a process here: through NVML, or nvidia-smi where nvidia-ml-py is missing."""

from __future__ import annotations

import csv
import ctypes
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: What pynvml loads on Linux, by this name.
_NVML_LIBRARY = "libnvidia-ml.so.1"
_NVIDIA_PCI_VENDOR = "0x10de"
_PCI_DISPLAY_CLASS = "0x03"


_SMI_FIELDS = ("index", "name", "compute_cap", "memory.total", "driver_version", "uuid")
_SMI_LIMIT = 20.0
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Gpu:
    """One visible GPU. capability is (major, minor); memory in bytes."""

    index: int
    name: str
    capability: tuple[int, int]
    memory: int
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Cards:
    """All GPUs that the driver lists. driver: "580.65.06 (CUDA 13.0)". note: why there is none, "" otherwise."""

    gpus: tuple[Gpu, ...] = ()
    uuids: tuple[str, ...] = ()
    driver: str = ""
    note: str = ""


def read_gpus(variables: Mapping[str, str]) -> tuple[tuple[Gpu, ...], str, str, str]:
    """(GPUs a process here would see, driver, note, where that was read). Needs no torch and makes no CUDA context."""
    source = "NVML (nvidia-ml-py)"
    if _without_nvml():
        cards = _no_driver("NVML Shared Library Not Found")
    else:
        try:
            import pynvml
        except ImportError:
            cards, source = _from_nvidia_smi(), "nvidia-smi (nvidia-ml-py is not installed)"
        else:
            cards = _from_nvml(pynvml)
    visible, note = visible_gpus(cards.gpus, cards.uuids, variables)
    return visible, cards.driver, note or cards.note, source


def _without_nvml() -> bool:
    """True where pynvml would find no library to load: importing it takes a hundred times as long as looking."""
    if sys.platform != "linux" or "pynvml" in sys.modules or importlib.util.find_spec("pynvml") is None:
        return False
    try:
        ctypes.CDLL(_NVML_LIBRARY)
    except OSError:
        return True
    return False


def _from_nvml(nvml: Any) -> Cards:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return _no_driver(str(error))
    try:
        version = _text(nvml.nvmlSystemGetDriverVersion())
        cuda = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(int(nvml.nvmlDeviceGetCount()))]
        return Cards(
            tuple(_read_gpu(nvml, i, handle, version) for i, handle in enumerate(handles)),
            tuple(_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles),
            f"{version} (CUDA {cuda // 1000}.{cuda % 1000 // 10})",
            "" if handles else "the NVIDIA driver answers but lists no GPU",
        )
    except nvml.NVMLError as error:
        return Cards(note=f"NVML failed while reading the GPUs: {error}")
    finally:
        nvml.nvmlShutdown()


def _from_nvidia_smi() -> Cards:
    """The same from the driver's own program; its header gives the CUDA version that no query offers."""
    try:
        table = _ask_smi(f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader,nounits")
        header = _ask_smi()
    except (OSError, subprocess.SubprocessError) as error:
        return _no_driver(f"nvidia-smi: {error}")
    gpus, uuids, driver = [], [], ""
    for row in csv.reader(table.splitlines(), skipinitialspace=True):
        if len(row) != len(_SMI_FIELDS) or not re.fullmatch(r"\d+\.\d+", row[2]):
            return Cards(note=f"nvidia-smi answered what is not understood: {', '.join(row)}")
        index, name, capability, memory, driver, uuid = row
        major, minor = capability.split(".")
        size = int(memory) * _MIB if memory.isdigit() else 0
        gpus.append(Gpu(int(index), name, (int(major), int(minor)), size, driver))
        uuids.append(uuid)
    cuda = re.search(r"CUDA Version:\s*([\d.]+)", header)
    words = f"{driver} (CUDA {cuda.group(1)})" if cuda else driver
    return Cards(tuple(gpus), tuple(uuids), words, "" if gpus else "the NVIDIA driver answers but lists no GPU")


def _ask_smi(*arguments: str) -> str:
    command = ["nvidia-smi", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=_SMI_LIMIT, check=True).stdout


def _no_driver(error: str) -> Cards:
    if cards := _nvidia_cards(Path("/sys/bus/pci/devices")):
        return Cards(note=f"{cards} NVIDIA card(s) on the PCI bus, but the driver does not answer: {error}")
    return Cards(note=f"no NVIDIA driver: {error}")


def visible_gpus(
    gpus: tuple[Gpu, ...], uuids: Iterable[str], variables: Mapping[str, str]
) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order, and a note when it hides or reorders some.

    As CUDA reads it: the list ends at the first entry that names no device; an empty value hides all.
    """
    wanted = variables.get("CUDA_VISIBLE_DEVICES")
    if wanted is None or not gpus:
        return gpus, ""
    if "MIG-" in wanted:
        return gpus, "CUDA_VISIBLE_DEVICES names MIG slices; whole GPUs are listed"
    if (
        len({gpu.name for gpu in gpus}) > 1
        and variables.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"
        and "GPU-" not in wanted
    ):
        return gpus, "CUDA_VISIBLE_DEVICES counts GPUs by speed while the list below counts by PCI bus; all are listed"
    by_uuid = dict(zip(uuids, gpus))
    chosen: list[Gpu] = []
    for entry in (part.strip() for part in wanted.split(",")):
        if entry.isdigit() and int(entry) < len(gpus):
            chosen.append(gpus[int(entry)])
            continue
        matches = [gpu for uuid, gpu in by_uuid.items() if entry.startswith("GPU-") and uuid.startswith(entry)]
        if len(matches) != 1:
            break
        chosen.append(matches[0])
    if tuple(chosen) == gpus:
        return gpus, ""
    return tuple(chosen), f"CUDA_VISIBLE_DEVICES={wanted!r} leaves {len(chosen)} of {len(gpus)} GPU(s)"


def _read_gpu(nvml: Any, index: int, handle: Any, driver: str) -> Gpu:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    return Gpu(index, _text(nvml.nvmlDeviceGetName(handle)), (int(major), int(minor)), memory, driver)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _nvidia_cards(devices: Path) -> int:
    """NVIDIA display controllers that the kernel lists on the PCI bus (Linux); 0 where that cannot be read."""
    count = 0
    try:
        for device in devices.iterdir():
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
            count += vendor == _NVIDIA_PCI_VENDOR and kind.startswith(_PCI_DISPLAY_CLASS)
    except OSError:
        return count
    return count
