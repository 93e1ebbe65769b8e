"""What types declare by rules of their own: alternating windows, ends, a window by its key, composite types."""

from __future__ import annotations

from typing import Any

import pytest

from attncheck.declared.oracle import declare
from attncheck.semantics.spec import FULL, ModelSpec, Part, Window

SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 4}


def text(model_type: str, **keys: Any) -> ModelSpec:
    return declare({"model_type": model_type, **SIZES, **keys}, {})


def windows(spec: ModelSpec) -> list[Window]:
    return [layer.mask.window for layer in spec.layers if layer.attends]


def known(spec: ModelSpec) -> bool:
    return bool(spec.layers) and all(layer.mask_known for layer in spec.layers if layer.attends)


def test_every_second_sliding_layer_of_neomme_has_the_long_window() -> None:
    spec = text("neomme", num_hidden_layers=7, sliding_window=256)
    short, long = Window(256, 256), Window(1024, 1024)
    assert windows(spec) == [short, long, short, long, short, FULL, FULL]
    assert known(spec)


def test_a_written_per_layer_config_of_neomme_wins() -> None:
    spec = text("neomme", num_hidden_layers=4, sliding_window=256, per_layer_config={"1": {"sliding_window": 8}})
    assert windows(spec) == [Window(256, 256), Window(8, 8), Window(256, 256), FULL]


@pytest.mark.parametrize(("flag", "attending"), [(True, [1, 2]), (False, [0, 1, 2, 3])])
def test_the_ends_of_sam3_lite_are_convolutions_if_the_flag_says_so(flag: bool, attending: list[int]) -> None:
    spec = text("sam3_lite_text_text_model", use_repmixer_blocks=flag)
    assert [layer.layer for layer in spec.layers if layer.attends] == attending
    assert {layer.mask.window for layer in spec.layers if layer.attends} == {FULL}


def test_without_the_flag_nothing_is_known_of_the_ends() -> None:
    assert not known(text("sam3_lite_text_text_model"))


@pytest.mark.parametrize(("window", "seen"), [(8, Window(7, 0)), (None, Window(None, 0))])
def test_the_full_layers_of_minimax_slide_if_a_window_is_set(window: int | None, seen: Window) -> None:
    spec = text("minimax", layer_types=["full_attention", "linear_attention"] * 2, sliding_window=window)
    assert windows(spec) == [seen, seen]
    assert known(spec)


def test_a_layer_type_that_the_type_does_not_have_is_unknown() -> None:
    spec = text("zaya", layer_types=["sliding_attention", "hybrid"] * 2, sliding_window=8)
    assert [layer.mask_known for layer in spec.layers] == [False, True] * 2


@pytest.mark.parametrize("outer", ["canary", "dia", "bark", "pix2struct", "pp_formulanet"])
def test_the_decoder_inside_a_composite_type_is_read_as_itself(outer: str) -> None:
    key, inner = {
        "canary": ("decoder_config", "canary_decoder"),
        "dia": ("decoder_config", "dia_decoder"),
        "bark": ("semantic_config", "semantic"),
        "pix2struct": ("text_config", "pix2struct_text_model"),
        "pp_formulanet": ("text_config", "pp_formulanet_text"),
    }[outer]
    spec = declare({"model_type": outer, "is_encoder_decoder": True, key: {"model_type": inner, **SIZES}}, {})
    assert {layer.part for layer in spec.layers} == {Part.DECODER}
    assert set(windows(spec)) == {Window(None, 0)}
    assert known(spec)


def test_an_encoder_decoder_inside_a_composite_type_keeps_both_stacks() -> None:
    bart = {"model_type": "bart", "is_encoder_decoder": True, "d_model": 64, "encoder_layers": 2, "decoder_layers": 3}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    spec = declare({"model_type": "florence2", "is_encoder_decoder": True, "text_config": {**bart, **heads}}, {})
    assert [len(spec.of_part(part)) for part in (Part.ENCODER, Part.DECODER, Part.CROSS)] == [2, 3, 3]


def test_a_retrieval_model_around_a_composite_type_is_read_through_both() -> None:
    inner = {"model_type": "qwen2_vl", "text_config": {"model_type": "qwen2_vl_text", **SIZES}}
    spec = declare({"model_type": "colqwen2", "vlm_config": inner}, {"vlm_config": {"model_type": "qwen2_vl"}})
    assert len(spec.layers) == 4
    assert {layer.part for layer in spec.layers} == {Part.DECODER}
