"""Rules about native libraries that fit the running torch, CUDA or Python badly, and that import without operators."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from attncheck.checks.interface import RuleGroup
from attncheck.checks.machine import Machine, MachineCheck, nothing_imported
from attncheck.checks.mending import install, python_tag, reinstall
from attncheck.findings import Evidence, Finding, Rule, Severity
from attncheck.installed.inventory import Build
from attncheck.installed.trial import Cause, ImportTrial
from attncheck.semantics.observation import Basis, Crashed

OTHER_TORCH = Rule(
    "ATC805",
    "built-for-another-torch",
    "A native library is built for another torch, CUDA or Python",
    "The torch, CUDA or Python version, or the C++ ABI, that a library's files name is not the one that runs here.",
    "Native extensions of torch work with the torch they were compiled against. With another one they fail at import (undefined symbol), import without their operators, or crash later.",
    "Static: tags of the version and of the wheel, xformers' cpp_lib.json, libcudart and C++ symbols in the binaries, compared with torch/version.py and torch's own libraries. Where the import was tried and worked this is a note; where it failed, install-broken says so instead.",
    "Reinstall the library for the running torch with the command given.",
    ("flash-attention#975", "flash-attention#1832", "xformers#982"),
)

OPERATORS_MISSING = Rule(
    "ATC808",
    "operators-missing",
    "A library imports but has no operators",
    "An installed library can be imported, but says that its native part could not be loaded, or its main operator fails.",
    "Tools that look for the package find it, choose it, and fail with `No operator found` or run something slower.",
    "Measured: the library is imported in a process of its own; what it complains of is kept, and on a GPU its main operator is called once. Without a GPU the check of a library whose operator would be called is NOT RUN.",
    "Install the build for the running torch and CUDA, or uninstall the library if nothing needs it.",
    ("xformers#982", "xformers#1399", "diffusers#10070"),
)

REQUIREMENT_UNMET = Rule(
    "ATC810",
    "requirement-unmet",
    "A requirement of an installed kernel library is not met",
    "A package that a library requires is absent, or has a version that it excludes.",
    "The import fails, or works and fails at the first call that needs the missing part.",
    "Static: the requirements in the metadata of kernel libraries are compared with what is installed, as pip check does; a library of the same version built for another CUDA counts.",
    "Install what is required with the command given.",
    ("pip check",),
)


#: Distribution -> those that hold its native code.
_PARTS = {"transformer-engine": ("transformer-engine-torch", "transformer-engine-cu12", "transformer-engine-cu13")}

#: Those whose trial calls an operator after the import; what is tried of others is no operator.
WITH_OPERATORS = ("xformers",)


def misfits(machine: Machine, name: str) -> tuple[str, ...]:
    """Each thing that a distribution was built for and that is not what runs here, in words; empty when all fits."""
    every = [entry for part in (name, *_PARTS.get(name, ())) for entry in _misfits(machine, part)]
    return tuple(dict.fromkeys(every))


def _misfits(machine: Machine, name: str) -> tuple[str, ...]:
    builds = machine.inventory.builds if machine.inventory is not None else {}
    build, environment = builds.get(name), machine.environment
    if build is None or name == "torch":
        return ()
    torch = environment.version("torch") or ""
    found = []
    if build.torch and torch and _release(build.torch) != _release(torch):
        found.append(f"built for torch {build.torch}, here runs torch {torch}")
    loaded_with_torch = links_torch(build) or name.startswith("transformer-engine-")
    if build.cuda and environment.torch_cuda is not None and loaded_with_torch:
        here = environment.torch_cuda
        if not here:
            found.append(f"built for CUDA {build.cuda}, torch here is built without CUDA")
        elif here.partition(".")[0] != build.cuda.partition(".")[0]:
            found.append(f"built for CUDA {build.cuda}, torch here is built for CUDA {here}")
    own = builds.get("torch", Build()).cxx11abi
    if build.cxx11abi and own and build.cxx11abi != own:
        found.append(f"built with the C++11 ABI {_switch(build.cxx11abi)}, torch here with it {_switch(own)}")
    if build.python and build.python != python_tag(environment.python):
        found.append(f"built for Python {build.python}, here runs {python_tag(environment.python)}")
    return tuple(found)


def links_torch(build: Build) -> bool:
    """True when the library's native code is an extension of torch."""
    return bool(build.torch) or any(name.startswith(("libtorch", "libc10")) for name in build.needed)


def trial_of(machine: Machine, name: str) -> ImportTrial | None:
    """The import that loaded a distribution's code, or failed to: its own, or that of the one it is a part of.

    None where nobody tried, or it had no time to end.
    """
    whole = next((whole for whole, parts in _PARTS.items() if name in parts), name)
    trial = (machine.imports or {}).get(whole)
    return None if trial is not None and trial.cause is Cause.SLOW else trial


