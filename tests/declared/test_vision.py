"""What vision towers declare: plain encoders see the whole image, of others nothing is said."""

from __future__ import annotations

import pytest

from attncheck.declared import limits
from attncheck.declared.vision import tower_type, vision_layers
from attncheck.errors import TargetError
from attncheck.semantics.spec import FULL, Part

CLIP = {"model_type": "clip_vision_model", "hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24}


def test_a_plain_tower_sees_the_whole_image() -> None:
    config = {"model_type": "llava", "text_config": {"model_type": "llama"}, "vision_config": CLIP}
    layers = vision_layers(config, None)
    assert len(layers) == 24
    assert [layer.layer for layer in layers] == list(range(24))
    assert {layer.part for layer in layers} == {Part.VISION}
    assert {layer.mask.window for layer in layers} == {FULL}
    assert {(layer.num_heads, layer.head_dim, layer.softmax.scale) for layer in layers} == {(16, 64, 0.125)}
    assert tower_type(config, None) == "clip_vision_model"


def test_class_defaults_stand_in() -> None:
    defaults = {"model_type": "llava", "vision_config": CLIP, "text_config": {"model_type": "llama"}}
    assert len(vision_layers({"model_type": "llava"}, defaults)) == 24
    assert vision_layers({"model_type": "llava"}, None) == ()


def test_towers_of_another_kind_are_left_alone() -> None:
    windowed = {"model_type": "qwen2_5_vl", "vision_config": {"model_type": "qwen2_5_vl_vision", "hidden_size": 64}}
    assert vision_layers(windowed, None) == ()
    assert vision_layers({"model_type": "llama"}, None) == ()


def test_the_original_format_has_no_tower_in_its_file() -> None:
    config = {"model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"], "mm_vision_tower": "openai/clip"}
    assert vision_layers(config, {"vision_config": CLIP}) == ()


def test_sizes_that_are_missing_leave_the_scale_unknown() -> None:
    config = {"model_type": "llava", "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 1}}
    (layer,) = vision_layers(config, None)
    assert layer.unknown == {"scale"}


def test_an_absurd_number_of_layers_is_not_written_down() -> None:
    tower = {"model_type": "clip_vision_model", "num_hidden_layers": None, "depth": 10**9, "num_layers": 10**9}
    assert vision_layers({"model_type": "llava", "vision_config": tower}, None) == ()
    with pytest.raises(TargetError, match="num_hidden_layers"):
        limits.check({"model_type": "llava", "vision_config": {**CLIP, "num_hidden_layers": 10**9}}, "config.json")
