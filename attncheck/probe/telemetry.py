"""Clock, power limit and throttling of the GPU at work, through NVML or nvidia-smi; neither need be there."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Any

#: Reasons to clock down that mean something went against the measurement: bits of
#: `nvmlDeviceGetCurrentClocksEventReasons` (nvml.h). Idle, application clocks and display settings are none.
REASONS = {
    0x0004: "software power cap",
    0x0008: "hardware slowdown",
    0x0010: "sync boost",
    0x0020: "software thermal slowdown",
    0x0040: "hardware thermal slowdown",
    0x0080: "hardware power brake",
}
_SMI_FIELDS = "clocks.sm,power.limit,clocks_throttle_reasons.active"
_SMI_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a GPU. clock: of the SMs in MHz. power_limit: in W. throttled: reasons in words, "" for none."""

    clock: int | None = None
    power_limit: float | None = None
    throttled: str = ""


def sample(uuid: str) -> Sample:
    """The state of the GPU of this UUID ("GPU-..."; "" for the first one) now; empty where nothing can tell."""
    try:
        import pynvml
    except ImportError:
        return _from_smi(uuid)
    return _from_nvml(pynvml, uuid)


def words(reasons: int) -> str:
    """A bit mask of reasons as text."""
    return ", ".join(text for bit, text in REASONS.items() if reasons & bit)


def _from_nvml(nvml: Any, uuid: str) -> Sample:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return _from_smi(uuid)
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid) if uuid else nvml.nvmlDeviceGetHandleByIndex(0)
        # Renamed with driver 535; the old name stays in nvidia-ml-py.
        name = "nvmlDeviceGetCurrentClocksEventReasons"
        reasons = getattr(nvml, name, None) or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        return Sample(
            int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            int(nvml.nvmlDeviceGetEnforcedPowerLimit(handle)) / 1e3,
            words(int(reasons(handle))),
        )
    except nvml.NVMLError:
        return Sample()
    finally:
        nvml.nvmlShutdown()


def _from_smi(uuid: str) -> Sample:
    command = ["nvidia-smi", f"--id={uuid or 0}", f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_LIMIT, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Sample()
    return parsed(text)


def parsed(text: str) -> Sample:
    """The answer of nvidia-smi: one line of comma-separated values; what is not a number is not known."""
    fields = [field.strip() for field in text.strip().partition("\n")[0].split(",")]
    if len(fields) != 3:
        return Sample()
    clock, limit, reasons = fields
    return Sample(
        int(clock) if clock.isdigit() else None,
        float(limit) if limit.replace(".", "", 1).isdigit() else None,
        words(int(reasons, 16)) if reasons.startswith("0x") else "",
    )