def built_for_another_torch(machine: Machine) -> Iterator[Finding]:
    """A warning for each misfit nobody tried, a note for each that imports all the same."""
    assert machine.inventory is not None
    for name, build in machine.inventory.builds.items():
        found = misfits(machine, name)
        trial = trial_of(machine, name)
        if (
            not found
            or name in _PARTS
            or (trial is not None and (trial.failure or trial.complaints or _failed_operator(name, trial)))
        ):
            continue
        version = machine.inventory.versions.get(name, machine.environment.version(name) or "")
        works = "; it imports all the same" if trial is not None else ""
        yield Finding(
            OTHER_TORCH.code,
            OTHER_TORCH.slug,
            Severity.WARNING if trial is None else Severity.NOTE,
            f"{name} {version} is {'; '.join(found)}{works}",
            Basis.STATIC,
            evidence=Evidence(
                declared=f"{name} {version}: {'; '.join(entry.partition(', ')[0] for entry in found)} ({build.source})",
                effective="; ".join(entry.partition(", ")[2] for entry in found),
            ),
            reproduction="attncheck doctor --check built-for-another-torch",
            recommendations=(reinstall(machine, name),),
        )


def operators_missing(machine: Machine) -> Iterator[Finding]:
    """Libraries that imported with a complaint, or whose operation failed."""
    for name, trial in (machine.imports or {}).items():
        failed = _failed_operator(name, trial)
        if trial.failure is not None or not (trial.complaints or failed):
            continue
        version = machine.environment.version(name)
        why = "; ".join(misfits(machine, name))
        works = name in WITH_OPERATORS and bool(trial.operation) and failed is None
        what = (
            f"imports and {trial.operation} works, but it complains that a part of it does not"
            if works
            else "is installed but without operators: it imports, and none of its native operators can be used"
        )
        said = (failed.reason if failed is not None else "") or trial.complaints[0]
        yield Finding(
            OPERATORS_MISSING.code,
            OPERATORS_MISSING.slug,
            Severity.ERROR if machine.environment.gpus and not works else Severity.WARNING,
            f"{name} {version} {what}" + (f"; it is {why}" if why else f": {said}"),
            Basis.MEASURED,
            evidence=Evidence(
                declared=f"{name} {version} (package metadata)" + (f", {why}" if why else ""),
                effective="; ".join(filter(None, (failed.reason if failed is not None else "", *trial.complaints))),
            ),
            reproduction=f'python -c "import {trial.module}"'
            if failed is None
            else f"attncheck doctor --check {OPERATORS_MISSING.slug}",
            recommendations=(reinstall(machine, name),),
        )


def no_operator_called(machine: Machine) -> str:
    """Why nothing is known of the operators of a library that has some, "" when they were called or are found missing."""
    if reason := nothing_imported(machine):
        return reason
    trials = {name: trial for name, trial in (machine.imports or {}).items() if name in WITH_OPERATORS}
    if any(operators_missing(machine)):
        return ""
    untried = {name: trial for name, trial in trials.items() if not trial.operation and not trial.operation_failure}
    return "; ".join(
        f"{name} {'was not imported' if trial.failure else 'imports, but torch can use no GPU here'}: its operators were "
        f"not called"
        for name, trial in untried.items()
    )


def requirement_unmet(machine: Machine) -> Iterator[Finding]:
    """One finding for each distribution with unmet requirements; quiet where that is why the import broke: told there."""
    assert machine.inventory is not None
    for name, group in groupby(machine.inventory.unmet, key=lambda entry: entry.name):
        unmet = tuple(group)
        trial = trial_of(machine, name)
        if trial is not None and trial.failure is not None and trial.cause is Cause.MISSING_MODULE:
            continue
        version = unmet[0].version
        found = "; ".join(f"{entry.requirement}: {entry.found or 'not installed'}" for entry in unmet)
        wanted = ", ".join(
            f"{entry.requirement} ({f'{entry.found} is' if entry.found else 'not'} installed)" for entry in unmet
        )
        yield Finding(
            REQUIREMENT_UNMET.code,
            REQUIREMENT_UNMET.slug,
            Severity.NOTE if trial is not None and trial.failure is None else Severity.WARNING,
            f"{name} {version} has requirements that are not met: {wanted}",
            Basis.STATIC,
            evidence=Evidence(declared=f"{name} {version}, Requires-Dist", effective=found),
            reproduction="python -m pip check",
            recommendations=(install(unmet),),
        )


def _failed_operator(name: str, trial: ImportTrial) -> Crashed | None:
    return trial.operation_failure if name in WITH_OPERATORS else None


def _release(version: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\d+", version.partition("+")[0])[:2])


def _switch(abi: str) -> str:
    return "on" if abi == "TRUE" else "off"


GROUP = RuleGroup(
    "builds",
    (OTHER_TORCH, OPERATORS_MISSING, REQUIREMENT_UNMET),
    order=92,
    machine=(
        MachineCheck(OTHER_TORCH, built_for_another_torch, ("inventory",)),
        MachineCheck(OPERATORS_MISSING, operators_missing, ("imports",), idle=no_operator_called),
        MachineCheck(REQUIREMENT_UNMET, requirement_unmet, ("inventory",)),
    ),
)
