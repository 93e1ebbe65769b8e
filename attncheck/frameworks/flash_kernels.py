"""What transformers puts in the place of a missing flash-attention package, by version: hub kernels, as data."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import InvalidVersion, Version


@dataclass(frozen=True, slots=True)
class Fallback:
    """The fallback rules from one transformers version on, read in its source.

    since: first version. repositories: flash name -> hub kernel. kernels_min (inclusive), kernels_below (exclusive):
    the versions of the `kernels` package it accepts, "" for any.
    """

    since: str
    repositories: tuple[tuple[str, str], ...]
    kernels_min: str = ""
    kernels_below: str = ""

    def repository(self, implementation: str) -> str | None:
        """The hub kernel for a flash name, None when a missing package is simply an error."""
        return dict(self.repositories).get(implementation)

    def accepts(self, kernels: str | None) -> bool:
        """True when this version of the `kernels` package makes the fallback happen; None is "not installed"."""
        if kernels is None:
            return False
        version = parsed(kernels)
        return (not self.kernels_min or version >= Version(self.kernels_min)) and (
            not self.kernels_below or version < Version(self.kernels_below)
        )


_FA2_OLD = ("flash_attention_2", "kernels-community/flash-attn")
_FA2 = ("flash_attention_2", "kernels-community/flash-attn2")
_FA3 = ("flash_attention_3", "kernels-community/vllm-flash-attn3")
_FA4 = ("flash_attention_4", "kernels-community/flash-attn4")

#: Newest first. Versions whose source was read; those between two rows are taken to follow the older row.
FALLBACKS = (
    Fallback("5.23", (_FA2, _FA3, _FA4), kernels_min="0.18.2", kernels_below="0.19.0"),
    Fallback("5.6", (_FA2, _FA3, _FA4), kernels_min="0.10.2"),
    Fallback("5.0", (_FA2, _FA3), kernels_min="0.9.0"),
    Fallback("4.57", (_FA2_OLD, _FA3)),
    Fallback("4.56", (_FA2_OLD,)),
)

#: First version that knows a name. Anything older refuses it. The flash-attention names are read from the sources of
#: 4.48 to 5.23; `flex_attention` entered the attention mapping in 4.48.
KNOWN_SINCE = {
    "sdpa": "4.36",
    "flash_attention_2": "4.36",
    "flex_attention": "4.48",
    "flash_attention_3": "4.53",
    "flash_attention_4": "5.5",
}

#: Names whose kernels run on GPUs only.
FLASH_NAMES = tuple(name for name in KNOWN_SINCE if name.startswith("flash_attention_"))

#: Kernels that follow the call contract of a flash name closely enough to be predicted by it. vllm-flash-attn3 is left
#: out: it takes sinks (`s_aux`), which the FA3 contract does not have.
CONTRACTS = {
    "kernels-community/flash-attn": "flash_attention_2",
    "kernels-community/flash-attn2": "flash_attention_2",
    "kernels-community/flash-attn4": "flash_attention_4",
}

#: Devices a flash implementation is built for (`FLASH_ATTN_KERNEL_DEVICES`, 5.23); one that is not listed counts as
#: running everywhere, as transformers counts it.
DEVICES = {
    "flash_attention_2": ("cuda", "xpu"),
    "flash_attention_3": ("cuda",),
    "flash_attention_4": ("cuda",),
    "kernels-community/flash-attn2": ("cuda", "xpu"),
    "kernels-community/flash-attn3": ("cuda",),
    "kernels-community/vllm-flash-attn3": ("cuda",),
    "kernels-community/aiter-flash-attn": ("rocm",),
    "kernels-community/flash-attn4": ("cuda",),
    "kernels-community/metal-flash-sdpa": ("mps",),
}


def first_for(device: str, implementations: tuple[str, ...]) -> str:
    """The one transformers takes out of a class's list: the first built for the device, else the first."""
    return next((name for name in implementations if device in DEVICES.get(name, (device,))), implementations[0])


def fallback(transformers: str) -> Fallback | None:
    """The rules of a transformers version, None before there were any."""
    version = parsed(transformers)
    return next((entry for entry in FALLBACKS if version >= Version(entry.since)), None)


def parsed(version: str) -> Version:
    """The release of a version text. Text that is no version counts as newest: nothing is refused by a guess."""
    try:
        return Version(Version(version).base_version)
    except InvalidVersion:
        return Version("999")
