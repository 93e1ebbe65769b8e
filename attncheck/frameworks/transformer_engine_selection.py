"""Which backend TransformerEngine would select for a call, and why not the others: pure, from its releases' rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from attncheck.environment import Environment
from attncheck.frameworks.transformer_engine_filters import Drop
from attncheck.frameworks.transformer_engine_packages import ACCEPTS, KNOWS_SINCE, PREFERS_FUSED, Accepts
from attncheck.frameworks.transformer_engine_params import (
    BACKENDS,
    FLASH,
    FLASH_2,
    FLASH_3,
    FLASH_4,
    FUSED,
    UNFUSED,
    Params,
)
from attncheck.frameworks.transformer_engine_rules import DROPS

#: Distribution behind each flash backend. Before 2.5 FlashAttention 3 was looked for as flashattn-hopper, which
#: attncheck does not look for.
DISTRIBUTIONS = {FLASH_2: "flash-attn", FLASH_3: "flash-attn-3", FLASH_4: "flash-attn-4"}
#: Distributions that bring cuDNN.
CUDNN = ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12")

SOURCE = "get_attention_backend"
#: Where that function lies since 2.3, and before.
FILES = (
    ("2.3", "transformer_engine/pytorch/attention/dot_product_attention/utils.py"),
    ("1.9", "transformer_engine/pytorch/attention.py"),
)

#: Environment variables of TransformerEngine's attention -> (first release, first release without) that reads them.
#: The fused ones were looked for in the Python sources and in libtransformer_engine.so.
VARIABLES: Mapping[str, tuple[str, str]] = {
    "NVTE_FLASH_ATTN": ("1.9", ""),
    "NVTE_FUSED_ATTN": ("1.9", ""),
    "NVTE_UNFUSED_ATTN": ("1.9", ""),
    "NVTE_FLASH_ATTN_V2": ("2.18", ""),
    "NVTE_FLASH_ATTN_V3": ("2.18", ""),
    "NVTE_FLASH_ATTN_V4": ("2.18", ""),
    "NVTE_ALLOW_NONDETERMINISTIC_ALGO": ("1.9", ""),
    "NVTE_FUSED_ATTN_USE_FAv2_BWD": ("1.9", ""),
    "NVTE_FUSED_ATTN_BACKEND": ("1.9", "2.16"),
    "NVTE_FUSED_ATTN_FORCE_WORKSPACE_OPT": ("1.9", "2.18"),
}


@dataclass(frozen=True, slots=True)
class Against:
    """Why a backend is not used. drop: the filter, None where the backend is missing or a better one is preferred.

    absent: its package is missing, or the release does not take it.
    """

    backend: str
    says: str
    drop: Drop | None = None
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """What `get_attention_backend` returns. chosen: None where no backend is left and the call raises.

    available: backends that could serve the call, in TransformerEngine's order of preference.
    """

    chosen: str | None
    available: tuple[str, ...]
    against: tuple[Against, ...]

    def why_not(self, backend: str) -> tuple[str, ...]:
        """What speaks against a backend, in TransformerEngine's words."""
        return tuple(entry.says for entry in self.against if entry.backend == backend)


def select(version: Version, params: Params) -> Selection:
    """The backend of that release for this call on this machine."""
    against: list[Against] = []
    for backend in BACKENDS:
        if missing := _missing(backend, version, params):
            against.append(Against(backend, missing, absent=True))
        against += [
            Against(backend, f"Disabling {backend} {drop.says}", drop)
            for drop in DROPS
            if backend in drop.drops and drop.acts(version) and drop.when(params)
        ]
    gone = {entry.backend for entry in against}
    flash = [backend for backend in reversed(FLASH) if backend not in gone]
    fused_first = next(rule for since, rule in PREFERS_FUSED if version >= Version(since))(params.capability)
    order = [*flash[:1], *[FUSED][: FUSED not in gone], *[UNFUSED][: UNFUSED not in gone]]
    if flash and FUSED in order and fused_first:
        order = [FUSED, flash[0], *order[2:]]
        says = f"Disabling FlashAttention to give {FUSED} preference on Hopper+ for performance reasons"
        against += [Against(backend, says) for backend in flash]
    return Selection(order[0] if order else None, tuple(order), tuple(against))


def _missing(backend: str, version: Version, params: Params) -> str:
    """Why the package of a flash backend is not used by that release, "" when it is."""
    if backend not in FLASH:
        return ""
    distribution, since = DISTRIBUTIONS[backend], KNOWS_SINCE[backend]
    if version < Version(since):
        return f"TransformerEngine knows {backend} from {since} on"
    found = params.flash.get(backend)
    if found is None:
        return f"{distribution} is not installed"
    if backend == FLASH_3 and version < Version("2.3") and (why := _missing(FLASH_2, version, params)):
        return f"{backend} is used beside flash-attn 2 only, and {why}"
    if backend == FLASH_2:
        accepts = accepted(version)
        if not accepts.takes(found, params.capability):
            return f"{distribution} {found} is not taken: this release supports {accepts.words}"
    return ""


def accepted(version: Version) -> Accepts:
    """The flash-attn 2 that a release takes."""
    return next(row for row in ACCEPTS if version >= Version(row.since))


def source(version: Version) -> str:
    """Where the selection of a release can be read."""
    return f"{SOURCE}, {next(path for since, path in FILES if version >= Version(since))} ({version})"


def acts(variable: str, version: Version) -> bool:
    """True when that release reads the environment variable."""
    since, below = VARIABLES[variable]
    return Version(since) <= version and (not below or version < Version(below))


def installed(environment: Environment, said: Mapping[str, str]) -> dict[str, Version]:
    """The flash-attention packages here, by backend. said: versions that win over those here, "" for an absent one."""
    found = {
        backend: parsed(said[name] if name in said else environment.version(name))
        for backend, name in DISTRIBUTIONS.items()
    }
    return {backend: version for backend, version in found.items() if version is not None}


def cudnn(environment: Environment, said: Mapping[str, str]) -> tuple[int, ...] | None:
    """The version of the cuDNN that torch brings, None when it is not a package. said: as of `installed`."""
    here = (environment.version(name) for name in CUDNN)
    versions = (parsed(text) for text in ((said["cudnn"],) if "cudnn" in said else here))
    return next((version.release[:3] for version in versions if version is not None), None)


def parsed(version: str | None) -> Version | None:
    """A version text as a version, None for none or nonsense."""
    try:
        return Version(version) if version else None
    except InvalidVersion:
        return None
