"""Commands that mend an installation: which wheel fits the running torch, CUDA and Python, and how to get it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePath

from attncheck.checks.machine import Machine
from attncheck.environment import Library
from attncheck.findings import Recommendation, Setting
from attncheck.installed.inventory import Unmet

#: Indexes of https://download.pytorch.org/whl/ for CUDA (11.8 up to 13.0), oldest first.
_INDEXES = ((11, 8), (12, 1), (12, 4), (12, 6), (12, 8), (12, 9), (13, 0))
_INDEX = "https://download.pytorch.org/whl/"
#: Libraries that are compiled against torch when they are installed, or whose setup picks the wheel that fits it.
_COMPILED_HERE = ("flash-attn", "flash-attn-3", "transformer-engine-torch", "sageattention")
#: Distributions whose native parts are others, the one that is compiled against torch first: reinstalling the
#: distribution alone changes nothing. It installs the first of them when its extra `pytorch` is asked for.
_NATIVE_PARTS = {
    "transformer-engine": ("transformer-engine-torch", "transformer-engine-cu12", "transformer-engine-cu13")
}
#: Import package -> distribution, for what the libraries import of one another; the longest name that fits counts.
_PROVIDERS = {
    "cuda": "cuda-python",
    "cuda.bindings": "cuda-bindings",
    "cudnn": "nvidia-cudnn-frontend",
    "cutlass": "nvidia-cutlass-dsl",
    "cutlass.cute": "nvidia-cutlass-dsl-libs-core",
    "einops": "einops",
    "flash_attn.cute": "flash-attn-4",
    "flash_attn_2_cuda": "flash-attn",
    "nvdlfw_inspect": "nvdlfw-inspect",
    "onnxscript": "onnxscript",
    "quack": "quack-kernels",
    "torch": "torch",
    "torch_c_dlpack_ext": "torch-c-dlpack-ext",
    "transformer_engine_torch": "transformer-engine-torch",
    "triton": "triton",
    "tvm_ffi": "apache-tvm-ffi",
}


def reinstall(machine: Machine, name: str) -> Recommendation:
    """How to get the build of a distribution that fits the torch, CUDA and Python that run here."""
    environment = machine.environment
    torch = environment.version("torch") or ""
    parts = _NATIVE_PARTS.get(name, ())
    here = [part for part in parts if _version(machine, part) is not None]
    pinned = _pinned(machine, name)
    if name == "torch":
        return pip("Reinstall torch.", name, f"--force-reinstall {pinned} --index-url {_INDEX}{torch_tag(machine)}")
    if not environment.torch_cuda and name in ("xformers", *_NATIVE_PARTS, *_COMPILED_HERE):
        text = f"{name} needs a torch that is built for CUDA: install one on a GPU machine, or remove {name} here."
        return Recommendation(text, (Setting("pip", name, "uninstall", f"pip uninstall {' '.join([name, *here])}"),))
    if parts and parts[0] not in here:
        wanted = pinned.replace(name, f"{name}[pytorch]")
        return pip(f"Install {name} with its part for torch, {parts[0]}.", name, f'--no-build-isolation "{wanted}"')
    if parts:
        name, pinned = parts[0], _pinned(machine, parts[0])
    if name == "xformers":
        text = f"Install the xformers release for torch {torch}; each is built for one torch and CUDA version."
        return pip(text, name, f"--force-reinstall --no-deps xformers --index-url {_INDEX}{torch_tag(machine)}")
    if name in _COMPILED_HERE:
        text = f"Reinstall {name} for torch {torch}: pip takes the published wheel that fits, or compiles it."
        if name == "flash-attn":
            text += f" The wheel that fits is tagged {wheel_tag(machine)}."
        return pip(text, name, f"--force-reinstall --no-deps --no-cache-dir --no-build-isolation {pinned}")
    return pip(f"Reinstall {name}.", name, f"--force-reinstall --no-deps --no-cache-dir {pinned}")


def install_module(machine: Machine, module: str) -> Recommendation | None:
    """How to get the distribution behind an import package, None when that is not known."""
    parts = module.split(".")
    names = [".".join(parts[: count + 1]) for count in range(len(parts))]
    provider = next((_PROVIDERS[name] for name in reversed(names) if name in _PROVIDERS), None)
    if provider is None:
        return None
    if _version(machine, provider) is not None:
        return reinstall(machine, provider)
    unmet = machine.inventory.unmet if machine.inventory is not None else ()
    wanted = next((entry.requirement for entry in unmet if _named(entry.requirement) == provider), provider)
    return pip(f"Install {provider}.", provider, f'"{wanted}"')


def install(unmet: Sequence[Unmet]) -> Recommendation:
    """How to meet requirements. unmet: at least one."""
    wanted = " ".join(f'"{entry.requirement}"' for entry in unmet)
    return pip("Install what is required.", unmet[0].name, wanted)


def torch_for_driver(machine: Machine, text: str) -> Recommendation:
    """How to get a torch build that the driver can run, by the newest index that is not above the driver's CUDA."""
    found = re.search(r"CUDA (\d+)\.(\d+)", machine.environment.driver)
    offered = (int(found[1]), int(found[2])) if found else _INDEXES[-2]
    index = max((entry for entry in _INDEXES if entry <= offered), default=_INDEXES[0])
    tag = f"cu{index[0]}{index[1]}"
    return pip(text, "torch", f"--force-reinstall torch --index-url {_INDEX}{tag}", value=tag)


