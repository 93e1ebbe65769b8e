"""Reads the whole inventory: builds, owners of files, copies, unmet requirements. Imports nothing it reports on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

from attncheck.environment import LIBRARIES, Environment
from attncheck.installed.builds import read_build
from attncheck.installed.distributions import Installed, normalised, scan
from attncheck.installed.inventory import Copies, Inventory, Unmet
from attncheck.installed.ownership import missing_files, read_ownership

#: Distributions that the libraries of `LIBRARIES` fall apart into, or that other packages replace them by.
COMPANIONS = (
    "transformer-engine-torch",
    "transformer-engine-cu12",
    "transformer-engine-cu13",
    "nvidia-cutlass-dsl",
    "nvidia-cutlass-dsl-libs-base",
    "nvidia-cutlass-dsl-libs-core",
    "nvidia-cutlass-dsl-libs-cu12",
    "nvidia-cutlass-dsl-libs-cu13",
    "quack-kernels",
    "apache-tvm-ffi",
    "torch-c-dlpack-ext",
    "pytorch-triton",
    "vllm-flash-attn",
    "sageattention",
)

#: Those whose shared objects are read: they hold or launch GPU code of their own. cuDNN's libraries are left out: their
#: gigabytes cover every GPU that the CUDA they belong to covers.
NATIVE = frozenset(
    [
        "torch",
        "flash-attn",
        "flash-attn-3",
        "xformers",
        "transformer-engine-torch",
        "transformer-engine-cu12",
        "transformer-engine-cu13",
        "vllm",
        "vllm-flash-attn",
        "sageattention",
        "bitsandbytes",
        "nvidia-cudnn-frontend",
    ]
)

#: Those whose files must all be there: small packages that share a folder with others, so that removing one may take
#: files of another along.
COMPLETE = frozenset(["flash-attn", "flash-attn-3", "flash-attn-4", "xformers", "transformer-engine", *COMPANIONS])
#: Import packages that many distributions fill by design.
_SHARED = frozenset(["nvidia", "nvidia.cudnn"])
#: Those whose requirements are not looked at: they hold no kernels, or pin what they were released with.
WITHOUT_REQUIREMENTS = frozenset(
    [
        "accelerate",
        "deepspeed",
        "llamafactory",
        "llava",
        "llava-torch",
        "nvidia-ml-py",
        "peft",
        "sglang",
        "torch",
        "transformers",
        "trl",
        "unsloth",
        "vllm",
    ]
)


def read_inventory(environment: Environment, path: Iterable[str] | None = None) -> Inventory:
    """Read it, here and now, for the distributions that `environment` lists. path: to look on, None = sys.path.

    Never raises for what is absent, damaged or unreadable: what could not be read is empty.
    """
    installed = scan(sys.path if path is None else path)
    matter = [name for name in (*(library.name for library in environment.libraries), *COMPANIONS) if name in installed]
    matter = list(dict.fromkeys(normalised(name) for name in matter))
    modules = {name for module in LIBRARIES.values() for name in (module, module.partition(".")[0])} - _SHARED
    clobbered, packages = read_ownership(installed, matter, modules)
    return Inventory(
        builds={name: read_build(installed[name][0], native=name in NATIVE) for name in matter},
        clobbered=clobbered,
        copies=tuple(_copies(name, installed[name]) for name in matter if len(installed[name]) > 1),
        unmet=_unmet(installed, [name for name in matter if name not in WITHOUT_REQUIREMENTS]),
        incomplete=tuple(found for name in matter if name in COMPLETE and (found := missing_files(installed[name][0]))),
        versions=_versions(installed),
        packages=packages,
    )


def _unmet(installed: Mapping[str, Sequence[Installed]], names: Sequence[str]) -> tuple[Unmet, ...]:
    if not names:
        return ()
    from attncheck.installed.requirements import read_unmet  # parses markers, which takes longer to import than to do

    return read_unmet(installed, names)


def _copies(name: str, found: Sequence[Installed]) -> Copies:
    return Copies(name, tuple((str(entry.folder), entry.version) for entry in found))


def _versions(installed: Mapping[str, Sequence[Installed]]) -> dict[str, str]:
    return {name: found[0].version for name, found in sorted(installed.items())}
