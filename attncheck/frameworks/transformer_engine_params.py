"""One call of TransformerEngine on one machine, as its selection of a backend looks at it; and the backends' names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.version import Version

from attncheck.frameworks.transformer_engine_call import WindowSize

FLASH_2, FLASH_3, FLASH_4 = "FlashAttention 2", "FlashAttention 3", "FlashAttention 4"
FUSED, UNFUSED = "FusedAttention", "UnfusedDotProductAttention"
FLASH = (FLASH_2, FLASH_3, FLASH_4)
BACKENDS = (*FLASH, FUSED, UNFUSED)

#: Releases whose source was read; what came between two of them is dated to the newer one.
READ = (
    *("1.9.0", "1.10.0", "1.11.0", "1.12.0", "1.13.0", "2.1.0", "2.3.0", "2.5.0", "2.8.0", "2.11.0"),
    *("2.14.1", "2.16.1", "2.17.1", "2.18.0", "2.19.0", "2.20.2"),
)


@dataclass(frozen=True, slots=True)
class Params:
    """`AttentionParams` of one call, with the machine it runs on.

    capability: compute capability. cudnn: version as a tuple, None unknown. flash: backend -> version of its package.
    variables: environment variables. window: after `check_set_window_size`. bottom_right: the diagonal's place.
    """

    capability: tuple[int, int]
    cudnn: tuple[int, ...] | None = None
    flash: Mapping[str, Version] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "bfloat16"
    num_heads: int = 16
    num_kv_heads: int = 16
    head_dim: int = 64
    head_dim_v: int = 64
    q_len: int = 2048
    kv_len: int = 2048
    window: WindowSize = (-1, 0)
    mask_type: str = "causal"
    softmax_type: str = "vanilla"
    qkv_format: str = "sbhd"
    bias_type: str = "no_bias"
    dropout: float = 0.0
    softcap: float = 0.0
    bottom_right: bool = False
    training: bool = True
    deterministic: bool = False

    @property
    def windowed(self) -> bool:
        """More than plain causal or none."""
        return self.window[0] != -1 or self.window[1] not in (-1, 0)

    @property
    def widths_differ(self) -> bool:
        """Values have another width than keys (MLA)."""
        return self.head_dim != self.head_dim_v

    @property
    def widest(self) -> int:
        """The larger of both head sizes."""
        return max(self.head_dim, self.head_dim_v)
