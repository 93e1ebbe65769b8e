"""When TransformerEngine drops a backend: `get_attention_backend` of 1.9 to 2.20 as rows, each with its versions."""

from __future__ import annotations

from attncheck.frameworks.transformer_engine_filters import (
    CAUSAL,
    Drop,
    cudnn_below,
    fa3_in_1_11,
    fa3_sizes,
    fa4_sizes,
    flash_2_below,
    off,
    switch,
    wide_on,
)
from attncheck.frameworks.transformer_engine_params import FLASH, FLASH_2, FLASH_3, FLASH_4, FUSED, UNFUSED

_HALF = ("float16", "bfloat16")
_SM100 = ((10, 0), (12, 0))
_ONE_SIDED = "as it only supports sliding window attention with causal mask, no dropout, and qkv_format = bshd/sbhd"
_DIAGONAL = (
    "as it only supports bottom-right-diagonal causal mask since flash-attn 2.1 (Sq != Skv with a top-left causal mask)"
)

DROPS: tuple[Drop, ...] = (
    switch("NVTE_FLASH_ATTN", FLASH),
    switch("NVTE_FLASH_ATTN_V2", (FLASH_2,), "2.18"),
    switch("NVTE_FLASH_ATTN_V3", (FLASH_3,), "2.18"),
    switch("NVTE_FLASH_ATTN_V4", (FLASH_4,), "2.18"),
    switch("NVTE_FUSED_ATTN", (FUSED,)),
    switch("NVTE_UNFUSED_ATTN", (UNFUSED,)),
    # Compute capability
    Drop((FLASH_2, FUSED), "for compute capability < sm80", lambda p: p.capability < (8, 0)),
    Drop((FLASH_3,), "for compute capability < sm90", lambda p: p.capability < (9, 0), below="2.3"),
    Drop((FLASH_3,), "for compute capability != sm90", lambda p: p.capability != (9, 0), "2.3"),
    Drop((FLASH_4,), "for compute capability < sm80", lambda p: p.capability < (8, 0), below="2.19"),
    Drop((FLASH_4,), "for compute capability < sm90", lambda p: p.capability < (9, 0), "2.19"),
    Drop(
        (FLASH_4,),
        "to prefer FlashAttention 3 on SM90",
        lambda p: p.capability == (9, 0) and FLASH_3 in p.flash and not (off("NVTE_FLASH_ATTN_V3")(p)),
        "2.16",
    ),
    Drop((*FLASH, FUSED), "for an unsupported qkv_dtype (float16 and bfloat16 only)", lambda p: p.dtype not in _HALF),
    # Softcap: an argument from 2.20 on
    Drop((FUSED,), "as it does not support softcap", lambda p: p.softcap != 0, "2.20"),
    Drop((FLASH_4,), "as TE does not pass it softcap", lambda p: p.softcap != 0, "2.20"),
    Drop((FLASH_3,), "for softcap (head_dim <= 256)", lambda p: p.softcap != 0 and p.widest > 256, "2.20"),
    Drop(
        (FLASH_2,),
        "for softcap (requires flash-attn >= 2.6.0)",
        lambda p: p.softcap != 0 and flash_2_below("2.6")(p),
        "2.20",
    ),
    Drop((FLASH_2,), "for softcap with dropout", lambda p: p.softcap != 0 and p.dropout != 0 and p.training, "2.20"),
    # Head dimension
    Drop((FLASH_2,), "as it does not support MLA (head_dim_qk != head_dim_v)", lambda p: p.widths_differ, below="2.17"),
    Drop((FLASH_3,), "as it does not support MLA (head_dim_qk != head_dim_v)", lambda p: p.widths_differ, below="2.8"),
    Drop((FLASH_2,), "due to unsupported head_dim_qk and head_dim_v", wide_on((8, 0), (9, 0)), below="2.1"),
    Drop((FLASH_2,), "due to unsupported head_dim_qk and head_dim_v", wide_on((8, 0), (9, 0), *_SM100), "2.1"),
    Drop((FLASH_3,), "due to unsupported head_dim_qk and head_dim_v", wide_on((8, 0), (9, 0)), below="2.1"),
    Drop((FLASH_3,), "due to unsupported head_dim_qk and head_dim_v", wide_on((8, 0), (9, 0), *_SM100), "2.1", "2.3"),
    Drop((FLASH_3,), "for head_dim > 128", lambda p: p.widest > 128, "2.3", "2.8"),
    Drop((FLASH_3,), "due to unsupported num_heads, num_gqa_groups, head_dim_qk or head_dim_v", fa3_sizes, "2.8"),
    Drop((FLASH_4,), "due to unsupported head dimensions", fa4_sizes, "2.16"),
    Drop(
        (FUSED,),
        "as MLA for backward pass is not supported for compute capability = sm120",
        lambda p: (
            p.widths_differ and p.training and p.capability == (12, 0) and (p.head_dim > 128 or p.head_dim % 8 != 0)
        ),
        "2.11",
    ),
    # Layout and dropout
    Drop((UNFUSED,), "for qkv_format = thd", lambda p: p.qkv_format == "thd", below="2.11"),
    Drop(
        (FUSED,),
        "when Q or KV uses THD because it is not supported for compute capability = sm120",
        lambda p: p.qkv_format == "thd" and p.capability == (12, 0),
        "2.11",
        "2.14",
    ),
    Drop(
        (FUSED,),
        "when Q or KV uses THD because it is not supported for compute capability = sm120 and cuDNN version < 9.18.1",
        lambda p: p.qkv_format == "thd" and p.capability == (12, 0) and cudnn_below(9, 18, 1)(p),
        "2.14",
    ),
    Drop((FLASH_3, FLASH_4), "for dropout", lambda p: p.dropout != 0),
    # Softmax type: an argument from 2.8 on
    Drop(FLASH, "for a softmax_type other than vanilla", lambda p: p.softmax_type != "vanilla", "2.8"),
    Drop(
        (FUSED, UNFUSED),
        "for a softmax_type other than vanilla and qkv_format = thd",
        lambda p: p.softmax_type != "vanilla" and p.qkv_format == "thd",
        "2.8",
        "2.14",
    ),
    Drop(
        (FUSED,),
        "for a softmax_type other than vanilla, qkv_format = thd and cuDNN version < 9.18",
        lambda p: p.softmax_type != "vanilla" and p.qkv_format == "thd" and cudnn_below(9, 18)(p),
        "2.14",
    ),
    # Attention mask
    Drop((*FLASH, FUSED), "for arbitrary mask", lambda p: p.mask_type == "arbitrary"),
    Drop(
        (UNFUSED,),
        "for a padding mask",
        lambda p: "padding" in p.mask_type,
        below="1.10",
    ),
    Drop(
        FLASH,
        _DIAGONAL,
        lambda p: p.mask_type in CAUSAL and p.q_len != p.kv_len and not flash_2_below("2.1")(p),
        below="1.12",
    ),
    Drop(FLASH, _DIAGONAL, lambda p: p.mask_type in CAUSAL and p.q_len != p.kv_len, "1.12"),
    Drop(
        FLASH,
        "as it only supports top-left-diagonal causal mask before flash-attn 2.1",
        lambda p: p.mask_type.endswith("causal_bottom_right") and p.q_len != p.kv_len and flash_2_below("2.1")(p),
        below="1.12",
    ),
    # Sliding window
    Drop(
        (FUSED,),
        _ONE_SIDED,
        lambda p: p.windowed and (p.window[1] != 0 or p.dropout != 0 or p.qkv_format == "thd"),
        below="2.1",
    ),
    Drop(
        (FUSED,),
        "as it does not support sliding window attention with this attn_mask_type",
        lambda p: p.windowed and ("padding" in p.mask_type or (p.q_len != p.kv_len and p.mask_type not in CAUSAL)),
        below="2.1",
    ),
    Drop(
        (FUSED,),
        "as it only supports sliding window attention with (left, 0) and no dropout",
        lambda p: p.windowed and (p.window[1] != 0 or p.dropout != 0),
        "2.1",
        "2.14",
    ),
    Drop(
        (FUSED,),
        "as it only supports sliding window attention without dropout",
        lambda p: p.windowed and p.dropout != 0,
        "2.14",
    ),
    Drop(
        (FUSED,),
        "as it does not support sliding window attention with s_q > s_kv for cross-attention",
        lambda p: p.windowed and p.q_len > p.kv_len,
        "2.1",
    ),
    Drop((FLASH_3,), "as it does not support sliding window attention", lambda p: p.windowed, below="2.3"),
    Drop(
        (FLASH_2,),
        "as sliding window attention requires flash-attn 2.3+",
        lambda p: p.windowed and flash_2_below("2.3")(p),
    ),
    Drop(
        FLASH,
        "as it only supports sliding window with bottom right diagonal alignment for cross-attention",
        lambda p: p.windowed and not p.bottom_right and p.q_len != p.kv_len and FLASH_2 in p.flash,
        "2.14",
        "2.20",
    ),
    Drop(
        FLASH,
        "as it only supports sliding window with bottom right diagonal alignment for cross-attention",
        lambda p: p.windowed and not p.bottom_right and p.q_len != p.kv_len,
        "2.20",
    ),
    # Bias
    Drop((FLASH_3, FLASH_4), "for ALiBi", lambda p: p.bias_type == "alibi"),
    Drop(
        (FLASH_2,),
        "as ALiBi requires flash-attn 2.4+",
        lambda p: p.bias_type == "alibi" and flash_2_below("2.4")(p),
        "1.12",
    ),
    Drop(
        (FLASH_2,),
        "for ALiBi",
        lambda p: p.bias_type == "alibi" and FLASH_3 in p.flash and flash_2_below("2.4")(p) and fa3_in_1_11(p),
        "1.11",
        "1.12",
    ),
    Drop(FLASH, "for pre/post_scale_bias", lambda p: p.bias_type in ("pre_scale_bias", "post_scale_bias")),
    # cuDNN's own table (nvte_get_fused_attn_backend, C++): the documented part of it
    Drop(
        (FUSED,),
        "as no backend supports the provided input (cuDNN: head sizes are multiples of 8, at most 256)",
        lambda p: p.widest > 256 or p.head_dim % 8 != 0 or p.head_dim_v % 8 != 0,
        modelled=False,
    ),
    Drop(
        (FUSED,),
        "as no backend supports the provided input (a sliding window needs cuDNN 9.2)",
        lambda p: p.windowed and cudnn_below(9, 2)(p),
        modelled=False,
    ),
    Drop(
        (FUSED,),
        "as no backend supports the provided input (cuDNN knows no pre_scale_bias)",
        lambda p: p.bias_type == "pre_scale_bias",
        modelled=False,
    ),
    # Determinism
    Drop(
        (FLASH_3,),
        "as version <2.4.1 does not support deterministic execution",
        lambda p: p.deterministic and flash_2_below("2.4.1")(p),
        below="1.12",
        variable="NVTE_ALLOW_NONDETERMINISTIC_ALGO",
    ),
    Drop(
        (FLASH_2,),
        "as version <2.4.1 does not support deterministic execution",
        lambda p: p.deterministic and flash_2_below("2.4.1")(p),
        variable="NVTE_ALLOW_NONDETERMINISTIC_ALGO",
    ),
    Drop(
        (FLASH_3,),
        "for deterministic backward with max(head_dim_qk, head_dim_v) >= 256",
        lambda p: p.deterministic and p.training and p.widest >= 256,
        "2.16",
        variable="NVTE_ALLOW_NONDETERMINISTIC_ALGO",
    ),
    Drop(
        (FUSED,),
        "for determinism reasons with a softmax_type other than vanilla",
        lambda p: p.deterministic and p.softmax_type != "vanilla",
        "2.14",
        variable="NVTE_ALLOW_NONDETERMINISTIC_ALGO",
    ),
    Drop(
        (FUSED,),
        "for determinism reasons",
        lambda p: p.deterministic and p.training and p.capability < (9, 0),
        variable="NVTE_ALLOW_NONDETERMINISTIC_ALGO",
    ),
    Drop(
        (FUSED,),
        "for determinism reasons on Blackwell",
        lambda p: p.deterministic and p.training and p.capability >= (10, 0) and (p.cudnn or (0,)) <= (9, 14, 0),
        "2.8",
        "2.11",
        variable="NVTE_ALLOW_NONDETERMINISTIC_ALGO",
    ),
    Drop(
        (FUSED,),
        "for determinism reasons on Blackwell",
        lambda p: p.deterministic and p.training and p.capability >= (10, 0),
        "2.11",
        "2.14",
        variable="NVTE_ALLOW_NONDETERMINISTIC_ALGO",
    ),
)
