"""Rules about torch's own state: kernels switched off, flags that an import changed, and CUDA that cannot start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attncheck.checks.interface import RuleGroup
from attncheck.checks.machine import Machine, MachineCheck, without_cuda, without_gpu
from attncheck.checks.variables import FLEX_SWITCHES
from attncheck.environment import LIBRARIES
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Setting, Severity
from attncheck.installed.state import TorchState
from attncheck.semantics.observation import Basis

DISABLES_KERNELS = Rule(
    "ATC831",
    "setting-disables-kernels",
    "A global flag switches SDPA kernels off",
    "One of torch.backends.cuda's switches for the flash, memory-efficient, cuDNN or math kernel is off: from the start "
    "of Python (sitecustomize, a .pth file), or since a library was imported.",
    "Without the fused kernels SDPA is slow and needs memory for every score; without the math kernel, calls that no "
    "fused kernel takes fail with 'No available kernel. Aborting execution.', and all calls with 'No viable backend' where none is left.",
    "torch is imported in a process of its own and its flags are read, and once more after each library that is known "
    "to patch torch.",
    "Switch the kernel on again after the import that switches it off.",
    ("recurrent-pretraining#30", "sam2#48", "pytorch#117354"),
)
FLAG_CHANGED = Rule(
    "ATC837",
    "flag-changed",
    "Importing a library changes a global flag of torch",
    "TF32, matmul precision, determinism, default dtype or device, or the flash implementation differ after the import.",
    "Numbers or kernels then depend on which libraries a script imports, and in which order.",
    "The flags are read in a process that imports torch only, and in one that imports the library.",
    "Set the flag yourself after the imports.",
    ("recurrent-pretraining#30",),
)
CUDA_NOT_STARTED = Rule(
    "ATC834",
    "cuda-not-started",
    "torch cannot use a GPU that the driver shows",
    "The driver lists GPUs, torch is built for CUDA, but torch cannot start CUDA there or sees fewer GPUs.",
    "Programs that ask whether CUDA is available fall back to the CPU without a word.",
    "torch is imported in a process of its own and asked to start CUDA; its own reason is quoted.",
    "Remove the cause that torch names.",
    ("transformers#45399",),
)
WITHOUT_FLASH = Rule(
    "ATC835",
    "torch-without-flash",
    "This torch has no flash kernel",
    "torch was compiled without its flash kernel, as Windows wheels are; SDPA warns '1Torch was not compiled with flash "
    "attention'.",
    "Speed only: SDPA uses its other kernels, and what it computes stays right.",
    "torch.backends.cuda.is_flash_attention_available(), in a process of its own.",
    "None is needed; for speed use a build that has it, or flash-attn.",
    ("CogVideoXWrapper#97", "TorchSharp#1375", "sd-scripts#1884"),
)
FLEX_UNCOMPILED = Rule(
    "ATC836",
    "flex-uncompiled",
    "flex_attention runs uncompiled",
    f"{'=1 or '.join(FLEX_SWITCHES)}=1 turns torch.compile off, which flex_attention needs for its kernel.",
    "It then computes every score of the full matrix: right, but slow, and memory grows with the square of the length.",
    "Static: the environment of this process.",
    "Unset the variable.",
    ("attention-gym#95", "pytorch#136261", "transformers PR #36487"),
)

_ENABLED = "_sdp_enabled()"
_MATH = f"torch.backends.cuda.math{_ENABLED}"
#: Off by default before torch 2.5, so that it says nothing in a plain process.
_CUDNN = f"torch.backends.cuda.cudnn{_ENABLED}"
#: The switches that act on a CPU, where SDPA has two kernels.
_ON_CPU = (f"torch.backends.cuda.flash{_ENABLED}", _MATH)
#: Told by what it decides: a property of the build, not a switch.
_BUILT = "torch.backends.cuda.is_flash_attention_available()"


def disabled_kernels(machine: Machine) -> Iterator[Finding]:
    """Kernels that are off in a plain process, and those that an import switches off."""
    state = _state(machine)
    off = [flag for flag, value in state.flags.items() if _switch(flag) and value == "False" and flag != _CUDNN]
    if off:
        yield _switched_off(off, state.flags, "from the start of Python", "import torch", on_gpu=state.cuda_available)
    for library in dict.fromkeys(library for library, *_ in state.changed_by_import):
        changes = {flag: after for name, flag, _, after in state.changed_by_import if name == library}
        if lost := [flag for flag, after in changes.items() if _switch(flag) and after == "False"]:
            module = LIBRARIES.get(library, library)
            how, after_import = f"by importing {library}", {**state.flags, **changes}
            yield _switched_off(lost, after_import, how, f"import {module}, torch", on_gpu=state.cuda_available)


def _switched_off(off: list[str], flags: Mapping[str, str], how: str, imports: str, *, on_gpu: bool) -> Finding:
    kernels = ", ".join(_kernel(flag) for flag in off)
    left = _left(flags, on_gpu=on_gpu)
    if not left:
        level, effect = Severity.ERROR, "no kernel is left: every SDPA call fails with 'No viable backend'"
    elif _MATH in off:
        level = Severity.WARNING
        effect = f"calls that {', '.join(left)} cannot take fail with 'No available kernel. Aborting execution.'"
    else:
        level = Severity.NOTE if off == [_CUDNN] else Severity.WARNING
        effect = f"SDPA is left with {', '.join(left)}: still right, maybe slower"
    names = [flag.replace(_ENABLED, "_sdp").replace("cuda.", "cuda.enable_") for flag in off]
    # One to paste as a whole: pages show the first of several, which would mend a part.
    setting = Setting(
        "torch", ", ".join(names), ", ".join("True" for _ in names), "\n".join(f"{name}(True)" for name in names)
    )
    why = f", if you need {'them' if len(off) > 1 else 'it'}." if left else ": SDPA is left with none."
    return Finding(
        DISABLES_KERNELS.code,
        DISABLES_KERNELS.slug,
        level,
        f"SDPA's {kernels} kernel{'s are' if len(off) > 1 else ' is'} switched off {how}; {effect}",
        Basis.MEASURED,
        evidence=Evidence(requested=how, effective="; ".join(f"{flag} = False" for flag in off)),
        reproduction=f'python -c "{imports}; print({", ".join(off)})"',
        recommendations=(Recommendation(f"Switch {kernels} on after all imports{why}", (setting,)),),
    )


def _left(flags: Mapping[str, str], *, on_gpu: bool) -> list[str]:
    """The kernels that are on, of those that the device has."""
    switches = {flag: value for flag, value in flags.items() if _switch(flag) and (on_gpu or flag in _ON_CPU)}
    return [_kernel(flag) for flag, value in switches.items() if value == "True"]


def all_off(state: TorchState) -> bool:
    """True when no SDPA kernel is left from the start of Python; False also where no switch could be read."""
    return any(map(_switch, state.flags)) and not _left(state.flags, on_gpu=state.cuda_available)


def changed_flags(machine: Machine) -> Iterator[Finding]:
    """Notes about further flags that an import changes."""
    for library, flag, before, after in _state(machine).changed_by_import:
        if _switch(flag) or flag == _BUILT:
            continue
        name, _, call = flag.partition("(")
        module = LIBRARIES.get(library, library)
        # Most are read by get_x() or x_enabled() and set by a function of another name; plain attributes are assigned.
        paste = f"{name} = {before}" if not call else f"print({flag})  # before importing {library}: {before}"
        yield Finding(
            FLAG_CHANGED.code,
            FLAG_CHANGED.slug,
            Severity.NOTE,
            f"importing {library} changes {flag} from {before} to {after}",
            Basis.MEASURED,
            evidence=Evidence(declared=f"{flag} = {before} after import torch", effective=f"{after} after {library}"),
            reproduction=f'python -c "import {module}, torch; print({flag})"',
            recommendations=(
                Recommendation("Set it yourself after the imports.", (Setting("torch", flag, before, paste),)),
            ),
        )


def unstarted(machine: Machine) -> Iterator[Finding]:
    """CUDA that cannot start although the driver shows GPUs, or torch seeing other GPUs than the driver."""
    state, environment = _state(machine), machine.environment
    if not environment.gpus or not state.cuda:
        return  # without a GPU nothing is amiss, and a build without CUDA is another rule's
    listed = ", ".join(gpu.name for gpu in environment.gpus)
    if not state.cuda_available:
        if "too old" in state.cuda_error:
            return  # the driver's age is another rule's
        reason = state.cuda_error or "torch gives no reason"
        yield _cuda_finding(
            Severity.ERROR,
            f"the driver shows {listed}, but torch {state.version} cannot start CUDA: {reason}",
            Evidence(declared=f"driver {environment.driver}: {listed}", effective=reason),
        )
    elif len(state.devices) < len(environment.gpus) and "MIG" not in environment.gpu_note:
        seen = ", ".join(name for name, _ in state.devices) or "none"
        yield _cuda_finding(
            Severity.WARNING,
            f"the driver shows {len(environment.gpus)} GPUs to this process, torch sees {len(state.devices)}: {seen}",
            Evidence(declared=listed, effective=seen),
        )


def _cuda_finding(level: Severity, message: str, evidence: Evidence) -> Finding:
    paste = "python -c 'import torch; torch.cuda.init(); print(torch.cuda.device_count())'"
    advice = "See what torch says, remove that cause, and start again (a restart helps when a GPU hangs)."
    return Finding(
        CUDA_NOT_STARTED.code,
        CUDA_NOT_STARTED.slug,
        level,
        message,
        Basis.MEASURED,
        evidence=evidence,
        reproduction=paste,
        recommendations=(Recommendation(advice, (Setting("shell", "torch.cuda.init", "", paste),)),),
    )


def without_flash(machine: Machine) -> Iterator[Finding]:
    """A note where a torch for CUDA has no flash kernel."""
    state = _state(machine)
    if state.cuda and state.flags.get(_BUILT) == "False":
        where = ", as is usual on Windows" if machine.environment.platform.startswith("Windows") else ""
        paste = 'attn_implementation="sdpa"'
        yield Finding(
            WITHOUT_FLASH.code,
            WITHOUT_FLASH.slug,
            Severity.NOTE,
            f"torch {state.version} was compiled without its flash kernel{where}: SDPA uses another kernel, which costs "
            f"speed only",
            Basis.MEASURED,
            evidence=Evidence(effective=f"{_BUILT} = False"),
            reproduction=f'python -c "import torch; print({_BUILT})"',
            recommendations=(
                Recommendation("Nothing to mend.", (Setting("transformers", "attn_implementation", "sdpa", paste),)),
            ),
        )


def uncompiled(machine: Machine) -> Iterator[Finding]:
    """A warning where torch.compile is off and a GPU waits for flex_attention's kernel; a note on a CPU."""
    switches = [name for name in FLEX_SWITCHES if machine.environment.variables.get(name) == "1"]
    if switches and machine.environment.version("torch") is not None:
        given = " and ".join(f"{name}=1" for name in switches)
        setting = Setting("shell", " ".join(switches), "unset", f"unset {' '.join(switches)}")
        yield Finding(
            FLEX_UNCOMPILED.code,
            FLEX_UNCOMPILED.slug,
            Severity.WARNING if machine.environment.gpus else Severity.NOTE,
            f"{given} {'are' if len(switches) > 1 else 'is'} set: flex_attention runs uncompiled, with the memory and "
            f"speed of plain attention",
            Basis.STATIC,
            evidence=Evidence(requested=given, effective="torch.compile does nothing"),
            reproduction=f"printenv {' '.join(switches)}",
            recommendations=(Recommendation("Unset it." if len(switches) == 1 else "Unset both.", (setting,)),),
        )


def _state(machine: Machine) -> TorchState:
    assert machine.torch is not None, "the check needs `torch`"
    return machine.torch


def _switch(flag: str) -> bool:
    """True for the on-off switch of an SDPA kernel."""
    return flag.endswith(_ENABLED)


def _kernel(flag: str) -> str:
    return flag.rpartition(".")[2].removesuffix(_ENABLED).replace("mem_efficient", "memory-efficient")


GROUP = RuleGroup(
    "settings",
    (DISABLES_KERNELS, FLAG_CHANGED, CUDA_NOT_STARTED, WITHOUT_FLASH, FLEX_UNCOMPILED),
    order=93,
    machine=(
        MachineCheck(DISABLES_KERNELS, disabled_kernels, ("torch",)),
        MachineCheck(FLAG_CHANGED, changed_flags, ("torch",)),
        MachineCheck(CUDA_NOT_STARTED, unstarted, ("torch",), idle=lambda m: without_gpu(m) or without_cuda(m)),
        MachineCheck(WITHOUT_FLASH, without_flash, ("torch",), idle=without_cuda),
        MachineCheck(FLEX_UNCOMPILED, uncompiled),
    ),
)
