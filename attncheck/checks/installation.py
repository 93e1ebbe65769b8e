"""Findings about what is installed: libraries that cannot be imported, and installed kernels this machine cannot run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from attncheck.checks.interface import RuleGroup
from attncheck.environment import Environment
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Setting, Severity
from attncheck.semantics.observation import Basis, Crashed, Reason

INSTALL_BROKEN = Rule(
    "ATC801",
    "install-broken",
    "An installed library cannot be imported",
    "A package is installed, but importing it fails: a missing symbol, a missing file, or a crash of its native part.",
    "Frameworks that find the package by its metadata choose it and fail, or quietly fall back to another attention.",
    "Each library that is installed is imported in a process of its own, so that a crash there ends nothing else.",
    "Reinstall the build that fits the running torch, or uninstall the package if nothing needs it.",
    ("flash-attention#854", "xformers#982", "DeepSpeed#6567"),
)

GPU_NOT_USED = Rule(
    "ATC802",
    "gpu-not-used",
    "What is installed cannot use this machine's GPU",
    "torch was built without CUDA or for a newer CUDA than the driver offers, or an installed kernel library does not "
    "support the GPU.",
    "Models run on the CPU or on another attention than the one that was installed for them.",
    "Static: torch/version.py read as text, the driver through NVML, and the limits that the kernel libraries check.",
    "Install the torch build for the driver's CUDA version; use another implementation on an unsupported GPU.",
    ("flash-attention#762", "transformers#28188"),
)

GROUP = RuleGroup("installation", (INSTALL_BROKEN, GPU_NOT_USED), order=90)


def broken_installs(failures: Mapping[str, Crashed], environment: Environment) -> tuple[Finding, ...]:
    """One error for each distribution whose import failed. failures: distribution -> how."""
    return tuple(
        Finding(
            INSTALL_BROKEN.code,
            INSTALL_BROKEN.slug,
            Severity.ERROR,
            f"{name} {environment.version(name)} is installed but cannot be imported: {failure.reason}",
            Basis.MEASURED,
            evidence=Evidence(
                declared=f"{name} {environment.version(name)} (package metadata)", effective=failure.reason
            ),
            recommendations=(
                Recommendation(f"Reinstall {name} for torch {environment.version('torch')}, or remove it."),
            ),
        )
        for name, failure in failures.items()
    )


def unusable(environment: Environment, refused: Mapping[str, Sequence[Reason]]) -> tuple[Finding, ...]:
    """Warnings about a GPU that goes unused. refused: installed kernel library -> the limits that this machine breaks.

    Nothing is said on machines without a GPU: there a kernel that needs one is no surprise.
    """
    hidden_card = "on the PCI bus" in environment.gpu_note
    if environment.version("torch") is not None and environment.torch_cuda == "" and (environment.gpus or hidden_card):
        return (_torch_without_cuda(environment),)
    if not environment.gpus:
        return ()
    found = [_driver_too_old(environment)] if _newer(environment.torch_cuda, environment.driver) else []
    return (*found, *(_refused(environment, name, reasons) for name, reasons in refused.items() if reasons))


def _torch_without_cuda(environment: Environment) -> Finding:
    version = environment.version("torch")
    gpu = environment.gpus[0].name if environment.gpus else environment.gpu_note
    paste = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128"
    return _finding(
        f"torch {version} is built for the CPU only, on a machine with a GPU ({gpu}): everything runs on the CPU",
        Evidence(declared=f"GPU: {gpu}", effective=f"torch {version}, torch/version.py: cuda = None"),
        Recommendation(
            "Install a torch build for CUDA (pick the version that the driver supports).",
            (Setting("pip", "torch", "cu128", paste),),
        ),
    )


def _driver_too_old(environment: Environment) -> Finding:
    return _finding(
        f"torch is built for CUDA {environment.torch_cuda}, but the driver {environment.driver} is older",
        Evidence(
            declared=f"torch/version.py: cuda = {environment.torch_cuda}", effective=f"driver {environment.driver}"
        ),
        Recommendation("Update the NVIDIA driver, or install the torch build for the driver's CUDA version."),
    )


def _refused(environment: Environment, name: str, reasons: Sequence[Reason]) -> Finding:
    text = "; ".join(f"{reason.text} ({reason.actual})" if reason.actual else reason.text for reason in reasons)
    return _finding(
        f"{name} {environment.version(name)} is installed but cannot run on this GPU: {text}",
        Evidence(declared="; ".join(filter(None, (reason.limit for reason in reasons))), effective=text),
        Recommendation("Use sdpa on this GPU, and uninstall the package if nothing else needs it."),
    )


def _finding(message: str, evidence: Evidence, advice: Recommendation) -> Finding:
    return Finding(
        GPU_NOT_USED.code,
        GPU_NOT_USED.slug,
        Severity.WARNING,
        message,
        Basis.STATIC,
        evidence=evidence,
        recommendations=(advice,),
    )


def _newer(built_for: str | None, driver: str) -> bool:
    """True when torch's CUDA major version is above the driver's; within a major version CUDA is compatible."""
    built, offered = re.match(r"(\d+)\.", built_for or ""), re.search(r"CUDA (\d+)\.", driver)
    return built is not None and offered is not None and int(built.group(1)) > int(offered.group(1))
