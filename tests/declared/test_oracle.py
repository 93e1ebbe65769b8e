"""The oracle, rule by rule, in the order of the survey of config fields (section 2)."""

from __future__ import annotations

from typing import Any

import pytest

from attncheck.declared.oracle import declare
from attncheck.semantics.spec import CAUSAL, FULL, AttentionSpec, Bias, HeadMap, ModelSpec, Part, Window

#: Constructor defaults of transformers 5 config classes, the attention keys only.
QWEN2 = {"sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 28, "layer_types": None}
SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4}
FOUR_F = ["full_attention"] * 4


def model(model_type: str, defaults: dict[str, Any] | None = None, /, **keys: Any) -> ModelSpec:
    return declare({"model_type": model_type, **SIZES, **keys}, {} if defaults is None else defaults)


def kinds(spec: ModelSpec, part: Part = Part.DECODER) -> list[str]:
    return [layer.kind for layer in spec.of_part(part)]


def windows(spec: ModelSpec, part: Part = Part.DECODER) -> list[Window]:
    return [layer.mask.window for layer in spec.of_part(part)]


def only(spec: ModelSpec) -> AttentionSpec:
    """The one description that all layers share."""
    assert (
        len(
            {(x.mask, x.softmax, x.num_heads, x.num_kv_heads, x.head_dim, x.head_dim_v, x.unknown) for x in spec.layers}
        )
        == 1
    )
    return spec.layers[0]


def codes(spec: ModelSpec) -> list[str]:
    return [note.code for note in spec.notes]


def unknown(spec: ModelSpec) -> set[str]:
    return set().union(*(layer.unknown for layer in spec.layers))


# 2.1 which layers ---------------------------------------------------------------------------------


def test_layer_types_decide_entry_by_entry_and_win_over_the_pattern_key() -> None:
    listed = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    spec = model("gemma3_text", layer_types=listed, sliding_window_pattern=2, sliding_window=8)
    assert windows(spec) == [Window(7, 0), CAUSAL, CAUSAL, Window(7, 0)]
    assert "ambiguous-key" in codes(spec)


def test_layer_types_of_another_length_are_unknown() -> None:
    spec = model("qwen2", QWEN2, layer_types=["full_attention"] * 3)
    assert unknown(spec) == {"kind"}
    assert not any(layer.mask_known for layer in spec.layers)


def test_an_unlisted_layer_type_is_unknown_and_the_others_stay_known() -> None:
    spec = model("llama", layer_types=["full_attention", "retrieval_attention", "full_attention", "full_attention"])
    assert [bool(layer.unknown) for layer in spec.layers] == [False, True, False, False]


def test_older_words_for_layer_types_are_understood() -> None:
    spec = model("qwen3_next", layer_types=["mamba", "attention", "linear_attention", "full_attention"])
    assert [layer.attends for layer in spec.layers] == [False, True, False, True]


@pytest.mark.parametrize("model_type", ["qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text", "qwen3"])
def test_qwen_slides_from_max_window_layers_on(model_type: str) -> None:
    spec = model(model_type, QWEN2, use_sliding_window=True, sliding_window=8, max_window_layers=3)
    assert kinds(spec) == ["full_attention"] * 3 + ["sliding_attention"]
    assert windows(spec)[3] == Window(7, 0)
    assert "max-window-layers" in codes(spec)


def test_dots1_slides_from_max_window_layers_on_without_a_switch() -> None:
    assert kinds(model("dots1", {}, sliding_window=8, max_window_layers=3)) == ["full_attention"] * 3 + [
        "sliding_attention"
    ]


