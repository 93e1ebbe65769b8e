"""GPU, driver and libraries: read from metadata, NVML and text; imports no library it reports on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Library:
    """An installed distribution. version is None when it is absent."""

    name: str
    version: str | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One visible GPU. capability is (major, minor); memory in bytes."""

    index: int
    name: str
    capability: tuple[int, int]
    memory: int
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Environment:
    """What is installed, read without importing it. source says where each group of facts was read."""

    python: str
    platform: str
    libraries: tuple[Library, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    gpu_note: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    def version(self, name: str) -> str | None:
        """Version of a distribution, None when it is absent or was not looked up."""
        return next((library.version for library in self.libraries if library.name == name), None)