def pip(text: str, name: str, arguments: str, value: str = "") -> Recommendation:
    """A recommendation whose setting is one pip command."""
    return Recommendation(text, (Setting("pip", name, value or arguments, f"pip install {arguments}"),))


def without_shadow(library: Library) -> Recommendation:
    """What to do about a file or folder that stands before an installed library on Python's path: its `origin`."""
    place = PurePath(library.origin)
    if library.copy:
        text = f"Take {place.parent} out of PYTHONPATH. If it is meant, install it: its version is known then."
        return Recommendation(text, (Setting("shell", "PYTHONPATH", "", "unset PYTHONPATH"),))
    kind = "file" if is_file(library.origin) else "folder"
    paste = f"mv {shlex.quote(str(place))} {shlex.quote(str(place.with_name(f'my_{place.name}')))}"
    return Recommendation(f"Rename or remove that {kind}.", (Setting("shell", "mv", "", paste),))


def is_file(origin: str) -> bool:
    """True for a module that is one file; a package's folder has no suffix."""
    return bool(PurePath(origin).suffix)


def torch_tag(machine: Machine) -> str:
    """`cu130` or `cpu`: what the installed torch is built for, as the indexes of torch name it."""
    cuda = machine.environment.torch_cuda
    return f"cu{cuda.replace('.', '')}" if cuda else "cpu"


def wheel_tag(machine: Machine) -> str:
    """`cu13torch2.11cxx11abiTRUE-cp312`: the tag of a flash-attn wheel that fits what runs here."""
    environment = machine.environment
    cuda = f"cu{environment.torch_cuda.partition('.')[0]}" if environment.torch_cuda else ""
    torch = ".".join((environment.version("torch") or "").split(".")[:2])
    build = machine.inventory.builds.get("torch") if machine.inventory is not None else None
    abi = (build.cxx11abi if build is not None else "") or "TRUE"
    return f"{cuda}torch{torch}cxx11abi{abi}-{python_tag(environment.python)}"


def python_tag(version: str) -> str:
    """`cp312` for 3.12.4."""
    return "cp" + "".join(version.split(".")[:2])


def public(version: str) -> str:
    """A version without its local part: what an index knows."""
    return version.partition("+")[0]


def _version(machine: Machine, name: str) -> str | None:
    known = machine.environment.version(name)
    if known is None and machine.inventory is not None:
        return machine.inventory.versions.get(name)
    return None if known == "unknown" else known  # damaged metadata: nothing that pip could pin


def _pinned(machine: Machine, name: str) -> str:
    """`flash-attn==2.8.3`, the bare name where the version is not known."""
    version = public(_version(machine, name) or "")
    return f"{name}=={version}" if version else name


def _named(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0]