def test_qwen2_moe_slides_on_even_layers_below_max_window_layers() -> None:
    one = model("qwen2_moe", QWEN2, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    assert windows(one) == [Window(7, 0), CAUSAL, CAUSAL, CAUSAL]
    default = model("qwen2_moe", QWEN2, use_sliding_window=True, sliding_window=8)
    assert windows(default) == [Window(7, 0), CAUSAL, Window(7, 0), CAUSAL]


def test_qwen3_moe_slides_everywhere_whatever_max_window_layers_says() -> None:
    spec = model("qwen3_moe", QWEN2, use_sliding_window=True, sliding_window=8, max_window_layers=4)
    assert only(spec).mask.window == Window(7, 0)


def test_smollm3_slides_on_layers_without_rope() -> None:
    defaults = {"use_sliding_window": False, "sliding_window": None, "layer_types": None, "no_rope_layer_interval": 4}
    on = model("smollm3", defaults, use_sliding_window=True, sliding_window=8)
    assert windows(on) == [CAUSAL, CAUSAL, CAUSAL, Window(7, 0)]
    three = model("smollm3", defaults, use_sliding_window=True, sliding_window=8, num_hidden_layers=3)
    assert kinds(three) == ["full_attention"] * 3
    assert "window-switched-off" in codes(three)
    assert kinds(model("smollm3", defaults, sliding_window=8)) == FOUR_F


@pytest.mark.parametrize("model_type", ["mistral", "phi3", "starcoder2", "mixtral"])
def test_plain_windowed_types_slide_everywhere(model_type: str) -> None:
    assert only(model(model_type, {"sliding_window": None}, sliding_window=8)).mask.window == Window(7, 0)


@pytest.mark.parametrize("model_type", ["gemma2", "gpt_oss", "vaultgemma"])
def test_alternating_types_slide_first(model_type: str) -> None:
    spec = model(model_type, {"layer_types": None}, sliding_window=8, head_dim=16)
    assert windows(spec) == [Window(7, 0), CAUSAL, Window(7, 0), CAUSAL]


def test_gemma3_counts_its_pattern_though_the_class_does_not_list_the_key() -> None:
    defaults = {"sliding_window": 4096, "layer_types": None, "query_pre_attn_scalar": 256, "head_dim": 256}
    six = model("gemma3_text", defaults, num_hidden_layers=7, sliding_window=8)
    assert [window.bounded for window in windows(six)] == [True] * 5 + [False, True]
    three = model("gemma3_text", defaults, num_hidden_layers=7, sliding_window=8, sliding_window_pattern=3)
    assert [window.bounded for window in windows(three)] == [True, True, False, True, True, False, True]


def test_gpt_neo_starts_global_and_reads_window_size() -> None:
    sizes = {"num_layers": 4, "num_heads": 4, "hidden_size": 64, "window_size": 8}
    spec = declare({"model_type": "gpt_neo", **sizes, "attention_types": [[["global", "local"], 2]]}, {})
    assert kinds(spec) == ["global", "local", "global", "local"]
    assert windows(spec) == [CAUSAL, Window(7, 0), CAUSAL, Window(7, 0)]


def test_modernbert_starts_with_a_full_layer_and_reads_the_total_width() -> None:
    spec = model("modernbert", {"local_attention": 128}, num_hidden_layers=4, local_attention=16)
    assert windows(spec, Part.ENCODER) == [FULL, Window(8, 8), Window(8, 8), FULL]
    every = model("modernbert", {"local_attention": 128}, global_attn_every_n_layers=2)
    assert windows(every, Part.ENCODER) == [FULL, Window(64, 64), FULL, Window(64, 64)]


def test_llama4_no_rope_layers_one_means_rope_and_chunked() -> None:
    spec = model("llama4_text", {}, no_rope_layers=[1, 0, 1, 1], attention_chunk_size=8)
    assert [layer.mask.chunk for layer in spec.layers] == [8, None, 8, 8]
    assert {layer.mask.window for layer in spec.layers} == {CAUSAL}
    empty = model("llama4_text", {}, no_rope_layers=[], attention_chunk_size=8)
    assert [layer.mask.chunk for layer in empty.layers] == [8, 8, 8, None]


def test_exaone4_understands_letters_numbers_and_null() -> None:
    letters = model("exaone4", {}, sliding_window_pattern="LLG", sliding_window=8)
    assert [window.bounded for window in windows(letters)] == [True, True, False, True]
    assert "ambiguous-key" in codes(letters)
    number = model("exaone4", {}, sliding_window_pattern=2, sliding_window=8)
    assert [window.bounded for window in windows(number)] == [True, False, True, False]
    assert kinds(model("exaone4", {"sliding_window_pattern": 4}, sliding_window=None)) == FOUR_F


@pytest.mark.parametrize(
    ("model_type", "keys", "attends"),
    [
        ("jamba", {"attn_layer_period": 4, "attn_layer_offset": 2}, [False, False, True, False]),
        ("bamba", {"attn_layer_indices": [1, 3]}, [False, True, False, True]),
        (
            "zamba",
            {"attn_layer_period": 6, "attn_layer_offset": 4, "attention_head_dim": 16},
            [False, False, True, False],
        ),
        ("zamba2", {"layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]}, [False, True, False, True]),
        ("nemotron_h", {"hybrid_override_pattern": "M-*M"}, [False, False, True, False]),
        (
            "granitemoehybrid",
            {"layers_block_type": ["mamba", "attention"] * 2, "attention_multiplier": 1},
            [False, True] * 2,
        ),
        ("recurrent_gemma", {"block_types": ["recurrent", "attention"], "attention_window_size": 8}, [False, True] * 2),
        ("lfm2", {"full_attn_idxs": [0]}, [True, False, False, False]),
        ("falcon_h1", {}, [True] * 4),
        ("qwen3_next", {"full_attention_interval": 2}, [False, True, False, True]),
        ("minimax", {}, [True, False, True, False]),
        (
            "kimi_linear",
            {"linear_attn_config": {"full_attn_layers": [2], "kda_layers": [1, 3, 4]}},
            [False, True, False, False],
        ),
        ("mamba2", {}, [False] * 4),
    ],
)
def test_hybrids_attend_only_where_the_type_says_so(model_type: str, keys: dict[str, Any], attends: list[bool]) -> None:
    spec = model(model_type, {}, **keys)
    assert [layer.attends for layer in spec.layers] == attends
    assert not unknown(spec)


@pytest.mark.parametrize(
    ("model_type", "keys", "bounded"),
    [
        ("cohere2", {}, [1, 1, 1, 0, 1, 1, 1, 0]),
        ("olmo3", {}, [1, 1, 1, 0, 1, 1, 1, 0]),
        ("cwm", {}, [0, 1, 1, 1, 0, 1, 1, 1]),
        ("granite_swa", {"attention_multiplier": 1}, [0, 1, 1, 1, 0, 1, 1, 1]),
        ("beam", {}, [1, 1, 1, 1, 1, 0, 1, 0]),
        ("flint", {}, [0, 0, 1, 1, 1, 0, 1, 0]),
        ("mimo_v2_flash", {}, [0, 1, 1, 1, 1, 0, 1, 1]),
        ("muse_glimmer_text", {}, [1, 1, 1, 0, 1, 1, 1, 0]),
        ("gemma3n_text", {}, [1, 1, 1, 1, 0, 1, 1, 1]),
        ("afmoe", {"global_attn_every_n_layers": 2}, [1, 0] * 4),
        (
            "cohere2_moe",
            {"first_k_dense_replace": 2, "prefix_dense_sliding_window_pattern": 1, "sliding_window_pattern": 2},
            [0, 0, 1, 0, 1, 0, 1, 0],
        ),
    ],
)
def test_periodic_patterns(model_type: str, keys: dict[str, Any], bounded: list[int]) -> None:
    spec = model(model_type, {}, num_hidden_layers=8, sliding_window=8, **keys)
    assert [int(layer.mask.window.bounded) for layer in spec.layers] == bounded


def test_a_class_that_computes_layer_types_in_a_way_nobody_described_is_unknown() -> None:
    assert unknown(model("llama", {"layer_types": None})) == {"kind"}
    spec = declare({"model_type": "brand_new", "architectures": ["BrandNewForCausalLM"], **SIZES}, {"layer_pattern": 1})
    assert "direction" not in unknown(spec)
    strange = model("llama", {}, sliding_window_pattern=4)
    assert unknown(strange) == {"kind"}


# 2.2 missing key against null ---------------------------------------------------------------------


def test_a_mistral_file_without_the_key_is_windowed_and_null_is_off() -> None:
    defaults = {"sliding_window": 4096}
    missing = model("mistral", defaults)
    assert only(missing).mask.window == Window(4095, 0)
    assert missing.sources["window"] == "class default: sliding_window"
    null = model("mistral", defaults, sliding_window=None)
    assert only(null).mask.window == CAUSAL


def test_a_missing_window_is_unknown_while_the_class_default_is() -> None:
    assert unknown(declare({"model_type": "mistral", **SIZES})) == {"window"}
    assert unknown(declare({"model_type": "qwen2", "sliding_window": 8, **SIZES})) == {"window"}
    assert not unknown(declare({"model_type": "llama", **SIZES}))


@pytest.mark.parametrize("value", [0, None, False])
def test_zero_and_null_are_off(value: object) -> None:
    assert only(model("mistral", {"sliding_window": 4096}, sliding_window=value)).mask.window == CAUSAL


def test_head_dim_null_is_absent() -> None:
    assert only(model("mistral", {"head_dim": None, "sliding_window": None}, head_dim=None)).head_dim == 16
    assert only(model("gemma", {"head_dim": 256}, head_dim=None)).head_dim == 256


def test_a_window_at_or_beyond_the_longest_sequence_is_noted() -> None:
    beyond = model("phi3", {"sliding_window": None}, sliding_window=262144, max_position_embeddings=131072)
    assert codes(beyond) == ["window-exceeds-max-position"]
    assert only(beyond).mask.window == Window(262143, 0)
    equal = model("moshi", {"sliding_window": 3000, "max_position_embeddings": 3000})
    assert codes(equal) == ["window-exceeds-max-position"]
    assert "equals" in equal.notes[0].text


def test_a_vision_window_size_is_no_text_window() -> None:
    config = {
        "model_type": "qwen2_5_vl",
        "text_config": {"model_type": "qwen2_5_vl_text", **SIZES},
        "vision_config": {"window_size": 112},
    }
    spec = declare(
        config, {"text_config": {"model_type": "qwen2_5_vl_text", **QWEN2}, "vision_config": {"window_size": 112}}
    )
    assert only(spec).mask.window == CAUSAL
    assert not unknown(spec)


def test_a_window_that_is_no_number_is_unknown() -> None:
    assert unknown(model("mistral", {"sliding_window": 4096}, sliding_window=[8, None])) == {"window"}


def test_the_redundant_second_spelling_of_gemma2_does_no_harm() -> None:
    same = model("gemma2", {"layer_types": None}, sliding_window=8, sliding_window_size=8, query_pre_attn_scalar=16)
    assert unknown(same) == set()
    other = model("gemma2", {"layer_types": None}, sliding_window=8, sliding_window_size=9, query_pre_attn_scalar=16)
    assert unknown(other) == {"window"}


# 2.3 what a window means --------------------------------------------------------------------------


def test_the_two_keys_of_mimo_mean_different_windows() -> None:
    plain = model("mimo_v2_flash", {"sliding_window": 129}, sliding_window=8, head_dim=16, v_head_dim=8)
    assert windows(plain)[1] == Window(7, 0)
    older = model("mimo_v2_flash", {"sliding_window": 129}, sliding_window_size=8, head_dim=16, v_head_dim=8)
    assert windows(older)[1] == Window(8, 0)
    assert "window-key-meaning" in codes(older)


def test_bidirectional_conventions() -> None:
    inclusive = model("mistral", {"sliding_window": 4096}, sliding_window=8, is_causal=False)
    assert only(inclusive).mask.window == Window(8, 8)
    half = model(
        "gemma3_text", {"query_pre_attn_scalar": 16}, sliding_window=512, use_bidirectional_attention=True, head_dim=16
    )
    assert windows(half)[0] == Window(256, 256)
    assert windows(model("ultrabert", {}, sliding_window=8), Part.ENCODER)[0] == Window(8, 8)
    assert windows(model("openai_privacy_filter", {}, sliding_window=8), Part.ENCODER)[0] == Window(8, 8)


def test_is_causal_false_has_the_convention_of_the_shared_mask_function_in_every_type() -> None:
    spec = model("qwen2", QWEN2, use_sliding_window=True, sliding_window=8, max_window_layers=2, is_causal=False)
    assert windows(spec) == [FULL, FULL, Window(8, 8), Window(8, 8)]
    gemma3 = model("gemma3_text", {"query_pre_attn_scalar": 16}, sliding_window=8, is_causal=False, head_dim=16)
    assert windows(gemma3)[0] == Window(8, 8)  # "half" is the convention of its own switch


def test_the_shared_mask_function_knows_no_other_spelling_of_the_window() -> None:
    spec = model("gpt_neo", {}, window_size=8, attention_types=[[["local"], 4]], num_layers=4, is_causal=False)
    assert [layer.unknown for layer in spec.layers] == [{"window"}] * 4


def test_is_causal_false_switches_the_decoder_of_an_encoder_decoder_too() -> None:
    for model_type in ("bart", "whisper"):
        spec = model(model_type, {}, is_causal=False, encoder_layers=1, decoder_layers=1, d_model=64)
        assert windows(spec, Part.DECODER) == [FULL]
        assert windows(model(model_type, {}, decoder_layers=1, d_model=64), Part.DECODER) == [CAUSAL]
    nested = t5gemma()
    nested["decoder"] = {**nested["decoder"], "is_causal": False}
    assert windows(declare(nested, {}), Part.DECODER)[0] == Window(8, 8)


def test_is_causal_false_switches_a_bert_that_is_a_decoder() -> None:
    assert windows(model("bert", {}, is_decoder=True, num_hidden_layers=1), Part.DECODER) == [CAUSAL]
    assert windows(model("bert", {}, is_decoder=True, is_causal=False, num_hidden_layers=1), Part.DECODER) == [FULL]


def test_any_other_bidirectional_window_is_unknown() -> None:
    gemma2 = model("gemma2", {"query_pre_attn_scalar": 16}, sliding_window=8, use_bidirectional_attention=True)
    assert [layer.unknown for layer in gemma2.layers] == [{"window"}, frozenset()] * 2


def test_the_window_of_leds_encoder_is_not_its_decoders() -> None:
    spec = model("led", {}, attention_window=[512, 512], encoder_layers=2, decoder_layers=2, d_model=64)
    assert [layer.unknown for layer in spec.of_part(Part.ENCODER)] == [{"window"}] * 2
    assert all(layer.mask_known and layer.mask.window == CAUSAL for layer in spec.of_part(Part.DECODER))
    assert all(layer.mask_known and layer.mask.window == FULL for layer in spec.of_part(Part.CROSS))


@pytest.mark.parametrize("model_type", ["seamless_m4t", "seamless_m4t_v2"])
def test_the_text_stacks_of_seamless_are_those_of_an_encoder_decoder(model_type: str) -> None:
    spec = model(model_type, {"is_encoder_decoder": True}, encoder_layers=1, decoder_layers=1)
    parts = (Part.ENCODER, Part.DECODER, Part.CROSS)
    assert [windows(spec, part) for part in parts] == [[FULL], [CAUSAL], [FULL]]
    assert unknown(spec) == set()


def t5gemma(**keys: Any) -> dict[str, Any]:
    module = {
        "model_type": "t5_gemma_module",
        **SIZES,
        "head_dim": 16,
        "sliding_window": 8,
        "query_pre_attn_scalar": 16,
        **keys,
    }
    return {"model_type": "t5gemma", "encoder": module, "decoder": dict(module)}


def test_t5gemma_encoder_is_inclusive_and_its_decoder_causal() -> None:
    spec = declare(t5gemma(attn_logit_softcapping=50.0), {"is_encoder_decoder": True})
    assert windows(spec, Part.ENCODER) == [Window(8, 8), FULL, Window(8, 8), FULL]
    assert windows(spec, Part.DECODER) == [Window(7, 0), CAUSAL, Window(7, 0), CAUSAL]
    assert {layer.softmax.softcap for layer in spec.layers} == {50.0}


def test_t5gemma_reads_nested_class_defaults_when_the_file_has_no_sub_configs() -> None:
    module = {
        "model_type": "t5_gemma_module",
        "sliding_window": 4096,
        "layer_types": None,
        "query_pre_attn_scalar": 256,
        "is_decoder": False,
    }
    spec = declare({"model_type": "t5gemma"}, {"encoder": {**SIZES, **module}, "decoder": {**SIZES, **module}})
    assert windows(spec, Part.ENCODER)[0] == Window(4096, 4096)
    assert windows(spec, Part.DECODER)[0] == Window(4095, 0)


def test_the_decoder_of_a_generic_wrapper_is_what_its_keys_say() -> None:
    half = {"model_type": "bert", **SIZES}
    config = {"model_type": "encoder-decoder", "encoder": half}
    spec = declare({**config, "decoder": {**half, "is_decoder": True}}, {})
    assert (windows(spec, Part.ENCODER)[0], windows(spec)[0], windows(spec, Part.CROSS)[0]) == (FULL, CAUSAL, FULL)
    assert windows(declare({**config, "decoder": {**half, "is_decoder": False}}, {}))[0] == FULL
    assert windows(declare({**config, "decoder": {"model_type": "gpt2", **SIZES}}, {}))[0] == CAUSAL


def test_t5gemma2_encoder_counts_the_total_width_and_its_decoder_is_unknown() -> None:
    text = {"model_type": "t5gemma2_text", **SIZES, "head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16}
    config = {"model_type": "t5gemma2", "encoder": {"model_type": "t5gemma2_encoder", "text_config": text}}
    spec = declare({**config, "decoder": {**text, "model_type": "t5gemma2_decoder"}}, {})
    assert windows(spec, Part.ENCODER)[0] == Window(3, 4)
    assert all("kind" in layer.unknown for layer in spec.of_part(Part.DECODER))
    assert spec.of_part(Part.CROSS) == ()


# 2.4 chunks ---------------------------------------------------------------------------------------


def test_a_chunked_layer_without_a_size_is_unknown() -> None:
    spec = model("llama4_text", {}, no_rope_layers=[1, 0, 1, 1])
    assert [bool(layer.unknown) for layer in spec.layers] == [True, False, True, True]


# 2.5 direction ------------------------------------------------------------------------------------


def test_is_causal_false_turns_a_decoder_around_but_leaves_it_a_decoder() -> None:
    spec = model("llama", {}, is_causal=False)
    assert only(spec).mask.window == FULL
    assert only(spec).part is Part.DECODER
    assert spec.sources["direction"] == "config: is_causal"


@pytest.mark.parametrize("model_type", ["gemma", "gemma2", "gemma3_text"])
def test_use_bidirectional_attention_is_a_switch_for_gemma(model_type: str) -> None:
    spec = model(
        model_type, {}, use_bidirectional_attention=True, head_dim=16, query_pre_attn_scalar=16, layer_types=FOUR_F
    )
    assert only(spec).mask.window == FULL
    assert only(model(model_type, {}, head_dim=16, query_pre_attn_scalar=16, layer_types=FOUR_F)).mask.window == CAUSAL


def test_use_bidirectional_attention_is_one_of_two_words_for_gemma4() -> None:
    assert windows(model("gemma4_text", {}, use_bidirectional_attention="vision", sliding_window=8))[0] == Window(7, 0)
    both = model("gemma4_text", {}, use_bidirectional_attention="all", layer_types=FOUR_F)
    assert only(both).mask.window == FULL
    assert "direction" in unknown(model("gemma4_text", {}, use_bidirectional_attention=True, sliding_window=8))
    assert "direction" in unknown(model("llama", {}, use_bidirectional_attention=True))


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra", "xlm-roberta", "big_bird"])
def test_is_decoder_is_the_switch_of_bert_like_classes(model_type: str) -> None:
    keys = {"attention_type": "original_full", "architectures": ["XForCausalLM"]}
    assert only(model(model_type, {"is_decoder": False}, **keys)).mask.window == FULL
    assert only(model(model_type, {"is_decoder": False}, **keys)).part is Part.ENCODER
    assert only(model(model_type, {"is_decoder": False}, is_decoder=True, **keys)).mask.window == CAUSAL


@pytest.mark.parametrize("model_type", ["layoutlm", "splinter", "markuplm", "distilbert", "albert"])
def test_encoders_look_both_ways(model_type: str) -> None:
    spec = model(model_type, {})
    assert only(spec).mask.window == FULL
    assert only(spec).part is Part.ENCODER


@pytest.mark.parametrize("model_type", ["doge", "clip_text_model", "gpt_neox"])
def test_decoders_are_causal_whatever_a_module_or_is_decoder_says(model_type: str) -> None:
    assert only(model(model_type, {"is_decoder": False})).mask.window == CAUSAL


@pytest.mark.parametrize("model_type", ["bart", "nllb-moe", "marian", "pegasus_x", "bigbird_pegasus"])
def test_flat_encoder_decoders_have_a_causal_decoder_and_full_cross_attention(model_type: str) -> None:
    keys = {
        "d_model": 64,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 8,
    }
    spec = declare({"model_type": model_type, "attention_type": "original_full", **keys}, {"is_encoder_decoder": True})
    assert windows(spec, Part.DECODER) == [CAUSAL] * 3
    assert windows(spec, Part.CROSS) == [FULL] * 3
    assert windows(spec, Part.ENCODER) == [FULL] * 2
    assert (spec.of_part(Part.ENCODER)[0].num_heads, spec.of_part(Part.DECODER)[0].num_heads) == (4, 8)
    assert spec.of_part(Part.DECODER)[0].head_dim == 8


def test_t5_counts_its_encoder_as_num_layers_and_falls_back_to_it() -> None:
    keys = {"model_type": "t5", "d_model": 64, "num_heads": 4, "d_kv": 16, "num_layers": 2}
    assert len(declare(keys, {"num_decoder_layers": None}).of_part(Part.DECODER)) == 2
    assert len(declare({**keys, "num_decoder_layers": 3}, {}).of_part(Part.DECODER)) == 3


def test_prefix_models_have_no_known_direction() -> None:
    text = {"model_type": "gemma", **SIZES, "head_dim": 16}
    assert "direction" in unknown(declare({"model_type": "paligemma", "text_config": text}, {}))
    assert not unknown(declare({"model_type": "shieldgemma2", "text_config": text}, {}))


def test_the_direction_of_an_unlisted_type_comes_from_keys_or_is_unknown() -> None:
    plain = {"model_type": "brand_new", **SIZES}
    assert "direction" in unknown(declare(plain, {}))
    causal = declare({**plain, "architectures": ["BrandNewForCausalLM"]}, {})
    assert windows(causal) == [CAUSAL] * 4
    masked = declare({**plain, "architectures": ["BrandNewForMaskedLM"]}, {})
    assert windows(masked, Part.ENCODER) == [FULL] * 4
    assert "direction" in unknown(declare({**plain, "architectures": ["BrandNewForCausalLM"]}, None))
    seq2seq = declare({**plain, "is_encoder_decoder": True}, {})
    assert all("direction" in layer.unknown for layer in seq2seq.of_part(Part.DECODER))


# 2.6 scale ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "keys", "scale"),
    [
        ("llama", {}, 0.25),
        ("llama", {"head_dim": 64}, 0.125),
        ("gemma2", {"query_pre_attn_scalar": 144, "head_dim": 128, "layer_types": FOUR_F}, 144**-0.5),
        ("gemma3_text", {"query_pre_attn_scalar": 168, "head_dim": 128, "layer_types": FOUR_F}, 168**-0.5),
        ("granite", {"attention_multiplier": 0.0078125}, 0.0078125),
        ("granitemoe", {"attention_multiplier": 0.5}, 0.5),
        ("hyperclovax", {"attention_multiplier": None}, 0.25),
        ("gemma3n_text", {"layer_types": FOUR_F}, 1.0),
        ("gemma4_text", {"layer_types": FOUR_F}, 1.0),
        ("gpt_neo", {"num_layers": 4, "num_heads": 4, "attention_types": [[["global"], 4]]}, 1.0),
        ("gpt2", {"scale_attn_weights": False}, 1.0),
        ("zamba2", {"layers_block_type": ["hybrid"] * 4}, 16**-0.5),
        ("deepseek_v3", {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}, 192**-0.5),
        ("inkling_text", {"head_dim": 16, "swa_head_dim": 16, "layer_types": ["hybrid"] * 4}, 1 / 16),
        ("mpt", {"attn_config": {"softmax_scale": 0.3}}, 0.3),
    ],
)
def test_scales(model_type: str, keys: dict[str, Any], scale: float) -> None:
    layers = model(model_type, {}, **keys).layers
    assert [layer.softmax.scale for layer in layers] == [pytest.approx(scale, rel=1e-12)] * 4
    assert not any("scale" in layer.unknown for layer in layers)


def test_gpt2_may_divide_by_the_layer_number() -> None:
    spec = model("gpt2", {}, scale_attn_by_inverse_layer_idx=True)
    assert [layer.softmax.scale for layer in spec.layers] == [0.25, 0.125, pytest.approx(0.25 / 3), 0.0625]


@pytest.mark.parametrize("spelling", ["type", "rope_type"])
def test_yarn_raises_the_scale_of_latent_attention(spelling: str) -> None:
    yarn = {spelling: "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0}
    keys = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
    # 0.1 * ln(40) + 1 = 1.3688879..., squared and times 192^-0.5
    assert only(model("deepseek_v3", {}, rope_scaling=yarn, **keys)).softmax.scale == pytest.approx(
        0.13523377, rel=1e-6
    )
    odd = {spelling: "strange", "factor": 40, "mscale_all_dim": 1.0}
    assert "scale" in unknown(model("deepseek_v3", {}, rope_scaling=odd, **keys))


def test_rope_parameters_that_the_class_fills_in_leave_the_scale_unknown() -> None:
    keys = {"qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 16}
    assert unknown(model("mistral4", {"rope_parameters": None}, **keys)) == {"scale"}
    plain = model("mistral4", {}, rope_parameters={"rope_type": "default"}, **keys)
    assert only(plain).softmax.scale == 0.25


def test_scales_without_a_rule_are_unknown() -> None:
    assert "scale" in unknown(model("muse_glimmer_text", {}, sliding_window=8, qk_scale_factor=1.0))
    assert "scale" in unknown(model("llama", {}, qk_scale_factor=2.0))
    assert "scale" in unknown(model("llama", {}, query_pre_attn_scalar=256))
    assert "scale" in unknown(model("gemma2", {}, layer_types=FOUR_F))
    assert "scale" in unknown(model("llama", {}, qk_nope_head_dim=8, qk_rope_head_dim=8))


# 2.7 softcap, sinks, bias -------------------------------------------------------------------------


def test_softcap_is_the_attention_one_only() -> None:
    keys = {"layer_types": FOUR_F, "query_pre_attn_scalar": 16, "head_dim": 16}
    assert only(model("gemma2", {"attn_logit_softcapping": 50.0}, **keys)).softmax.softcap == 50.0
    off = model(
        "gemma2", {"attn_logit_softcapping": 50.0}, attn_logit_softcapping=None, final_logit_softcapping=30.0, **keys
    )
    assert only(off).softmax.softcap is None
    assert only(model("llama", {}, logits_soft_cap=30.0)).softmax.softcap is None


@pytest.mark.parametrize(
    "model_type", ["gpt_oss", "flint", "granite_swa", "granitemoe_swa", "deepseek_v4", "hy_v4", "inkling2_text"]
)
def test_sinks_by_type(model_type: str) -> None:
    spec = model(model_type, {}, sliding_window=8, attention_multiplier=1)
    assert all(layer.softmax.sinks for layer in spec.layers)


def test_mimo_has_sinks_on_sliding_layers_unless_its_keys_say_otherwise() -> None:
    keys = {"sliding_window": 8, "head_dim": 16, "v_head_dim": 8}
    assert [layer.softmax.sinks for layer in model("mimo_v2_flash", {}, **keys).layers] == [False, True, True, True]
    swapped = {"add_swa_attention_sink_bias": False, "add_full_attention_sink_bias": True}
    assert [x.softmax.sinks for x in model("mimo_v2_flash", {}, **keys, **swapped).layers] == [
        True,
        False,
        False,
        False,
    ]
    listed = model("mimo_v2_flash", {}, hybrid_layer_pattern=[0, 1, 0, 1], **keys)
    assert [window.bounded for window in windows(listed)] == [False, True, False, True]


def test_alibi() -> None:
    assert only(model("bloom", {})).softmax.bias is Bias.ALIBI
    assert only(model("mpt", {})).softmax.bias is Bias.ALIBI
    ignored = model("mpt", {}, attn_config={"alibi": False, "alibi_bias_max": 8})
    assert only(ignored).softmax.bias is Bias.ALIBI
    assert "ignored-key" in codes(ignored)
    assert only(model("falcon", {"alibi": False}, alibi=True)).softmax.bias is Bias.ALIBI
    assert only(model("falcon", {"alibi": False})).softmax.bias is Bias.NONE
    assert unknown(declare({"model_type": "falcon", **SIZES}, None)) == {"bias"}


def test_learned_bias_of_t5_and_mpnet_but_not_in_cross_attention() -> None:
    keys = {"d_model": 64, "num_heads": 4, "d_kv": 16, "num_layers": 2, "num_decoder_layers": 2}
    spec = declare({"model_type": "t5", **keys}, {})
    assert {layer.softmax.bias for layer in spec.of_part(Part.DECODER)} == {Bias.LEARNED}
    assert {layer.softmax.bias for layer in spec.of_part(Part.CROSS)} == {Bias.NONE}
    assert {layer.softmax.scale for layer in spec.layers} == {1.0}
    assert only(model("mpnet", {})).softmax.bias is Bias.LEARNED
    assert only(model("doge", {})).softmax.bias is Bias.LEARNED


@pytest.mark.parametrize(
    ("model_type", "key"),
    [("starcoder2", "attention_dropout"), ("bert", "attention_probs_dropout_prob"), ("gpt2", "attn_pdrop")],
)
def test_attention_dropout_is_noted(model_type: str, key: str) -> None:
    assert "attention-dropout" in codes(model(model_type, {key: 0.0}, **{key: 0.1}))
    assert "attention-dropout" not in codes(model(model_type, {key: 0.0}))


# 2.8 heads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "keys", "expected"),
    [
        ("llama", {"num_key_value_heads": None}, (4, 4, 16, 16)),
        ("falcon", {"num_kv_heads": 4, "multi_query": True, "new_decoder_architecture": False}, (4, 1, 16, 16)),
        (
            "falcon",
            {"num_kv_heads": 2, "num_key_value_heads": None, "multi_query": True, "new_decoder_architecture": True},
            (4, 2, 16, 16),
        ),
        ("gpt_bigcode", {"multi_query": True}, (4, 1, 16, 16)),
        ("jetmoe", {"kv_channels": 32}, (4, 2, 32, 32)),
        ("gpt_oss", {"head_dim": 64, "layer_types": FOUR_F}, (4, 2, 64, 64)),
        (
            "minicpm3",
            {"qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64, "head_dim": 32},
            (4, 4, 96, 64),
        ),
        (
            "deepseek_v3",
            {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "head_dim": 64},
            (4, 4, 192, 128),
        ),
        ("dbrx", {"num_key_value_heads": None, "attn_config": {"kv_n_heads": 2}}, (4, 2, 16, 16)),
        ("mimo_v2_flash", {"head_dim": 24, "v_head_dim": 16, "layer_types": FOUR_F}, (4, 2, 24, 16)),
    ],
)
def test_heads_by_every_spelling(model_type: str, keys: dict[str, Any], expected: tuple[int, ...]) -> None:
    layer = only(model(model_type, {}, **keys))
    assert (layer.num_heads, layer.num_kv_heads, layer.head_dim, layer.head_dim_v) == expected
    assert layer.head_map is HeadMap.INTERLEAVE


def test_a_published_falcon_count_that_does_not_hold_is_noted() -> None:
    assert "ignored-key" in codes(model("falcon", {}, num_kv_heads=71, multi_query=True))


@pytest.mark.parametrize(
    "keys",
    [
        {"model_type": "gpt2", "n_layer": 4, "n_embd": 64, "n_head": 4, "n_positions": 128},
        {"model_type": "mpt", "n_layers": 4, "d_model": 64, "n_heads": 4, "max_seq_len": 128},
        {
            "model_type": "trocr",
            "decoder_layers": 4,
            "d_model": 64,
            "decoder_attention_heads": 4,
            "max_position_embeddings": 128,
        },
    ],
)
def test_sizes_by_every_spelling(keys: dict[str, Any]) -> None:
    spec = declare(keys, {})
    assert (len(spec.layers), spec.layers[0].num_heads, spec.layers[0].head_dim, spec.max_position) == (4, 4, 16, 128)


# 2.9 per-layer values -----------------------------------------------------------------------------


def test_gemma4_full_layers_have_their_own_width_and_heads() -> None:
    spec = model(
        "gemma4_text",
        {},
        num_hidden_layers=6,
        head_dim=256,
        global_head_dim=512,
        num_global_key_value_heads=1,
        sliding_window=8,
    )
    assert [(x.head_dim, x.num_kv_heads) for x in spec.layers] == [(256, 2)] * 5 + [(512, 1)]
    assert model("gemma4_text", {}, num_hidden_layers=6, sliding_window=8, head_dim=256).layers[5].head_dim == 512


@pytest.mark.parametrize("listed", [True, False])
def test_per_layer_config_overrides_single_layers(listed: bool) -> None:
    entries: Any = [{}, {"head_dim": 32, "sliding_window": 16}, {}, {"num_key_value_heads": 4}]
    per_layer = entries if listed else {str(i): entry for i, entry in enumerate(entries) if entry}
    spec = model("step3p5", {}, per_layer_config=per_layer, layer_types=["sliding_attention"] * 4, sliding_window=8)
    assert [layer.head_dim for layer in spec.layers] == [16, 32, 16, 16]
    assert windows(spec) == [Window(7, 0), Window(15, 0), Window(7, 0), Window(7, 0)]
    assert spec.layers[3].num_kv_heads == 4


# 2.11 what must be unknown ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "field"),
    [
        ("deepseek_v4", "window"),
        ("deepseek_v32", "kind"),
        ("glm_moe_dsa", "kind"),
        ("dots3_note_text", "kind"),
        ("big_bird", "kind"),
        ("longformer", "window"),
        ("unlimited_ocr_text", "window"),
        ("nystromformer", "kind"),
        ("xlnet", "direction"),
        ("diffusion_gemma_text", "direction"),
        ("git", "direction"),
        ("nemotron_asr_streaming", "direction"),
        ("reformer", "direction"),
    ],
)
def test_strange_types_are_unknown(model_type: str, field: str) -> None:
    spec = model(model_type, {"sliding_window": None}, sliding_window=8)
    assert field in unknown(spec)
    assert any(note.code == "unknown-declared" for note in spec.notes)


def test_block_sparse_encoders_are_unknown_and_their_decoders_are_not() -> None:
    keys = {
        "d_model": 64,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
    }
    for model_type in ("led", "pegasus_x", "bigbird_pegasus"):
        spec = declare({"model_type": model_type, **keys}, {})
        assert not any(layer.mask_known for layer in spec.of_part(Part.ENCODER)), model_type
        assert all(layer.mask_known for layer in spec.of_part(Part.DECODER)), model_type
    longt5 = declare(
        {"model_type": "longt5", "d_model": 64, "num_heads": 4, "num_layers": 2, "encoder_attention_type": "local"}, {}
    )
    assert not any(layer.mask_known for layer in longt5.of_part(Part.ENCODER))


def test_cross_attention_of_a_sliding_decoder_layer_is_unknown() -> None:
    spec = declare(t5gemma(), {})
    assert [layer.unknown for layer in spec.of_part(Part.CROSS)] == [{"window"}, frozenset(), {"window"}, frozenset()]


@pytest.mark.parametrize("key", ["attention_window", "window_size", "local_attention", "attention_windows"])
def test_an_unlisted_window_key_is_unknown(key: str) -> None:
    assert "window" in unknown(model("llama", {}, **{key: 128}))


def test_a_window_key_that_the_class_does_not_have_is_unknown() -> None:
    assert unknown(model("llama", {"hidden_size": 4096}, sliding_window=8)) == {"window"}
    assert unknown(model("llama", {"hidden_size": 4096}, sliding_window=None)) == set()


def test_cross_attention_layers_of_mllama_are_unknown_one_by_one() -> None:
    spec = model("mllama_text_model", {}, cross_attention_layers=[1])
    assert [bool(layer.unknown) for layer in spec.layers] == [False, True, False, False]


# levels, notes, sources ---------------------------------------------------------------------------


def test_the_text_level_counts_and_a_disagreeing_top_level_is_noted() -> None:
    text = {"model_type": "qwen2_5_vl_text", **SIZES, "sliding_window": None}
    spec = declare(
        {"model_type": "qwen2_5_vl", "sliding_window": 32768, "text_config": text},
        {"text_config": {"model_type": "qwen2_5_vl_text", **QWEN2}},
    )
    assert only(spec).mask.window == CAUSAL
    assert "ambiguous-key" in codes(spec)


def test_flat_files_of_multimodal_types_are_read_at_the_top() -> None:
    spec = model(
        "qwen2_5_vl",
        {"text_config": {"model_type": "qwen2_5_vl_text", **QWEN2}},
        sliding_window=32768,
        use_sliding_window=False,
    )
    assert only(spec).mask.window == CAUSAL
    assert codes(spec) == ["window-switched-off"]


def test_defaults_of_another_text_type_are_not_used() -> None:
    config = {"model_type": "llava", "text_config": {"model_type": "mistral", **SIZES}}
    assert unknown(declare(config, {"text_config": {"model_type": "llama"}})) == {"window"}
    spec = declare(config, {"text_config": {"model_type": "mistral", "sliding_window": 4096}})
    assert only(spec).mask.window == Window(4095, 0)


def test_a_text_sub_config_by_itself_finds_its_defaults_inside_those_of_the_composite() -> None:
    defaults = {"text_config": {"model_type": "gemma3_text", "sliding_window": 16, "query_pre_attn_scalar": 4}}
    spec = model("gemma3_text", defaults, head_dim=16)
    assert windows(spec)[0] == Window(15, 0)
    assert spec.layers[0].softmax.scale == 0.5


@pytest.mark.parametrize("architecture", ["LlavaQwenForCausalLM", "LlavaLlamaForCausalLM", "LlavaMistralForCausalLM"])
def test_the_original_llava_format_is_recognised(architecture: str) -> None:
    config = {
        "model_type": "llava",
        "architectures": [architecture],
        "mm_vision_tower": "x",
        "sliding_window": None,
        **SIZES,
    }
    spec = declare(config, {"text_config": {"model_type": "llama", "num_hidden_layers": 32}})
    assert "original-format" in codes(spec)
    assert windows(spec) == [CAUSAL] * 4


def test_window_switched_off_says_why() -> None:
    seven = {"sliding_window": 131072, "use_sliding_window": False, "max_window_layers": 4}
    spec = model("qwen2", QWEN2, max_position_embeddings=32768, **seven)
    assert only(spec).mask.window == CAUSAL
    (note,) = spec.notes
    assert note.code == "window-switched-off"
    assert "use_sliding_window is false" in note.text
    assert "max_window_layers (4)" in note.text
    on = model("qwen2", QWEN2, **{**seven, "use_sliding_window": True})
    assert only(on).mask.window == CAUSAL
    assert "no layer slides" in on.notes[0].text
    assert codes(model("qwen2", QWEN2)) == []


def test_sliding_layers_without_a_window_are_unknown_and_noted() -> None:
    spec = model("olmo3", {}, sliding_window=None)
    assert [bool(layer.unknown) for layer in spec.layers] == [True, True, True, False]
    assert "sliding-layer-without-window" in codes(spec)


def test_remote_code_beside_a_native_type_is_a_note() -> None:
    assert codes(model("phi3", {"sliding_window": None}, auto_map={"AutoConfig": "x"})) == ["remote-code"]


def test_sources_and_window_keys_name_the_keys() -> None:
    spec = model("mistral", {"sliding_window": 4096}, sliding_window=8)
    assert spec.window_keys == ("sliding_window",)
    assert spec.sources["window"] == "config: sliding_window"
    assert spec.sources["scale"] == "1 / sqrt(head_dim)"
    nested = declare(
        {"model_type": "mistral3", "text_config": {"model_type": "mistral", **SIZES, "sliding_window": 8}}, {}
    )
    assert nested.window_keys == ("text_config.sliding_window",)
    assert model("modernbert", {}, local_attention=16).window_keys == ("local_attention",)


@pytest.mark.parametrize("value", ["x", [], {}, 1.5, -1, True, [[1]], {"a": 1}, float("nan"), 10**30])
@pytest.mark.parametrize(
    "key",
    [
        "sliding_window",
        "num_attention_heads",
        "layer_types",
        "head_dim",
        "attention_types",
        "per_layer_config",
        "text_config",
        "rope_scaling",
    ],
)
def test_strange_values_never_raise(key: str, value: object) -> None:
    for model_type in ("mistral", "gpt_neo", "gemma4_text", "deepseek_v3", "qwen2_moe"):
        declare({"model_type": model_type, **SIZES, key: value}, {})
