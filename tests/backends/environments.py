"""Stored environments for the verdicts of backends: one machine a constant, the same software on other cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from attncheck.environment import Environment, Gpu, Library

_MIB = 1 << 20

#: Every library the recorded H100 machine has; `H100` holds them, and so does every other NVIDIA machine below, so that
#: verdicts differ by the card alone. Distributions that are looked for and absent have version None.
SOFTWARE: Mapping[str, str | None] = {
    "torch": "2.11.0",
    "transformers": "5.17.0",
    "accelerate": "1.15.0",
    "peft": "0.21.0",
    "flash-attn": "2.8.3.post2+hd64.128.256",
    "flash-attn-3": None,
    "flash-attn-4": "4.0.0b36",
    "xformers": None,
    "kernels": None,
    "triton": "3.6.0",
    "nvidia-cudnn-cu12": None,
    "nvidia-cudnn-cu13": "9.19.0.56",
    "nvidia-cudnn-frontend": "1.32.0",
    "transformer-engine": "2.20.2",
    "flashinfer-python": None,
    "nvidia-ml-py": "13.610.43",
}


def with_libraries(environment: Environment, versions: Mapping[str, str | None]) -> Environment:
    """The same machine with other versions of the libraries named; None takes one away."""
    kept = tuple(library for library in environment.libraries if library.name not in versions)
    return replace(environment, libraries=kept + tuple(Library(name, version) for name, version in versions.items()))


def _machine(name: str, capability: tuple[int, int], mebibytes: int) -> Environment:
    return replace(H100, gpus=(Gpu(0, name, capability, mebibytes * _MIB, "580.159.04"),))


#: As `attncheck doctor --format json` recorded it on the machine itself (tests/gpu/recorded/doctor.json), without its
#: xformers, of which no operator works there.
H100 = Environment(
    "3.12.3",
    "Linux x86_64",
    tuple(Library(name, version) for name, version in SOFTWARE.items()),
    (Gpu(0, "NVIDIA H100 80GB HBM3", (9, 0), 85520809984, "580.159.04"),),
    driver="580.159.04 (CUDA 13.0)",
    torch_cuda="13.0",
)

# Names as nvidia-smi prints them and compute capabilities from NVIDIA's table (developer.nvidia.com/cuda-gpus).
T4 = _machine("Tesla T4", (7, 5), 15360)
A100 = _machine("NVIDIA A100-SXM4-80GB", (8, 0), 81920)
L4 = _machine("NVIDIA L4", (8, 9), 23034)
B200 = _machine("NVIDIA B200", (10, 0), 183359)
RTX_5090 = _machine("NVIDIA GeForce RTX 5090", (12, 0), 32607)

#: An AMD card: torch is a ROCm build, NVML finds nothing, and AMD cards are not listed. flash-attn has a ROCm build.
MI300 = Environment(
    "3.12.3",
    "Linux x86_64",
    (Library("torch", "2.11.0+rocm7.2"), Library("transformers", "5.17.0"), Library("flash-attn", "2.8.3")),
    gpu_note="no NVIDIA driver: NVML Shared Library Not Found",
    torch_cuda="",
    torch_hip="7.2.26015",
)

CPU_ONLY = Environment(
    "3.12.3",
    "Linux x86_64",
    (Library("torch", "2.13.0+cpu"), Library("transformers", "5.23.0")),
    gpu_note="no NVIDIA driver: NVML Shared Library Not Found",
    torch_cuda="",
)

NO_TORCH = Environment(
    "3.12.3",
    "Linux x86_64",
    (Library("torch", None), Library("transformers", None)),
    gpu_note="no NVIDIA driver: NVML Shared Library Not Found",
)

#: A machine with an H100 whose torch is built for CPU only, and the same without any torch.
H100_CPU_TORCH = replace(H100, torch_cuda="")
H100_NO_TORCH = replace(with_libraries(H100, {"torch": None}), torch_cuda=None)

#: The kernel libraries, in releases that were read or run; `with_libraries` puts them on a machine that lacks some.
KERNEL_LIBRARIES: Mapping[str, str] = {
    "flash-attn": "2.8.3",
    "flash-attn-3": "3.0.0",
    "flash-attn-4": "4.0.0b36",
    "flashinfer-python": "0.7.2",
    "nvidia-cudnn-frontend": "1.32.0",
    "transformer-engine": "2.20.2",
    "xformers": "0.0.35",
}

ENVIRONMENTS: Mapping[str, Environment] = {
    "H100": H100,
    "H100, torch for CPU": H100_CPU_TORCH,
    "H100, no torch": H100_NO_TORCH,
    "T4": T4,
    "A100": A100,
    "L4": L4,
    "B200": B200,
    "RTX 5090": RTX_5090,
    "MI300": MI300,
    "CPU": CPU_ONLY,
    "no torch": NO_TORCH,
}
