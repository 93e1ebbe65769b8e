"""Findings about what is installed: libraries that cannot be imported, and installed kernels this machine cannot run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from attncheck.checks.builds import misfits
from attncheck.checks.files import HARMLESS
from attncheck.checks.interface import RuleGroup
from attncheck.checks.machine import Machine, MachineCheck, nothing_imported, without_gpu
from attncheck.checks.mending import install_module, pip, public, reinstall, torch_for_driver, without_shadow
from attncheck.environment import Environment
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Setting, Severity
from attncheck.installed.symbols import home
from attncheck.installed.trial import Cause, ImportTrial
from attncheck.semantics.observation import Basis, Crashed, Reason
from attncheck.verdicts import Status

INSTALL_BROKEN = Rule(
    "ATC801",
    "install-broken",
    "An installed library cannot be imported",
    "A package is installed, but importing it fails: an undefined symbol, a missing shared object or module, a crash, a hang. Or torch is imported, and cannot even tell its version.",
    "Frameworks that find the package by its metadata choose it and fail, or quietly fall back to another attention.",
    "Each library that is installed is imported in a process of its own, so that a crash there ends nothing else. What the loader says is read, and compared with what the library was built for. An import that outlasts the limit is a warning: it hangs, an error, where it stood in the same line for half of that time.",
    "Reinstall the build that fits the running torch with the command given, or uninstall the package if nothing needs it.",
    ("flash-attention#854", "flash-attention#975", "xformers#982", "DeepSpeed#6567"),
)

GPU_NOT_USED = Rule(
    "ATC802",
    "gpu-not-used",
    "What is installed cannot use this machine's GPU",
    "torch was built without CUDA, or an installed kernel library does not support the GPU.",
    "Models run on the CPU or on another attention than the one that was installed for them.",
    "Static: torch/version.py read as text, the driver through NVML, and the limits that the kernel libraries check.",
    "Install the torch build for the driver's CUDA version; use another implementation on an unsupported GPU.",
    ("flash-attention#762", "transformers#28188"),
)

#: Kernel library -> transformers' name of what it serves, where the two are not the same thing.
SERVED_BY = {
    "flash_attention_2": "flash-attn",
    "flash_attention_3": "flash-attn-3",
    "flash_attention_4": "flash-attn-4",
}


#: libcudart.so.12, libcublasLt.so.13: libraries of CUDA whose number is its major version. Not libcudnn.so.9.
_CUDA_LIBRARY = re.compile(r"lib(?:cudart|cublas|cublasLt|nvrtc|cusparse|cusolver|nvJitLink|cufft)\.so\.(\d+)")
#: Causes that overwritten Python files do not have.
_OF_THE_LOADER = (Cause.UNDEFINED_SYMBOL, Cause.MISSING_LIBRARY, Cause.OLD_SYSTEM_LIBRARY, Cause.DAMAGED_LIBRARY)
#: What flash-attn and flash-attn-4 share: the first runs its `__init__.py` before anything of the second is imported.
_PARENT = {"flash-attn-4": "flash-attn"}


def broken_installs(machine: Machine) -> tuple[Finding, ...]:
    """One finding for each distribution whose import failed: a warning where it only took too long.

    And an error for a torch that was imported but cannot say what it is: nothing else can be probed then.
    """
    found = [_broken(machine, name, trial) for name, trial in _failed(machine)]
    torch = (machine.imports or {}).get("torch")
    if torch is not None and torch.operation_failure is not None:
        found.append(_mute(machine, torch, torch.operation_failure))
    return tuple(found)


def _failed(machine: Machine) -> Iterator[tuple[str, ImportTrial]]:
    for name, trial in (machine.imports or {}).items():
        if trial.failure is not None:
            yield name, trial


def _broken(machine: Machine, name: str, trial: ImportTrial) -> Finding:
    assert trial.failure is not None
    version = machine.environment.version(name)
    wrong = misfits(machine, name)
    why = _why(machine, name, trial, wrong)
    late = trial.cause in (Cause.HANG, Cause.SLOW)
    short = f"{name} {version} is installed but cannot be imported"
    if late:
        short = f"{name} {version} {'hangs while it is imported' if trial.cause is Cause.HANG else 'took too long to import'}"
    return Finding(
        INSTALL_BROKEN.code,
        INSTALL_BROKEN.slug,
        Severity.WARNING if trial.cause is Cause.SLOW else Severity.ERROR,
        (f"{name} {version} {trial.failure.reason}" if late else f"{short}: {trial.failure.reason}")
        + (f"; {why}" if why else ""),
        Basis.MEASURED,
        evidence=Evidence(
            declared=f"{name} {version} (package metadata)" + (f", {'; '.join(wrong)}" if wrong else ""),
            effective=f"import {trial.module}: {trial.failure.reason}" + (f"; {why}" if why else ""),
        ),
        reproduction=f'python -c "import {trial.module}"',
        recommendations=(_mended(machine, name, trial),),
        headline=short,
    )


def _mute(machine: Machine, trial: ImportTrial, broken: Crashed) -> Finding:
    """A torch that is imported and whose state cannot be read."""
    library = next(entry for entry in machine.environment.libraries if entry.name == "torch")
    why = f"; `import torch` loads {library.origin}" if library.origin else ""
    short = f"torch {library.version} can be imported, but cannot be asked for its own state"
    return Finding(
        INSTALL_BROKEN.code,
        INSTALL_BROKEN.slug,
        Severity.WARNING if broken.kind == "timeout" else Severity.ERROR,
        f"{short}: {broken.reason}{why}",
        Basis.MEASURED,
        evidence=Evidence(declared=f"torch {library.version} (package metadata)", effective=f"{broken.reason}{why}"),
        reproduction='python -c "import torch; print(torch.__file__, torch.__version__, torch.version.cuda)"',
        recommendations=(without_shadow(library) if library.origin else reinstall(machine, "torch"),),
        headline=short,
    )


def _why(machine: Machine, name: str, trial: ImportTrial, wrong: Sequence[str]) -> str:
    """The cause in words, "" when the reason says all there is."""
    environment = machine.environment
    if origin := environment.origin(name):
        return f"what is imported is {origin}"
    if (parent := _failing_parent(machine, name, trial)) is not None:
        return f"{parent} fails, and its package is imported first"
    if overwriting := _overwriting(machine, name, trial):
        return f"its files were overwritten by {overwriting}"
    if wrong:
        return f"it is {'; '.join(wrong)}"
    if trial.cause is Cause.UNDEFINED_SYMBOL and (owner := home(trial.readable)):
        version = environment.version("torch") if owner == "torch" else ""
        return f"{owner} {version} does not have it: the library is built for another {owner}".replace("  ", " ")
    if trial.cause is Cause.MISSING_LIBRARY and (found := _CUDA_LIBRARY.match(trial.subject)):
        here = environment.torch_cuda
        return f"it is built for CUDA {found[1]}, torch here " + (f"for CUDA {here}" if here else "without CUDA")
    if trial.cause is Cause.OLD_SYSTEM_LIBRARY:
        return "it is built on a newer system than this"
    return ""


def _failing_parent(machine: Machine, name: str, trial: ImportTrial) -> str | None:
    """The distribution whose own failure this is: the same place, under a package that is imported first."""
    for parent, other in _failed(machine):
        same = (other.cause, other.subject, other.where) == (trial.cause, trial.subject, trial.where)
        if parent != name and same and (parent == _PARENT.get(name) or _inside(other.module, trial)):
            return parent
    return None


def _inside(module: str, trial: ImportTrial) -> bool:
    """True when the import broke in a file of this package, and one that has nothing to do with it was imported."""
    related = module.startswith(trial.module) or trial.module.startswith(module)
    folder = module.replace(".", "/") + "/"
    return not related and trial.where.replace("\\", "/").startswith(folder)


def _overwriting(machine: Machine, name: str, trial: ImportTrial) -> str:
    """The distribution whose files lie where this one's should and may be why it fails, "" for none."""
    if trial.cause in _OF_THE_LOADER:
        return ""
    for entry in machine.inventory.clobbered if machine.inventory is not None else ():
        names = [owner for owner, _ in entry.owners]
        if (
            name in names
            and (name, *(owner for owner in names if owner != name)) not in HARMLESS
            and entry.matches[1 - names.index(name)]
        ):
            return " ".join(entry.owners[1 - names.index(name)])
    return ""


