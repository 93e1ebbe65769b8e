"""Ready-made settings as data: what to time, and what others published about it, with where they said so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attncheck.semantics.timing import setting


@dataclass(frozen=True, slots=True)
class Sizes:
    """Heads of one attention; num_kv_heads None: as many as query heads."""

    num_heads: int
    head_dim: int
    num_kv_heads: int | None = None


@dataclass(frozen=True, slots=True)
class LayerSettings:
    """What to time of a layer of a model type of transformers, at the sizes its config class has by itself."""

    model_type: str
    implementations: tuple[str, ...]
    dtypes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preset:
    """Named settings of `attncheck bench`. about: what it shows, in a line for help. subjects: API names, () all.

    masks: "causal", "full" or "window N". tokens: of a call, None: one sequence. lengths, passes, dtypes, subjects: as
    in `BenchOptions`. published: `setting(...)` -> figure with its source. switched_off: kernels that are timed to show
    what doing without them costs, as `checks.speed` names them: no advice to take them.
    """

    name: str
    about: str
    sizes: tuple[Sizes, ...]
    masks: tuple[str, ...]
    lengths: tuple[int, ...]
    subjects: tuple[str, ...]
    passes: tuple[str, ...] = ("forward",)
    tokens: int | None = None
    dtypes: tuple[str, ...] = ()
    layer: LayerSettings | None = None
    published: Mapping[str, str] = field(default_factory=dict)
    switched_off: tuple[str, ...] = ()


#: The posts and threads behind the figures.
_FA3 = "PyTorch blog, FlashAttention-3, 2024-07-11"
_CHART = "third-party reading of the charts of the FlashAttention-3 post"
_FP16 = "fp16 forward, H100 SXM5"


def _cudnn(mask: str, head_dim: int, length: int, figure: str) -> dict[str, str]:
    """The same figure for both ways to call cuDNN."""
    return {setting(subject, mask, head_dim, length): figure for subject in ("sdpa-cudnn", "cudnn-graph")}


HEADLINE = Preset(
    "headline",
    "the settings of the published FlashAttention and cuDNN figures, beside those figures",
    (Sizes(32, 64), Sizes(16, 128), Sizes(8, 256)),
    ("causal", "full"),
    (4096, 8192, 16384),
    ("flash-attn-2", "flash-attn-3", "flash-attn-4", "sdpa-flash", "sdpa-cudnn", "cudnn-graph"),
    tokens=16384,
    published={
        setting("flash-attn-2", "full", 128, 8192): f"about 350 TFLOP/s, 35 % of the peak ({_FP16}; {_FA3})",
        setting("flash-attn-3", "full", 128, 8192): f"640 to 660 TFLOP/s ({_FP16}, mask not said; {_FA3})",
        setting("flash-attn-3", "full", 64, 16384): f"497 TFLOP/s ({_FP16}, mask not said; {_CHART})",
        setting("flash-attn-2", "full", 64, 16384): f"324 TFLOP/s ({_FP16}, mask not said; {_CHART})",
        **_cudnn("full", 64, 16384, f"413 TFLOP/s ({_FP16}, mask not said; {_CHART})"),
        setting("flash-attn-3", "full", 256, 4096): f"736 TFLOP/s ({_FP16}; {_CHART})",
        setting("flash-attn-3", "full", 256, 8192): f"746 TFLOP/s ({_FP16}; {_CHART})",
        setting("flash-attn-3", "full", 256, 16384): f"756 TFLOP/s ({_FP16}; {_CHART}); up to 740 ({_FA3})",
        setting("flash-attn-2", "full", 256, 16384): f"326 TFLOP/s ({_FP16}; {_CHART})",
        **_cudnn("full", 256, 16384, f"581 TFLOP/s ({_FP16}; {_CHART})"),
        setting("flash-attn-3", "causal", 256, 4096): f"612 TFLOP/s ({_FP16}, presumably causal; {_CHART})",
        setting("flash-attn-3", "causal", 256, 8192): f"628 TFLOP/s ({_FP16}, presumably causal; {_CHART})",
        setting("flash-attn-3", "causal", 256, 16384): f"642 TFLOP/s ({_FP16}, presumably causal; {_CHART})",
        setting("flash-attn-2", "causal", 256, 16384): f"298 TFLOP/s ({_FP16}, presumably causal; {_CHART})",
        **_cudnn("causal", 256, 16384, f"509 TFLOP/s ({_FP16}, presumably causal; {_CHART})"),
        setting("flash-attn-4", "full", 128, 32768): "1605 to 1613 TFLOP/s (bf16 forward, B200; flash-attention#2362)",
    },
)

SLIDING = Preset(
    "swa",
    "a window of 1024 at growing lengths: O(n^2) through a mask against O(n w) in the kernel",
    (Sizes(16, 128),),
    ("window 1024", "causal"),
    (4096, 8192, 16384, 32768),
    (
        "eager",
        "sdpa",
        "sdpa-efficient",
        "sdpa-cudnn",
        "flex_attention",
        "varlen_attn",
        "flash-attn-2",
        "flash-attn-3",
        "flash-attn-4",
        "cudnn-graph",
    ),
)

UNSLOTH = Preset(
    "unsloth-noncausal",
    "non-causal attention: SDPA against flash-attn and xformers, and a LLaMA layer with SDPA in fp32 and bf16",
    (Sizes(32, 128),),
    ("full",),
    (2048, 4096, 8192),
    ("sdpa", "sdpa-flash", "sdpa-efficient", "flash-attn-2", "flash-attn-4", "xformers"),
    ("forward", "backward"),
    layer=LayerSettings("llama", ("sdpa",), ("float32", "bfloat16")),
    published={
        "SDPA instead of flash-attn or xformers, non-causal (unsloth#696)": "articles say about 12 %, 1.5 % and 2.5 % "
        "slower, without naming settings (not verified)"
    },
)

LLAVA = Preset(
    "llava-no-flash",
    "what switching flash attention off costs at the sizes of a 7B LLaVA",
    (Sizes(32, 128),),
    ("causal",),
    (2048, 4096, 8192),
    ("sdpa", "sdpa-cudnn", "sdpa-flash", "sdpa-efficient", "sdpa-math", "eager", "flash-attn-2"),
    ("forward", "backward"),
    switched_off=("flash",),
)

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (HEADLINE, SLIDING, UNSLOTH, LLAVA)}
