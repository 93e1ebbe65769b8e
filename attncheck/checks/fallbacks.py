"""The rule about replacements that installed packages make possible: transformers fetches a kernel nobody installed."""

from __future__ import annotations

from collections.abc import Iterator

from attncheck.checks.availability import RULES
from attncheck.checks.interface import RuleGroup
from attncheck.checks.machine import Machine, MachineCheck, without_cuda, without_gpu
from attncheck.checks.mending import pip
from attncheck.findings import Evidence, Finding, Recommendation, Severity
from attncheck.frameworks.flash_kernels import fallback
from attncheck.frameworks.transformers import FLASH_PACKAGES
from attncheck.semantics.observation import Basis

SILENT_FALLBACK = next(rule for rule in RULES if rule.slug == "silent-fallback")


def hub_kernels(machine: Machine) -> Iterator[Finding]:
    """A note when a flash implementation would be downloaded: its package is absent and `kernels` is accepted.

    Quiet without a GPU or with a torch that has no CUDA: there transformers raises the error for the missing package.
    """
    environment = machine.environment
    version, kernels = environment.version("transformers"), environment.version("kernels")
    rules = fallback(version) if version is not None else None
    if rules is None or not rules.accepts(kernels) or not environment.gpus or environment.torch_cuda == "":
        return
    fetched = {
        name: repository
        for name, (package, _) in FLASH_PACKAGES.items()
        if environment.version(package) is None and (repository := rules.repository(name)) is not None
    }
    if not fetched:
        return
    packages = [FLASH_PACKAGES[name][0] for name in fetched]
    what = ", ".join(f"{name}: {repository}" for name, repository in fetched.items())
    yield Finding(
        SILENT_FALLBACK.code,
        SILENT_FALLBACK.slug,
        Severity.NOTE,
        f"asked for {' or '.join(fetched)}, transformers {version} would download and run a kernel from the hub, because kernels {kernels} is installed and {' and '.join(packages)} {'is' if len(packages) == 1 else 'are'} not ({what})",
        Basis.STATIC,
        evidence=Evidence(requested=", ".join(fetched), effective=", ".join(fetched.values())),
        reproduction="attncheck doctor --static --check silent-fallback",
        recommendations=(
            pip(
                f"Install {packages[0]} if that is what shall run.", packages[0], f"--no-build-isolation {packages[0]}"
            ),
            Recommendation('Or ask for attn_implementation="sdpa"; HF_HUB_OFFLINE=1 turns the download into an error.'),
        ),
    )


def _never(machine: Machine) -> str:
    """Why transformers fetches nothing here whatever is installed, "" when it may."""
    absent = "" if machine.environment.version("transformers") is not None else "transformers is not installed"
    return absent or without_gpu(machine) or without_cuda(machine)


GROUP = RuleGroup("fallbacks", (), order=94, machine=(MachineCheck(SILENT_FALLBACK, hub_kernels, idle=_never),))
