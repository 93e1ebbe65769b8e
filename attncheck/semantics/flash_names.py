"""Which kernels and operators are flash attention, by the names that a profiler gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What a name must hold -> whose flash kernel it is, the first that fits. Names as seen on an H100 (torch 2.11, cuDNN
#: 9.19, flash-attn 2.8.3, flash-attn 4 4.0.0b36) and on CPUs; those of flash-attn 3 are from its sources.
_OWNERS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), owner)
    for pattern, owner in (
        (r"pytorch_flash::", "SDPA's own flash kernel"),
        (r"_flash_attention_for_cpu", "SDPA's own flash kernel for CPUs"),
        (r"^aten::_(scaled_dot_product_)?flash_attention", "SDPA's own flash kernel"),
        (r"cudnn.*flash|^aten::_(scaled_dot_product_)?cudnn_attention", "cuDNN's flash kernel, reached through SDPA"),
        (r"cute.*flash_(fwd|bwd)|flash_attn.?cute|FlashAttention(Forward|Backward)Sm", "flash-attn 4"),
        (r"FlashAttn(Fwd|Bwd)Sm|flash::enable_sm90|flash_attn_3|flash_attn_interface", "flash-attn 3"),
        (r"flash::(flash|compute)_|^flash_attn::|flash_(fwd|bwd)", "flash-attn 2"),
        (r"flash", "a kernel that calls itself flash"),
    )
)


def owner(name: str) -> str:
    """Whose flash kernel a profiler's name is, "" for one that is none.

    cuDNN's fused kernel counts: it runs the same algorithm, and says so in its name.
    """
    return next((said for pattern, said in _OWNERS if pattern.search(name)), "")


def flash(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the names that are flash kernels, in their order."""
    return tuple(name for name in names if owner(name))