def _mended(machine: Machine, name: str, trial: ImportTrial) -> Recommendation:
    version = public(machine.environment.version(name) or "")
    shadowed = next((entry for entry in machine.environment.libraries if entry.name == name and entry.origin), None)
    if shadowed is not None:
        return without_shadow(shadowed)
    if (parent := _failing_parent(machine, name, trial)) is not None:
        return _mended(machine, parent, (machine.imports or {})[parent])
    if _overwriting(machine, name, trial):
        return pip(
            f"Reinstall {name} last, so that its files lie on top.",
            name,
            f"--force-reinstall --no-deps {name}=={version}",
        )
    if trial.cause is Cause.MISSING_MODULE and (found := install_module(machine, trial.subject)) is not None:
        return found
    usual = reinstall(machine, name)
    if trial.cause in (Cause.HANG, Cause.SLOW):
        text = f"Give it more time. If it still does not end, reinstall {name}."
        if trial.cause is Cause.HANG:
            text = f"See what it waits for there (a lock file, the network, a GPU). Give it more time, or reinstall {name}."
        paste = f"attncheck doctor --check {INSTALL_BROKEN.slug} --timeout 600"
        return Recommendation(text, (Setting("shell", "--timeout", "600", paste), *usual.settings))
    if usual.settings[0].value == "uninstall" or name in ("torch", "transformers"):
        return usual
    return Recommendation(f"{usual.text} Or remove it: pip uninstall {name}", usual.settings)


