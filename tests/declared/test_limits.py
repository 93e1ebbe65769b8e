"""Absurd and ill-typed values end with one clear line; everything real passes."""

from __future__ import annotations

from typing import Any

import pytest

from attncheck.declared.limits import LIMITS, check
from attncheck.errors import TargetError

SIZES: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"hidden_size": 10**9}, "hidden_size is 1000000000, expected at most 1000000"),
        ({"num_hidden_layers": 1_000_000}, "num_hidden_layers is 1000000, expected at most 10000"),
        ({"num_hidden_layers": 2.5}, "expected a whole number"),
        ({"sliding_window": -1}, "sliding_window is -1, expected at least 0"),
        ({"sliding_window": "4096"}, "sliding_window is '4096', expected a whole number"),
        ({"sliding_window": True}, "sliding_window is True, expected a whole number"),
        ({"sliding_window": [4096, "x"]}, "expected a whole number"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3, which does not divide num_attention_heads 4"),
        ({"num_attention_heads": 0}, "expected at least 1"),
        ({"num_attention_heads": 128}, "num_attention_heads is 128, more than hidden_size 64"),
        ({"use_sliding_window": "yes"}, "expected true or false"),
        ({"use_sliding_window": 1}, "expected true or false"),
        ({"attn_logit_softcapping": 0}, "expected a number above 0"),
        ({"query_pre_attn_scalar": -4}, "expected a number above 0"),
        ({"rope_theta": float("nan")}, "is nan, expected a finite number"),
        ({"layer_types": "full_attention"}, "expected a list of layer types"),
        ({"layer_types": [1, 2]}, "expected a list of layer types"),
        ({"x": [0] * 200_000}, "200000 entries"),
        ({"text_config": {"hidden_size": 10**9}}, "text_config.hidden_size is 1000000000"),
        ({"vocab_size": 10**12}, "vocab_size is"),
    ],
)
def test_absurd_values_are_one_clear_line(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(TargetError) as caught:
        check({"model_type": "llama", **SIZES, **keys}, "config.json")
    assert says in caught.value.message
    assert caught.value.message.startswith("config.json: ")
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    "keys",
    [
        {"sliding_window": None},
        {"sliding_window": 0},
        {"sliding_window": 4096.0},
        {"max_position_embeddings": int(1e30)},
        {
            "num_attention_heads": 71,
            "num_kv_heads": 70,
            "multi_query": True,
            "hidden_size": 4544,
            "num_key_value_heads": None,
        },
        {"num_attention_heads": 64, "num_key_value_heads": 8, "hidden_size": 32, "head_dim": 16},
        {"num_hidden_layers": {"vision": 5, "language": 9}},
        {"vision_config": {"window_size": [7, 14]}},
        {"attn_logit_softcapping": None},
        {"is_causal": False},
    ],
)
def test_real_values_pass(keys: dict[str, Any]) -> None:
    check({"model_type": "llama", **SIZES, **keys}, "config.json")


def test_every_limit_has_a_reason_and_a_range() -> None:
    for limit in LIMITS:
        assert limit.low < limit.high
        assert len(limit.reason) > 10
    keys = [key for limit in LIMITS for key in limit.keys]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("keys", "defaults", "says"),
    [
        (
            {"num_attention_heads": 7},
            {"hidden_size": 64},
            "num_attention_heads is 7, which does not divide hidden_size 64",
        ),
        (
            {"hidden_size": 65},
            {"num_attention_heads": 4},
            "num_attention_heads is 4, which does not divide hidden_size 65",
        ),
        (
            {"num_attention_heads": 12},
            {"num_key_value_heads": 8},
            "num_key_value_heads is 8, which does not divide num_attention_heads 12",
        ),
        (
            {"text_config": {"num_attention_heads": 7}},
            {"text_config": {"hidden_size": 64}},
            "text_config.num_attention_heads is 7",
        ),
        ({"num_attention_heads": 7}, {"hidden_size": 64, "head_dim": 16}, ""),
        ({"num_attention_heads": 7, "kv_channels": 16}, {"hidden_size": 64}, ""),
        ({"num_attention_heads": 7}, {"hidden_size": 64, "num_attention_heads": 7}, ""),
        ({}, {"hidden_size": 64, "num_attention_heads": 7}, ""),
        ({"vision_config": {"num_attention_heads": 7}}, {"vision_config": {"hidden_size": 64}}, ""),
        ({"num_attention_heads": 7, "num_key_value_heads": None}, {"num_key_value_heads": 8}, ""),
    ],
)
def test_values_are_held_against_the_defaults_that_they_meet(
    keys: dict[str, Any], defaults: dict[str, Any], says: str
) -> None:
    check({"model_type": "m", **keys}, "config.json")
    if not says:
        check({"model_type": "m", **keys}, "config.json", defaults)
        return
    with pytest.raises(TargetError) as caught:
        check({"model_type": "m", **keys}, "config.json", defaults)
    assert says in caught.value.message
