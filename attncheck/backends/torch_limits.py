"""Limits that all attention of torch shares: torch itself, its build, its version."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from attncheck.backends.interface import Call, Limit
from attncheck.backends.limits import Broken, Capability, is_installed, no_gpu, torch_without_gpus
from attncheck.environment import Environment


def release(version: str | None) -> Version | None:
    """The version without its local part ("2.11.0+cu130" is 2.11.0), None for an absent or unreadable one."""
    try:
        return Version(Version(version).public) if version is not None else None
    except InvalidVersion:
        return None


def older(distribution: str, oldest: str) -> Broken:
    """Broken by an installed version before `oldest`; an absent or unreadable one breaks nothing."""

    def broken(environment: Environment, _: Call) -> str | None:
        version = release(environment.version(distribution))
        return str(version) if version is not None and version < Version(oldest) else None

    return broken


def no_device(environment: Environment, call: Call) -> str | None:
    """What keeps torch from computing on the device of the call. AMD cards are not listed, so a ROCm build passes."""
    if call.device != "cuda" or environment.torch_hip:
        return None
    return torch_without_gpus(environment, rocm=True) or no_gpu(environment, rocm=True)


def newest_capability(environment: Environment) -> Capability | None:
    """Compute capability of the best visible GPU, None where none is listed."""
    return max((gpu.capability for gpu in environment.gpus), default=None)


def rocm_note(environment: Environment, call: Call) -> str:
    """What a verdict for an AMD card does not know."""
    return "ROCm: which AMD card it is was not read" if call.device == "cuda" and environment.torch_hip else ""


TORCH_LIMITS = (
    is_installed("torch"),
    Limit("torch cannot use a GPU here", "a GPU, and torch built for it", "NVML, torch/version.py", no_device),
)
