"""Limits on config values: absurd sizes and wrong types end with one clear line instead of a full memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attncheck.errors import TargetError


@dataclass(frozen=True, slots=True)
class Limit:
    """The inclusive range of an integer key, and why it ends there. null: null is allowed. lists: a list is too."""

    keys: tuple[str, ...]
    low: int
    high: int
    reason: str
    null: bool = True
    lists: bool = False


LIMITS: tuple[Limit, ...] = (
    Limit(
        (
            "hidden_size",
            "n_embd",
            "d_model",
            "intermediate_size",
            "moe_intermediate_size",
            "ffn_dim",
            "n_inner",
            "encoder_ffn_dim",
            "decoder_ffn_dim",
        ),
        1,
        1_000_000,
        "the widest known model has 65 536; beyond a million one weight matrix needs terabytes",
        lists=True,
    ),
    Limit(
        (
            "num_hidden_layers",
            "n_layer",
            "n_layers",
            "num_layers",
            "encoder_layers",
            "decoder_layers",
            "num_decoder_layers",
        ),
        0,
        10_000,
        "the deepest known model has about 1 000 layers, and every layer is written down",
    ),
    Limit(
        (
            "num_attention_heads",
            "n_head",
            "n_heads",
            "num_heads",
            "num_key_value_heads",
            "num_kv_heads",
            "n_head_kv",
            "multi_query_group_num",
            "encoder_attention_heads",
            "decoder_attention_heads",
        ),
        1,
        65_536,
        "the largest known model has 512 heads",
        lists=True,
    ),
    Limit(
        ("head_dim", "global_head_dim", "kv_channels", "d_kv", "v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim"),
        0,
        65_536,
        "the widest known head has 576, and kernels end at 512",
    ),
    Limit(
        (
            "sliding_window",
            "sliding_window_size",
            "window_size",
            "attention_window_size",
            "local_attention",
            "attention_chunk_size",
        ),
        0,
        2**40,
        "a window is a number of tokens; longer than any memory is a mistake",
        lists=True,
    ),
    Limit(("max_window_layers",), 0, 1_000_000, "it counts layers"),
    Limit(
        ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "model_max_length"),
        -1,
        10**31,
        "int(1e30) is the tokenizers' word for unlimited; longer is a mistake",
    ),
    Limit(("vocab_size",), 1, 100_000_000, "the largest known vocabulary has about 4 million entries", lists=True),
    Limit(
        ("num_experts", "num_local_experts", "n_routed_experts"),
        0,
        100_000,
        "the largest known model has about 1 000 experts",
    ),
)

#: Keys that must be true or false.
FLAGS = (
    "use_sliding_window",
    "is_decoder",
    "is_encoder_decoder",
    "alibi",
    "multi_query",
    "new_decoder_architecture",
    "is_causal",
    "scale_attn_weights",
)
#: Keys that must be numbers above zero when they are set.
POSITIVE = ("attn_logit_softcapping", "query_pre_attn_scalar", "attention_multiplier", "rope_theta")
#: Head keys of which the second must divide the first.
DIVIDES = (
    ("num_attention_heads", "num_key_value_heads"),
    ("n_head", "n_head_kv"),
    ("num_attention_heads", "num_kv_heads"),
)
#: Keys that must hold an object when they are set: the sub-configs of composite types.
SUB_CONFIGS = (
    "text_config",
    "thinker_config",
    "llm_config",
    "language_config",
    "decoder_config",
    "vision_config",
    "audio_config",
)
#: Keys that give a head its width outright; without any of them it is hidden_size divided by the number of heads.
WIDTHS = (
    "head_dim",
    "global_head_dim",
    "kv_channels",
    "d_kv",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "attention_head_dim",
    "attention_head_size",
    "attention_hidden_size",
)
#: Towers that do not read text; what divides what is left to their own code.
OTHER_TOWERS = ("vision", "audio")
#: Lists longer than this are no per-layer lists; it is the layer limit with room for spellings that count twice.
MAX_LIST = 100_000

_BY_KEY = {key: limit for limit in LIMITS for key in limit.keys}


def check(config: Mapping[str, Any], origin: str, defaults: Mapping[str, Any] | None = None) -> None:
    """Raise TargetError with one clear line for the first value that is of the wrong type, absurd or contradictory.

    Sub-configs are checked too. `origin` says where the config came from. defaults: the constructor defaults of its
    class; with them, a value is also held against those that it meets there (heads that do not divide the width).
    """
    for where, level, standing_in in _levels(config, "", defaults):
        for problem in _problems(level, where, standing_in):
            raise TargetError(f"{origin}: {problem}", "correct the value, or override it with --set key=value")


def _levels(
    config: Mapping[str, Any], where: str, defaults: Mapping[str, Any] | None
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any] | None]]:
    yield where, config, defaults
    for key, value in config.items():
        if isinstance(value, Mapping):
            below = None if defaults is None else defaults.get(key)
            yield from _levels(value, f"{where}{key}.", below if isinstance(below, Mapping) else None)


def _problems(level: Mapping[str, Any], where: str, defaults: Mapping[str, Any] | None) -> Iterator[str]:
    for key, value in level.items():
        name = f"{where}{key}"
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{name} is {value}, expected a finite number"
        if isinstance(value, list) and len(value) > MAX_LIST:
            yield f"{name} has {len(value)} entries; more than {MAX_LIST} is no list of layers"
        if key in _BY_KEY:
            yield from _outside(_BY_KEY[key], name, value)
        if key in FLAGS and value is not None and not isinstance(value, bool):
            yield f"{name} is {value!r}, expected true or false"
        if key in POSITIVE and value is not None and not (_is_number(value) and value > 0):
            yield f"{name} is {value!r}, expected a number above 0"
        if (
            key == "layer_types"
            and value is not None
            and not (isinstance(value, list) and all(isinstance(kind, str) for kind in value))
        ):
            yield f"{name} is {_short(value)}, expected a list of layer types"
        if key in SUB_CONFIGS and value is not None and not isinstance(value, Mapping):
            yield f"{name} is {_short(value)}, expected an object"
    yield from _contradictions(level, where)
    if defaults is not None and not any(part.startswith(OTHER_TOWERS) for part in where.split(".")):
        yield from _remainders(level, where, defaults)


def _outside(limit: Limit, name: str, value: Any) -> Iterator[str]:
    if value is None and limit.null:
        return
    if isinstance(value, (Mapping, list)) and (limit.lists or isinstance(value, Mapping)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _outside(limit, name, entry)
        return
    if not _is_number(value) or (isinstance(value, float) and not value.is_integer()):
        yield f"{name} is {_short(value)}, expected a whole number"
    elif not limit.low <= value <= limit.high:
        bound = f"at least {limit.low}" if value < limit.low else f"at most {limit.high}"
        yield f"{name} is {value}, expected {bound} ({limit.reason})"


def _contradictions(level: Mapping[str, Any], where: str) -> Iterator[str]:
    for many, few in DIVIDES:
        heads, groups = level.get(many), level.get(few)
        falcon = level.get("multi_query") is True and not level.get("new_decoder_architecture")
        if isinstance(heads, int) and isinstance(groups, int) and groups > 0 and heads % groups and not falcon:
            yield f"{where}{few} is {groups}, which does not divide {where}{many} {heads}"
    hidden, heads = level.get("hidden_size"), level.get("num_attention_heads")
    own_width = any(level.get(key) is not None for key in WIDTHS)
    if isinstance(hidden, int) and isinstance(heads, int) and heads > hidden and not own_width:
        yield f"{where}num_attention_heads is {heads}, more than hidden_size {hidden}"


def _remainders(level: Mapping[str, Any], where: str, defaults: Mapping[str, Any]) -> Iterator[str]:
    """Contradictions between what is written and what the class puts beside it; its own defaults are its business."""

    def both(one: str, other: str) -> tuple[int, int] | None:
        values = [level.get(key, defaults.get(key)) for key in (one, other)]
        written = any(key in level and level[key] != defaults.get(key) for key in (one, other))
        if written and all(type(value) is int and value > 0 for value in values):
            return values[0], values[1]
        return None

    heads = both("num_attention_heads", "num_key_value_heads")
    if heads is not None and heads[0] % heads[1]:
        yield f"{where}num_key_value_heads is {heads[1]}, which does not divide {where}num_attention_heads {heads[0]}"
    width = both("hidden_size", "num_attention_heads")
    if width is not None and width[0] % width[1] and all(level.get(key, defaults.get(key)) is None for key in WIDTHS):
        yield f"{where}num_attention_heads is {width[1]}, which does not divide {where}hidden_size {width[0]}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
