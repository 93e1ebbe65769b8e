"""What is installed: versions from metadata, the torch build from text, GPUs; imports no library it reports on."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from attncheck.gpus import Gpu, read_gpus

__all__ = [
    "ACTING_VARIABLES",
    "LIBRARIES",
    "Environment",
    "Gpu",
    "Library",
    "read_environment",
    "read_library",
    "torch_build",
]

#: Distribution name -> module it installs, for the libraries that decide which attention runs or how it is called.
LIBRARIES: Mapping[str, str] = {
    "torch": "torch",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "peft": "peft",
    "trl": "trl",
    "bitsandbytes": "bitsandbytes",
    "flash-attn": "flash_attn",
    "flash-attn-3": "flash_attn_interface",
    "flash-attn-4": "flash_attn.cute",
    "xformers": "xformers",
    "kernels": "kernels",
    "triton": "triton",
    "nvidia-cudnn-cu12": "nvidia.cudnn",
    "nvidia-cudnn-cu13": "nvidia.cudnn",
    "nvidia-cudnn-frontend": "cudnn",
    "transformer-engine": "transformer_engine",
    "flashinfer-python": "flashinfer",
    "deepspeed": "deepspeed",
    "unsloth": "unsloth",
    "llamafactory": "llamafactory",
    "llava": "llava",
    "llava-torch": "llava",
    "vllm": "vllm",
    "sglang": "sglang",
    "nvidia-ml-py": "pynvml",
}

#: Distribution -> a file that every release has in its package and a stray package of that name has not.
_OWN_FILES: Mapping[str, str] = {"torch": "version.py", "transformers": "modeling_utils.py"}

#: Environment variables that change which attention runs, which device it runs on, or where configs come from.
#: A variable that is widely recommended but acts on nothing stands in `INERT_VARIABLES`.
ACTING_VARIABLES = (
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "FLASH_ATTENTION_ARCH",
    "FLASH_ATTENTION_DETERMINISTIC",
    "FLASH_ATTENTION_TRITON_AMD_ENABLE",
    "HF_HUB_OFFLINE",
    "NVIDIA_TF32_OVERRIDE",
    "NVTE_ALLOW_NONDETERMINISTIC_ALGO",
    "NVTE_FLASH_ATTN",
    "NVTE_FLASH_ATTN_V2",
    "NVTE_FLASH_ATTN_V3",
    "NVTE_FLASH_ATTN_V4",
    "NVTE_FUSED_ATTN",
    "NVTE_FUSED_ATTN_USE_FAv2_BWD",
    "NVTE_UNFUSED_ATTN",
    "TORCHDYNAMO_DISABLE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_COMPILE_DISABLE",
    "TORCH_CUDNN_SDPA_DEPRIORITIZED",
    "TORCH_ROCM_FA_PREFER_CK",
    "TRANSFORMERS_OFFLINE",
    "TRANSFORMERS_SDPA_FORCE_GQA",
    "UNSLOTH_COMPILE_DISABLE",
    "UNSLOTH_ENABLE_FLEX_ATTENTION",
    "UNSLOTH_FLASH_ATTENTION_IMPL",
    "UNSLOTH_GEMMA4_FLASH_SLIDING",
    "UNSLOTH_SDPA_CUDNN_BUCKET",
    "UNSLOTH_SDPA_DECODE_CUDNN",
    "UNSLOTH_SDPA_PACKED_SEGMENTS",
    "UNSLOTH_SDPA_TRAIN_CUDNN",
    "USE_HUB_KERNELS",
    "XFORMERS_FORCE_DISABLE_TRITON",
    "XFORMERS_IGNORE_FLASH_VERSION_CHECK",
)

#: Environment variables that people set although no library here reads them; `checks/variables.toml` says how that is
#: known. They are read to say so.
INERT_VARIABLES = (
    "ATTN_IMPLEMENTATION",
    "DISABLE_FLASH_ATTENTION",
    "DISABLE_FLASH_ATTN",
    "DISABLE_XFORMERS",
    "ENABLE_FLASH_ATTN",
    "FLASH_ATTENTION_DISABLE",
    "FLASH_ATTENTION_DISABLED",
    "FLASH_ATTN_DISABLE",
    "HF_ATTN_IMPLEMENTATION",
    "NO_FLASH_ATTN",
    "NVTE_FUSED_ATTN_BACKEND",
    "NVTE_FUSED_ATTN_FORCE_WORKSPACE_OPT",
    "PYTORCH_DISABLE_FLASH_ATTENTION",
    "PYTORCH_ENABLE_SDPA",
    "PYTORCH_SDP_BACKEND",
    "TORCH_ATTN_IMPLEMENTATION",
    "TORCH_CUDNN_SDPA_ENABLED",
    "TORCH_DISABLE_FLASH_ATTENTION",
    "TORCH_SDPA_BACKEND",
    "TRANSFORMERS_ATTN_IMPLEMENTATION",
    "TRANSFORMERS_NO_FLASH_ATTN",
    "USE_FLASH_ATTENTION",
    "USE_FLASH_ATTENTION_2",
    "USE_FLASH_ATTN",
    "USE_FLASH_ATTN_2",
    "XFORMERS_DISABLED",
)


@dataclass(frozen=True, slots=True)
class Library:
    """An installed distribution. version is None when it is absent.

    origin: the package folder, or the file of a module that is no package, that `import` loads where that is not what
    the metadata describes; "" otherwise. copy: that is another copy of the library, not something of the same name.
    """

    name: str
    version: str | None
    note: str = ""
    origin: str = ""
    copy: bool = False


@dataclass(frozen=True, slots=True)
class Environment:
    """What is installed, read without importing it.

    libraries: every distribution that was looked for, the absent ones with version None. gpus: the GPUs that a process
    started here would see. gpu_note: why there is none, or what could not be read. variables: those of
    `ACTING_VARIABLES` that are set; inert: those of `INERT_VARIABLES`. torch_cuda: CUDA version torch was
    built for, "" for a build without CUDA, None when torch is absent or its build text could not be read. torch_hip:
    ROCm version torch was built for, "" otherwise. sources: group of facts -> where it was read.
    """

    python: str
    platform: str
    libraries: tuple[Library, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    gpu_note: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    torch_cuda: str | None = None
    torch_hip: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    inert: Mapping[str, str] = field(default_factory=dict)

    def version(self, name: str) -> str | None:
        """Version of a distribution, None when it is absent or was not looked up."""
        return next((library.version for library in self.libraries if library.name == name), None)

    def origin(self, name: str) -> str:
        """What `import` loads for a distribution where that is not its own code, "" otherwise."""
        return next((library.origin for library in self.libraries if library.name == name), "")


def read_environment() -> Environment:
    """Read everything, here and now. Never raises for what is absent or broken: the notes say what was met."""
    gpus, driver, gpu_note, gpu_source = read_gpus(os.environ)
    build = torch_build()
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        libraries=tuple(read_library(name, module, build) for name, module in LIBRARIES.items()),
        gpus=gpus,
        driver=driver,
        gpu_note=gpu_note,
        variables={name: os.environ[name] for name in ACTING_VARIABLES if name in os.environ},
        inert={name: os.environ[name] for name in INERT_VARIABLES if name in os.environ},
        torch_cuda=build.get("cuda") if build else None,
        torch_hip=build.get("hip", "") if build else "",
        sources={
            "libraries": "package metadata",
            "torch build": "torch/version.py, read as text",
            "gpus": gpu_source,
        },
    )


def read_library(name: str, module: str, build: Mapping[str, str] | None = None) -> Library:
    """One distribution. The note says when what would be imported is not what the metadata describes."""
    found = list(importlib.metadata.distributions(name=name))
    origin = _module_origin(module)
    if not found:
        if origin is None or name not in ("torch", "transformers", "flash-attn", "xformers"):
            return Library(name, None)
        return Library(name, None, f"no package metadata, but `import {module}` would load {origin}", str(origin))
    first = found[0]
    notes = []
    if name == "torch" and build is not None:
        notes.append(_build_words(build))
    beside = sorted({_version(entry) for entry in found if entry.locate_file("") == first.locate_file("")})
    if len(beside) > 1:
        notes.append(f"metadata of {len(beside)} versions lies there: {', '.join(beside)}")
    if origin is None or _belongs(origin, first):
        return Library(name, _version(first), "; ".join(notes))
    notes.append(f"the code comes from {origin}, not from where this version was read")
    copy = name in _OWN_FILES and (origin / _OWN_FILES[name]).is_file()
    return Library(name, _version(first), "; ".join(notes), str(origin), copy)


def _version(distribution: importlib.metadata.Distribution) -> str:
    """What the metadata says, "unknown" where it is damaged or names none."""
    try:
        return str(distribution.metadata["Version"] or "unknown")
    except (OSError, ValueError, KeyError, TypeError):  # what a damaged file raises differs between Python versions
        return "unknown"


def torch_build() -> Mapping[str, str] | None:
    """The assignments of torch/version.py (`cuda`, `hip`, `xpu`, `debug` ...), read as text; "" stands for None.

    None when torch cannot be found or the file cannot be read.
    """
    origin = _module_origin("torch")
    if origin is None:
        return None
    try:
        tree = ast.parse((origin / "version.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    build: dict[str, str] = {}
    for statement in tree.body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and isinstance(statement.value, ast.Constant):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    build[target.id] = "" if statement.value.value is None else str(statement.value.value)
    return build


def _module_origin(module: str) -> Path | None:
    """What `import module` would load, without importing it: a package's folder, or the file of a module.

    Of a dotted name, its first part's. None where nothing is found, or no file stands for it (a namespace package).
    """
    parent = module.split(".")[0]
    if (loaded := sys.modules.get(parent)) is not None and not getattr(loaded, "__spec__", None):
        return None
    try:
        spec = importlib.util.find_spec(parent)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin) if spec.submodule_search_locations is None else Path(spec.origin).parent


def _belongs(origin: Path, distribution: importlib.metadata.Distribution) -> bool:
    """True when the code lies beside its metadata, or was installed in editable form (code elsewhere)."""
    try:
        if '"editable": true' in (distribution.read_text("direct_url.json") or ""):
            return True
    except (OSError, ValueError):  # damaged: pip then knows of no editable install either
        pass
    return Path(str(distribution.locate_file(""))).resolve() == origin.parent.resolve()


def _build_words(build: Mapping[str, str]) -> str:
    for key, name in (("cuda", "CUDA"), ("hip", "ROCm"), ("xpu", "XPU")):
        if build.get(key):
            return f"built for {name} {build[key]}"
    return "built for CPU only"
