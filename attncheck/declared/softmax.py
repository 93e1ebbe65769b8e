"""What happens to the logits of a layer: scale, softcap, sinks and bias (2.6 and 2.7 of the field survey)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attncheck.declared.families import Family
from attncheck.declared.heads import Heads
from attncheck.declared.values import Keys, as_number
from attncheck.semantics.spec import Bias, SoftmaxSpec

#: Spellings of the softcap on attention logits. `final_logit_softcapping` and `logits_soft_cap` act on the LM head.
SOFTCAP_KEYS = ("attn_logit_softcapping", "attention_logit_softcapping", "attention_logits_soft_cap")


@dataclass(frozen=True, slots=True)
class Softmax:
    """The declared softmax terms of one layer, the fields nothing can be said of, and where the values came from."""

    spec: SoftmaxSpec
    unknown: frozenset[str]
    sources: Mapping[str, str]


def softmax_of(keys: Keys, known: Family, heads: Heads, layer: int, windowed: bool) -> Softmax:
    """The softmax terms of one layer. `windowed`: its type slides (some model types have sinks only there)."""
    unknown: set[str] = set()
    scale, scale_source = _scale(keys, known, heads, layer)
    if scale is None:
        unknown.add("scale")
    cap = keys.find(*SOFTCAP_KEYS)
    softcap = as_number(cap.value)
    if cap.value is not None and softcap is None:
        unknown.add("softcap")
    sinks, sinks_source = _sinks(keys, known, windowed)
    bias = _bias(keys, known)
    if bias is None:
        unknown.add("bias")
    sources = {"scale": scale_source, "softcap": cap.source, "sinks": sinks_source}
    if known.bias:
        sources["bias"] = (
            f"config: {keys.prefix}{known.bias_key}" if known.bias_key else f"families.toml: {known.model_type}"
        )
    before = heads.head_dim**-0.5 if known.scale == "prescaled" and heads.head_dim else 1.0
    spec = SoftmaxSpec(scale, softcap if softcap else None, sinks, bias or Bias.NONE, before)
    return Softmax(spec, frozenset(unknown), sources)


def _sinks(keys: Keys, known: Family, windowed: bool) -> tuple[bool, str]:
    declared = keys.flag("add_swa_attention_sink_bias" if windowed else "add_full_attention_sink_bias")
    if declared is not None:
        return declared, "config: add_swa_attention_sink_bias, add_full_attention_sink_bias"
    if not known.sinks:
        return False, "no sinks by the list of types"
    return known.sinks == "all" or windowed, f"families.toml: sinks of {known.model_type}"


def _bias(keys: Keys, known: Family) -> Bias | None:
    if known.bias_key:
        flag = keys.flag(known.bias_key)
        if flag is None:
            return None if keys.defaults is None or keys.has(known.bias_key) else Bias.NONE
        return Bias(known.bias) if flag else Bias.NONE
    if known.bias:
        return Bias(known.bias)
    if keys.flag("alibi") is True:
        return Bias.ALIBI
    return Bias.LEARNED if (as_number(keys.find("relative_attention_num_buckets").value) or 0) > 0 else Bias.NONE


def _scale(keys: Keys, known: Family, heads: Heads, layer: int) -> tuple[float | None, str]:
    """The factor on q.k as the attention call gets it, and where it comes from; None when unknown."""
    rule, width = known.scale, heads.head_dim
    from_type = f"families.toml: scale of {known.model_type}"
    if rule in ("query_pre_attn_scalar", "attention_multiplier"):
        return _declared_scale(keys, rule, width)
    if rule in ("one", "prescaled"):
        return 1.0, from_type
    if rule == "unknown":
        return None, from_type
    if width is None or width <= 0:
        return None, "head_dim is not declared"
    if rule == "half_head_dim":
        return (width / 2) ** -0.5, from_type
    if rule == "inverse_head_dim":
        return 1 / width, from_type
    if rule == "width":
        return width**-0.5, "1 / sqrt(qk head_dim)"
    if rule == "attn_config":
        inner = keys.find("attn_config").value
        own = as_number(inner.get("softmax_scale")) if isinstance(inner, Mapping) else None
        return (own, "config: attn_config.softmax_scale") if own else (width**-0.5, "1 / sqrt(head_dim)")
    if rule == "flags":
        base = 1.0 if keys.flag("scale_attn_weights") is False else width**-0.5
        return (
            base / (layer + 1) if keys.flag("scale_attn_by_inverse_layer_idx") else base
        ), "config: scale_attn_weights"
    if rule in ("mla", "mla_written"):
        return _mla_scale(keys, width, computed=rule == "mla_written")
    if not known.listed:
        return None, "no rule for this model type"
    strange = next(
        (name for name in ("query_pre_attn_scalar", "attention_multiplier", "qk_scale_factor") if keys.has(name)), ""
    )
    if strange:
        return None, f"no rule for the key {keys.prefix}{strange} of this model type"
    if heads.mla:
        return None, "latent attention without a rule for its scale"
    return width**-0.5, "1 / sqrt(head_dim)"


def _declared_scale(keys: Keys, rule: str, width: int | None) -> tuple[float | None, str]:
    found = keys.find_set(rule)
    number = as_number(found.value)
    if found.missing and not keys.has(rule):
        return None, f"{rule} is not declared"
    if number is None:
        return (None, f"{rule} is null") if not width or width < 0 else (width**-0.5, "1 / sqrt(head_dim)")
    if rule == "attention_multiplier":
        return number, found.source
    return (number**-0.5, found.source) if number > 0 else (None, found.source)


def _mla_scale(keys: Keys, width: int, computed: bool) -> tuple[float | None, str]:
    """(qk_nope + qk_rope)^-0.5, times mscale^2 of YaRN; mscale = 0.1 * mscale_all_dim * ln(factor) + 1 (DeepSeek)."""
    rope = keys.find("rope_scaling", "rope_parameters")
    base = width**-0.5
    if not isinstance(rope.value, Mapping):
        if computed:
            return None, "the class fills in rope parameters of its own"
        return base, "1 / sqrt(qk_nope_head_dim + qk_rope_head_dim)"
    scaling: Mapping[str, Any] = rope.value
    if scaling.get("rope_type", scaling.get("type", "default")) == "default":
        return base, "1 / sqrt(qk_nope_head_dim + qk_rope_head_dim)"
    all_dim, factor = as_number(scaling.get("mscale_all_dim", 0)), as_number(scaling.get("factor"))
    if not all_dim:
        return base, "1 / sqrt(qk_nope_head_dim + qk_rope_head_dim)"
    if factor is None or scaling.get("rope_type", scaling.get("type")) != "yarn":
        return None, f"{rope.key} has mscale_all_dim without a YaRN factor"
    mscale = 0.1 * all_dim * math.log(factor) + 1.0 if factor > 1 else 1.0
    return base * mscale * mscale, f"{rope.source}: mscale_all_dim"