def unusable_after(trial: ImportTrial | None) -> str:
    """Why a library cannot be used after this import, "" where it can, or where nobody knows."""
    if trial is None or trial.cause is Cause.SLOW:
        return ""
    if trial.failure is not None:
        return f"cannot be imported: {trial.failure.reason}"
    broken = trial.operation_failure
    if broken is None or broken.kind == "timeout" or trial.module != "torch":
        return ""
    return f"cannot be asked for its own state: {broken.reason}"


def unusable(machine: Machine) -> tuple[Finding, ...]:
    """Warnings about a GPU that goes unused.

    Nothing is said on machines without a GPU: there a kernel that needs one is no surprise.
    """
    environment = machine.environment
    refused = refused_kernels(machine)
    if (
        environment.version("torch") is not None
        and environment.torch_cuda == ""
        and (environment.gpus or _hidden_card(machine))
    ):
        return (_torch_without_cuda(machine),)
    if not environment.gpus:
        return ()
    return tuple(_refused(environment, name, reasons) for name, reasons in refused.items() if reasons)


def _hidden_card(machine: Machine) -> bool:
    """True for a GPU that the system lists and whose driver does not answer."""
    return "on the PCI bus" in machine.environment.gpu_note


def _nothing_to_use(machine: Machine) -> str:
    """Why the check is idle here, "" when there is a GPU, or a hidden one, and a torch that could use it."""
    if not _hidden_card(machine) and (reason := without_gpu(machine)):
        return reason
    return "torch is not installed" if machine.environment.version("torch") is None else ""


def refused_kernels(machine: Machine) -> dict[str, Sequence[Reason]]:
    """Installed kernel libraries that this machine cannot run, with the limits that it breaks."""
    return {
        SERVED_BY[entry.name]: entry.reasons
        for entry in machine.implementations
        if entry.status is Status.REJECTED
        and entry.name in SERVED_BY
        and machine.environment.version(SERVED_BY[entry.name]) is not None
    }


def _torch_without_cuda(machine: Machine) -> Finding:
    environment = machine.environment
    version = environment.version("torch")
    gpu = environment.gpus[0].name if environment.gpus else environment.gpu_note
    return _finding(
        f"torch {version} is built for the CPU only, on a machine with a GPU ({gpu}): everything runs on the CPU",
        Evidence(declared=f"GPU: {gpu}", effective=f"torch {version}, torch/version.py: cuda = None"),
        torch_for_driver(machine, "Install a torch build for CUDA that the driver supports."),
    )


def _refused(environment: Environment, name: str, reasons: Sequence[Reason]) -> Finding:
    text = "; ".join(reason.said for reason in reasons)
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


GROUP = RuleGroup(
    "installation",
    (INSTALL_BROKEN, GPU_NOT_USED),
    order=90,
    machine=(
        MachineCheck(INSTALL_BROKEN, broken_installs, ("imports",), idle=nothing_imported),
        MachineCheck(GPU_NOT_USED, unusable, idle=_nothing_to_use),
    ),
)
