"""The shrink rules: dict in, dict out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncheck.probe.tiny import rules
from attncheck.probe.tiny.rope import rope
from attncheck.probe.tiny.shrink import shrink

MISTRAL: dict[str, Any] = {
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def test_sizes_are_cut_and_the_rest_stays() -> None:
    assert shrink(MISTRAL) == {
        "model_type": "mistral",
        "vocab_size": 128,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "sliding_window": 8,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def test_input_is_not_changed() -> None:
    nested = {**MISTRAL, "rope_scaling": {"mrope_section": [16, 24, 24]}, "layer_types": ["full_attention"] * 32}
    before = repr(nested)
    shrink(nested)
    assert repr(nested) == before


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("sliding_window", None, None),
        ("sliding_window", 0, 0),
        ("sliding_window", 3, 3),
        ("sliding_window", 8, 8),
        ("sliding_window", 131072, 8),
        ("attention_chunk_size", 8192, 8),
        ("attention_chunk_size", None, None),
        ("attention_window", [512] * 3, [8] * 3),
        ("attention_window_size", 2048, 8),
        ("local_attention", 128, 8),
        ("use_sliding_window", False, False),
        ("use_sliding_window", True, True),
    ],
)
def test_windows_are_at_most_eight_and_their_absence_stays(key: str, value: Any, expected: Any) -> None:
    assert shrink({**MISTRAL, key: value})[key] == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("query_pre_attn_scalar", 256),
        ("attention_multiplier", 0.0078125),
        ("attn_logit_softcapping", 50.0),
        ("attention_dropout", 0.1),
        ("is_causal", False),
        ("is_decoder", True),
        ("use_bidirectional_attention", "vision"),
        ("alibi", True),
        ("multi_query", True),
        ("scale_attn_weights", False),
        ("index_topk", 2048),
        ("add_swa_attention_sink_bias", True),
        ("relative_attention_num_buckets", 32),
    ],
)
def test_scale_softcap_sinks_and_flags_are_never_touched(key: str, value: Any) -> None:
    assert shrink({**MISTRAL, key: value})[key] == value


def test_a_missing_key_comes_out_only_where_its_default_had_to_be_cut() -> None:
    defaults = {
        "sliding_window": 4096,
        "rms_norm_eps": 1e-6,
        "head_dim": None,
        "num_key_value_heads": None,
        "alibi": False,
    }
    tiny = shrink({"model_type": "x"}, defaults)
    assert tiny == {"model_type": "x", "sliding_window": 8, "head_dim": 16}


def test_stated_null_beats_the_default() -> None:
    tiny = shrink({**MISTRAL, "sliding_window": None}, {"sliding_window": 4096})
    assert tiny["sliding_window"] is None


@pytest.mark.parametrize(
    ("heads", "kv", "expected"),
    [(32, 1, (4, 1)), (32, 32, (4, 4)), (32, 8, (4, 2)), (2, 1, (2, 1)), (3, 3, (3, 3)), (32, None, (4, None))],
)
def test_grouping_of_heads_is_kept(heads: int, kv: int | None, expected: tuple[int, int | None]) -> None:
    tiny = shrink({**MISTRAL, "num_attention_heads": heads, "num_key_value_heads": kv})
    assert (tiny["num_attention_heads"], tiny["num_key_value_heads"]) == expected
    assert tiny["hidden_size"] == 16 * expected[0]


def test_mla_keeps_wider_queries_than_values() -> None:
    tiny = shrink({"num_attention_heads": 128, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128})
    assert tiny["qk_nope_head_dim"] + tiny["qk_rope_head_dim"] == 32
    assert tiny["v_head_dim"] == 16


def test_head_dim_wider_than_values_stays_wider() -> None:
    tiny = shrink({"num_attention_heads": 64, "head_dim": 192, "v_head_dim": 128})
    assert (tiny["head_dim"], tiny["v_head_dim"]) == (32, 16)


# Layers -------------------------------------------------------------------------------------------

S, F = "sliding_attention", "full_attention"


def test_prefix_ends_where_every_kind_has_been_seen() -> None:
    tiny = shrink({**MISTRAL, "layer_types": ([S] * 5 + [F]) * 5 + [S, S]})
    assert tiny["layer_types"] == [S] * 5 + [F]
    assert tiny["num_hidden_layers"] == 6


def test_one_kind_needs_two_layers() -> None:
    tiny = shrink({**MISTRAL, "layer_types": [S] * 32})
    assert tiny["layer_types"] == [S, S]
    assert tiny["num_hidden_layers"] == 2


def test_a_single_layer_stays_single() -> None:
    assert shrink({**MISTRAL, "num_hidden_layers": 1})["num_hidden_layers"] == 1


def test_a_long_stated_prefix_is_thinned_to_the_first_of_each_kind() -> None:
    tiny = shrink({**MISTRAL, "layer_types": [F] * 28 + [S] * 4, "no_rope_layers": [1] * 32})
    assert tiny["layer_types"] == [F, S]
    assert tiny["no_rope_layers"] == [1, 1]
    assert tiny["num_hidden_layers"] == 2


def test_lists_that_are_not_per_layer_are_left_alone() -> None:
    assert shrink({**MISTRAL, "mlp_only_layers": [], "stop_words": ["a", "b"]})["stop_words"] == ["a", "b"]


def test_kinds_that_only_the_constructor_computes_set_the_length_but_are_not_handed_on() -> None:
    tiny = shrink({**MISTRAL}, resolved={"layer_types": [S, S, F] * 10 + [S, S]})
    assert tiny["num_hidden_layers"] == 3
    assert "layer_types" not in tiny


@pytest.mark.parametrize(
    ("layers", "turn", "expected"), [(32, 28, 1), (32, 1, 1), (24, 28, 28), (28, 28, 28), (32, 0, 0), (32, None, None)]
)
def test_max_window_layers_keeps_which_kinds_appear(layers: int, turn: int | None, expected: int | None) -> None:
    config = {**MISTRAL, "num_hidden_layers": layers, "use_sliding_window": True, "max_window_layers": turn}
    tiny = shrink(config)
    assert (tiny["max_window_layers"], tiny["num_hidden_layers"]) == (expected, 2)


@given(layers=st.integers(1, 100), turn=st.integers(0, 120))
def test_max_window_layers_gives_the_same_set_of_kinds(layers: int, turn: int) -> None:
    def late(count: int, start: int) -> set[bool]:  # qwen2: the layers from `start` on slide
        return {i >= start for i in range(count)}

    def early(count: int, stop: int) -> set[bool]:  # qwen2_moe: even layers below `stop` slide
        return {i % 2 == 0 and i < stop for i in range(count)}

    tiny = shrink({"num_hidden_layers": layers, "use_sliding_window": True, "max_window_layers": turn})
    new_layers, new_turn = tiny["num_hidden_layers"], tiny["max_window_layers"]
    assert late(new_layers, new_turn) == late(layers, turn)
    assert early(new_layers, new_turn) == early(layers, turn)


@given(st.lists(st.sampled_from([S, F, "chunked_attention", "linear_attention"]), min_size=2, max_size=80))
def test_every_layer_kind_survives_in_few_layers(kinds: list[str]) -> None:
    tiny = shrink({"num_hidden_layers": len(kinds), "layer_types": kinds})
    assert set(tiny["layer_types"]) == set(kinds)
    assert len(tiny["layer_types"]) == tiny["num_hidden_layers"] <= 12


def test_periods_keep_one_whole_period() -> None:
    assert shrink({"num_hidden_layers": 30, "sliding_window_pattern": 6})["num_hidden_layers"] == 6
    jamba = shrink({"num_hidden_layers": 32, "attn_layer_period": 8, "attn_layer_offset": 4})
    assert jamba["num_hidden_layers"] == 8
    assert (jamba["attn_layer_period"], jamba["attn_layer_offset"]) == (8, 4)


def test_index_lists_keep_an_entry() -> None:
    assert shrink({"num_hidden_layers": 32, "attn_layer_indices": [9, 18, 27]})["attn_layer_indices"] == [1]
    assert shrink({"num_hidden_layers": 16, "full_attn_idxs": [1, 5, 8]})["full_attn_idxs"] == [1]


def test_gpt_neo_attention_types() -> None:
    tiny = shrink({"num_layers": 24, "attention_types": [[["global", "local"], 12]], "window_size": 256})
    assert tiny == {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 8}


def test_layers_that_predict_further_tokens_or_share_keys_go() -> None:
    tiny = shrink({"num_hidden_layers": 35, "num_kv_shared_layers": 15, "num_nextn_predict_layers": 1})
    assert (tiny["num_kv_shared_layers"], tiny["num_nextn_predict_layers"]) == (0, 0)


def test_per_layer_config_keeps_differences() -> None:
    config = {
        "num_hidden_layers": 12,
        "head_dim": 256,
        "sliding_window": 512,
        "per_layer_config": {
            "5": {"head_dim": 512, "sliding_window": None},
            "11": {"head_dim": 512, "sliding_window": None},
        },
    }
    tiny = shrink(config)
    assert tiny["num_hidden_layers"] == 6
    assert tiny["per_layer_config"] == {"5": {"head_dim": 32, "sliding_window": None}}


# Other fields -------------------------------------------------------------------------------------


def test_experts() -> None:
    tiny = shrink(
        {"num_experts": 128, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "first_k_dense_replace": 3}
    )
    assert tiny == {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    }


def test_special_tokens_are_below_the_probe_ids_and_distinct() -> None:
    tiny = shrink(
        {
            "pad_token_id": 151643,
            "bos_token_id": None,
            "eos_token_id": [151645, 151643],
            "image_token_id": 151655,
            "video_token_id": 151656,
        }
    )
    assert tiny["pad_token_id"] == 0
    assert tiny["bos_token_id"] is None
    assert tiny["eos_token_id"] == [2]
    assert {tiny["image_token_id"], tiny["video_token_id"]} == {40, 41}


def test_storage_keys_are_dropped() -> None:
    dropped = {"quantization_config": {"bits": 4}, "auto_map": {}, "torch_dtype": "bfloat16", "architectures": ["X"]}
    assert shrink({**MISTRAL, **dropped}) == shrink(MISTRAL)


def test_native_rung_keeps_widths_and_heads() -> None:
    tiny = shrink({**MISTRAL, "head_dim": 128}, head_dim=None)
    assert (tiny["hidden_size"], tiny["num_attention_heads"], tiny["head_dim"]) == (4096, 32, 128)
    assert (tiny["num_hidden_layers"], tiny["sliding_window"], tiny["vocab_size"]) == (2, 8, 128)


def test_sub_configs_are_shrunk_from_their_own_defaults() -> None:
    defaults = {"encoder": {"model_type": "m", "hidden_size": 2048, "sliding_window": 4096}, "vocab_size": 256000}
    tiny = shrink({"encoder": {"sliding_window": None}}, defaults)
    assert tiny["encoder"] == {"sliding_window": None, "model_type": "m", "hidden_size": 64}
    assert tiny["vocab_size"] == 128


def test_vision_towers_keep_their_windows() -> None:
    tiny = shrink({"vision_config": {"window_size": 112, "depth": 32, "patch_size": 14, "image_size": 448}})
    assert tiny["vision_config"] == {"window_size": 112, "depth": 2, "patch_size": 14, "image_size": 28}


def test_aliases_come_out_under_the_field_name() -> None:
    tiny = shrink({"num_hidden_layers": 48}, {"n_layer": 12}, aliases={"num_hidden_layers": "n_layer"})
    assert tiny == {"n_layer": 2}


def test_positions_beside_a_rotary_length_keep_their_ratio() -> None:
    scaled = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}}
    assert shrink({**MISTRAL, **scaled, "max_position_embeddings": 131072})["max_position_embeddings"] == 131072
    assert shrink({**MISTRAL, **scaled})["rope_scaling"] == scaled["rope_scaling"]


@given(st.lists(st.integers(1, 64), min_size=3, max_size=3), st.sampled_from([16, 32, 64, 128]))
def test_mrope_sections_fill_half_the_rotary_width(sections: list[int], head_dim: int) -> None:
    new = rope({"mrope_section": sections}, head_dim)["mrope_section"]
    assert sum(new) == head_dim // 2
    assert min(new) >= 1


def test_longrope_factors_are_cut_to_the_rotary_width() -> None:
    parameters = {"rope_type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48, "factor": 32.0}
    assert rope(parameters, 16) == {**parameters, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    assert len(rope(parameters, 16, 0.5)["long_factor"]) == 4


SETS = (rules.LAYERS, rules.WINDOWS, rules.PERIODS, rules.INDEX_LISTS, rules.HEAD_DIMS, rules.EXPERT_COUNTS, rules.ONES)
LISTS = (rules.KIND_LISTS, rules.HIDDEN, rules.HEADS_KEYS)
OTHERS = "num_key_value_heads attn_layer_offset attention_types max_window_layers use_sliding_window per_layer_config"
KEYS = sorted({*frozenset().union(*SETS, *LISTS), *OTHERS.split(), "rope_parameters", "text_config", "pad_token_id"})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10**6) | st.floats(0, 10) | st.sampled_from(["x", S, "LLLG"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*KEYS, "0", "3"]), inner, max_size=3),
    max_leaves=8,
)


@given(
    config=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8),
    defaults=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8),
    resolved=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8),
    head_dim=st.sampled_from([16, None]),
    fill=st.booleans(),
)
def test_no_config_however_odd_breaks_the_rules(
    config: dict[str, Any], defaults: dict[str, Any], resolved: dict[str, Any], head_dim: int | None, fill: bool
) -> None:
    tiny = shrink(config, defaults, head_dim=head_dim, resolved=resolved, fill=fill)
    assert set(config) <= set(tiny)
    for key in rules.WINDOWS:
        if key in config and isinstance(config[key], int):
            assert tiny[key] == min(config[key], 8)
