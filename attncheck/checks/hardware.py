"""Rules about GPUs and drivers: GPUs that no installed binary has code for, drivers older than torch's CUDA."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from attncheck.backends.limits import written
from attncheck.checks.cards import refused_by_all
from attncheck.checks.interface import RuleGroup
from attncheck.checks.machine import Machine, MachineCheck, without_cuda, without_gpu
from attncheck.checks.mending import reinstall, torch_for_driver
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Setting, Severity
from attncheck.gpus import Gpu
from attncheck.installed.binaries import covers
from attncheck.semantics.observation import Basis

NO_KERNEL_IMAGE = Rule(
    "ATC806",
    "no-kernel-image",
    "A library holds no code for one of the GPUs",
    "The native code of an installed library covers the compute capability of some visible GPU neither as machine code nor as PTX.",
    "Every call on that GPU fails with `no kernel image is available for execution on the device` or `invalid argument`.",
    "Static: the fat binaries inside the library's shared objects are read, or torch's own list of targets, and compared with every GPU.",
    "Install a build for the GPU, compile the library with its architecture, or use another implementation there.",
    ("flash-attention#2168", "xformers#1329", "CUDA C++ Programming Guide: binary compatibility"),
)

DRIVER_TOO_OLD = Rule(
    "ATC807",
    "driver-too-old",
    "The NVIDIA driver is older than the CUDA that torch is built for",
    "torch is built for a newer major version of CUDA than the driver offers.",
    "torch cannot start CUDA: everything runs on the CPU, or the program stops.",
    "Static: torch/version.py as text, the driver through NVML; where torch was imported, whether it could start CUDA.",
    "Install the torch build for the driver's CUDA version, or update the driver.",
    ("CUDA compatibility guide: minor version compatibility",),
)

#: What a GPU of unknown architecture list would be told by.
_SM = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)$")


def uncovered(machine: Machine, name: str) -> tuple[Gpu, ...]:
    """The visible GPUs that a distribution's binaries hold no code for; empty where the binaries are not known."""
    held = architectures(machine, name)
    if not held:
        return ()
    return tuple(gpu for gpu in machine.environment.gpus if not any(covers(entry, gpu.capability) for entry in held))


def architectures(machine: Machine, name: str) -> tuple[str, ...]:
    """What a distribution's binaries hold, as in `Build`; of torch also what it says itself."""
    build = machine.inventory.builds.get(name) if machine.inventory is not None else None
    if build is not None and build.architectures:
        return build.architectures
    if name != "torch" or machine.torch is None:
        return ()
    found = []
    for entry in machine.torch.architectures:
        if match := _SM.fullmatch(entry):
            found.append(f"{match[2]}.{match[3]}{match[4]}" + ("+PTX" if match[1] == "compute" else ""))
    return tuple(found)


def no_kernel_image(machine: Machine) -> Iterator[Finding]:
    """One finding for each library: an error for torch, a warning for others."""
    assert machine.inventory is not None
    for name in machine.inventory.builds:
        if lacking := uncovered(machine, name):
            yield _lacking(machine, name, lacking)


def _lacking(machine: Machine, name: str, lacking: tuple[Gpu, ...]) -> Finding:
    version = machine.environment.version(name) or (
        machine.inventory.versions.get(name, "") if machine.inventory else ""
    )
    held = ", ".join(architectures(machine, name))
    cards = ", ".join(f"GPU {gpu.index} ({gpu.name}, {written(gpu.capability)})" for gpu in lacking)
    return Finding(
        NO_KERNEL_IMAGE.code,
        NO_KERNEL_IMAGE.slug,
        Severity.ERROR if name == "torch" else Severity.WARNING,
        f"{name} {version} holds no code for {cards}: it is built for {held}, and a call there fails with `no kernel image is available`",
        Basis.STATIC,
        evidence=Evidence(declared=f"code for {held} in the binaries of {name} {version}", effective=cards),
        reproduction="attncheck doctor --static --check no-kernel-image",
        recommendations=_advice(machine, name, lacking),
    )


