"""One filter of TransformerEngine's choice of a backend, and the conditions that filters are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from packaging.version import Version

from attncheck.frameworks.transformer_engine_params import FLASH_2, Params

#: Mask types without padding and with, whose diagonal starts at the first key.
CAUSAL = ("causal", "padding_causal")


@dataclass(frozen=True, slots=True)
class Drop:
    """One filter. drops: backends. says: TransformerEngine's own words. since: first version, below: first without it.

    variable: the environment variable that is the cause, "" for none. modelled: False where the sentence stands for a
    table in C++ of which only the documented part is known. switch: the variable is one that switches backends off.
    """

    drops: tuple[str, ...]
    says: str
    when: Callable[[Params], bool]
    since: str = "1.9"
    below: str = ""
    variable: str = ""
    modelled: bool = True
    switch: bool = False

    def acts(self, version: Version) -> bool:
        """The release has this filter."""
        return Version(self.since) <= version and (not self.below or version < Version(self.below))


def off(name: str) -> Callable[[Params], bool]:
    """The environment variable of that name is 0."""
    return lambda p: p.variables.get(name, "1").strip() == "0"


def switch(name: str, drops: tuple[str, ...], since: str = "1.9") -> Drop:
    """The filter of a variable that switches backends off."""
    return Drop(drops, f"due to {name}=0", off(name), since, variable=name, switch=True)


def cudnn_below(*version: int) -> Callable[[Params], bool]:
    """CuDNN is there and older."""
    return lambda p: p.cudnn is not None and p.cudnn < version


def flash_2_below(version: str) -> Callable[[Params], bool]:
    """flash-attn 2 is there and older."""
    return lambda p: p.flash.get(FLASH_2, Version("3")) < Version(version)


def fa3_in_1_11(p: Params) -> bool:
    """FlashAttention 3 is still in play where 1.11 looks at ALiBi."""
    unequal = p.mask_type in CAUSAL and p.q_len != p.kv_len
    return p.capability >= (9, 0) and p.dropout == 0 and not p.windowed and not unequal


def fa3_sizes(p: Params) -> bool:
    """`_is_fa3_supported` says no."""
    if p.head_dim > 256 or p.num_heads % p.num_kv_heads:
        return True
    latent = 128 < p.head_dim <= 192 and 96 < p.head_dim_v <= 128
    return p.widths_differ and not (latent or (p.head_dim <= 64 and p.head_dim_v <= 512))


def fa4_sizes(p: Params) -> bool:
    """`_validate_head_dims` of flash_attn.cute (4.0.0b36) refuses; it looks at compute capability 9, 10 and 11 only."""
    sizes = (p.head_dim, p.head_dim_v)
    if p.capability[0] == 9:
        return any(not 8 <= size <= 256 or size % 8 for size in sizes)
    if p.capability[0] not in (10, 11):
        return False
    known = sizes in ((192, 128), (256, 256)) or (p.head_dim_v == 512 and p.head_dim in (64, 512))
    return any(size % 8 for size in sizes) or not (known or all(8 <= size <= 128 for size in sizes))


def wide_on(*capabilities: tuple[int, int]) -> Callable[[Params], bool]:
    """A head size that FlashAttention 2 refuses; above 192 it takes these compute capabilities only."""
    return lambda p: p.widest > 256 or p.widest % 8 != 0 or (p.widest > 192 and p.capability not in capabilities)