def _advice(machine: Machine, name: str, lacking: tuple[Gpu, ...]) -> tuple[Recommendation, ...]:
    """What to install or compile for those GPUs; not for one that the library refuses whatever it is compiled for."""
    elsewhere = "CUDA_VISIBLE_DEVICES hides GPUs from a run."
    instead = Recommendation(f"Or use sdpa on that GPU; {elsewhere}")
    if name == "torch":
        text = f"Install a torch build that holds code for {';'.join(_capabilities(lacking))}."
        return torch_for_driver(machine, text), instead
    environment = machine.environment
    refused = {gpu: reasons for gpu in environment.gpus if (reasons := refused_by_all(environment, gpu, name))}
    if any(gpu not in refused for gpu in lacking):
        return _rebuild(machine, name, [gpu for gpu in environment.gpus if gpu not in refused]), instead
    needs = "; ".join(dict.fromkeys(reason.limit for gpu in lacking for reason in refused[gpu]))
    text = f"Use sdpa on that GPU: compiling {name} for it would not help, it needs {needs}. {elsewhere}"
    return (Recommendation(text),)


def _rebuild(machine: Machine, name: str, gpus: Sequence[Gpu]) -> Recommendation:
    """How to compile a library for those GPUs: all that it can serve, as what it is compiled for now is lost."""
    usual = reinstall(machine, name).settings[0]
    # flash-attn's setup (2.8.3) reads variables of its own: it knows the first target of each generation alone, and
    # takes a published wheel unless it is forced to build. Extensions built by torch's tools read TORCH_CUDA_ARCH_LIST.
    if name == "flash-attn":
        targets = dict.fromkeys(f"{gpu.capability[0]}0" for gpu in gpus)
        variables = f'FLASH_ATTENTION_FORCE_BUILD=TRUE FLASH_ATTN_CUDA_ARCHS="{";".join(targets)}"'
    else:
        variables = f'TORCH_CUDA_ARCH_LIST="{";".join(_capabilities(gpus))}"'
    text = f"Compile {name} for {', '.join(_capabilities(gpus))}, if it supports that GPU."
    return Recommendation(text, (Setting("pip", name, usual.value, f"{variables} {usual.paste} --no-binary {name}"),))


def _capabilities(gpus: Iterable[Gpu]) -> tuple[str, ...]:
    """The compute capabilities, each once."""
    return tuple(dict.fromkeys(written(gpu.capability) for gpu in gpus))


def driver_too_old(machine: Machine) -> Iterator[Finding]:
    """A warning by versions alone, an error where torch was seen to be unable to start CUDA, quiet where it could."""
    environment = machine.environment
    if not newer(environment.torch_cuda, environment.driver):
        return
    if machine.torch is not None and machine.torch.cuda_available:
        return  # a compatibility package does what the driver does not
    tried = machine.torch is not None
    said = f"; torch says: {machine.torch.cuda_error}" if machine.torch is not None and machine.torch.cuda_error else ""
    yield Finding(
        DRIVER_TOO_OLD.code,
        DRIVER_TOO_OLD.slug,
        Severity.ERROR if tried else Severity.WARNING,
        f"torch {environment.version('torch')} is built for CUDA {environment.torch_cuda}, but the driver {environment.driver} is older{said}",
        Basis.MEASURED if tried else Basis.STATIC,
        evidence=Evidence(
            declared=f"torch/version.py: cuda = {environment.torch_cuda}",
            effective=f"driver {environment.driver}{said}",
        ),
        reproduction='python -c "import torch; torch.zeros(1).cuda()"',
        recommendations=(
            torch_for_driver(machine, "Install the torch build for the driver's CUDA version, or update the driver."),
        ),
    )


def _no_versions(machine: Machine) -> str:
    """Why there are no two versions to compare, "" when both are known."""
    environment = machine.environment
    if refusal := without_cuda(machine):
        return refusal
    if environment.torch_cuda is None:
        return "torch/version.py, which names its CUDA, could not be read"
    return "" if environment.driver else f"the driver's version is not known ({environment.gpu_note or 'no driver'})"


def newer(built_for: str | None, driver: str) -> bool:
    """True when torch's CUDA major version is above the driver's; within a major version CUDA is compatible."""
    built, offered = re.match(r"(\d+)\.", built_for or ""), re.search(r"CUDA (\d+)\.", driver)
    return built is not None and offered is not None and int(built.group(1)) > int(offered.group(1))


GROUP = RuleGroup(
    "hardware",
    (NO_KERNEL_IMAGE, DRIVER_TOO_OLD),
    order=93,
    machine=(
        MachineCheck(NO_KERNEL_IMAGE, no_kernel_image, ("inventory",), idle=without_gpu),
        MachineCheck(DRIVER_TOO_OLD, driver_too_old, uses=("torch",), idle=_no_versions),
    ),
)
