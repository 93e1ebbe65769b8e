"""The original LLaVA repositories' format, told from transformers' own by what is in the file."""

from __future__ import annotations

from typing import Any

import pytest

from attncheck.declared import catalog
from attncheck.declared.oracle import declare
from attncheck.declared.original import original
from attncheck.semantics.spec import CAUSAL, Window

SIZES = {"hidden_size": 4096, "num_hidden_layers": 2, "num_attention_heads": 32}


@pytest.mark.parametrize(
    ("config", "language"),
    [
        ({"model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"]}, "llama"),
        ({"model_type": "llava", "architectures": ["LlavaQwenForCausalLM"]}, "qwen2"),
        ({"model_type": "llava", "architectures": ["LlavaMistralForCausalLM"]}, "mistral"),
        ({"model_type": "llava_llama"}, "llama"),
        ({"model_type": "llava_mistral"}, "mistral"),
        ({"model_type": "llava_qwen"}, "qwen2"),
        ({"model_type": "llava_llama", "architectures": ["LlavaMixtralForCausalLM"]}, "mixtral"),
        ({"model_type": "llava", "mm_vision_tower": "openai/clip"}, ""),
    ],
)
def test_the_language_model_of_an_original_file(config: dict[str, Any], language: str) -> None:
    found = original({**SIZES, **config})
    assert found is not None
    assert found.language == language


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llava"},
        {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]},
        {"model_type": "llava", "text_config": {"model_type": "llama"}, "vision_config": {}},
        {"model_type": "llava", "text_config": {}, "architectures": ["LlavaLlamaForCausalLM"]},
        {"model_type": "llava_next", "mm_vision_tower": "x"},
        {"model_type": "llama", "mm_vision_tower": "x"},
        {},
    ],
)
def test_other_files_are_not_in_it(config: dict[str, Any]) -> None:
    assert original(config) is None


def test_the_keys_at_the_top_are_the_language_models() -> None:
    spec = declare({"model_type": "llava_mistral", **SIZES, "num_key_value_heads": 8, "sliding_window": 1024})
    assert [layer.mask.window for layer in spec.layers] == [Window(1023, 0)] * 2
    assert {(layer.num_heads, layer.num_kv_heads, layer.head_dim) for layer in spec.layers} == {(32, 8, 128)}
    assert spec.model_type == "llava_mistral"
    (note,) = [note for note in spec.notes if note.code == "original-format"]
    assert "mistral" in note.text
    assert "transformers has no such type" in note.text


def test_class_defaults_are_those_of_the_language_model() -> None:
    """LLaVA's config classes inherit from it: what the file leaves out is filled in from there."""
    config = {"model_type": "llava_mistral", **SIZES}
    assert declare(config, {"sliding_window": 4096}).layers[0].mask.window == Window(4095, 0)
    # those of transformers' own LLaVA are another model's
    native = {"text_config": {"model_type": "llama", "num_hidden_layers": 7}}
    spec = declare({"model_type": "llava", **SIZES, "architectures": ["LlavaLlamaForCausalLM"]}, native)
    assert len(spec.layers) == 2
    assert spec.layers[0].mask.window == CAUSAL


def test_without_a_language_model_nothing_is_guessed() -> None:
    spec = declare({"model_type": "llava", "mm_vision_tower": "x", **SIZES})
    assert all("direction" in layer.unknown for layer in spec.layers)


def test_well_known_checkpoints() -> None:
    expected = {
        "liuhaotian/llava-v1.5-7b": ("llama", 32, 128),
        "lmms-lab/llava-onevision-qwen2-7b-ov": ("qwen2", 28, 128),
        "lmms-lab/llava-next-interleave-qwen-0.5b": ("qwen2", 24, 64),
    }
    for name, (language, layers, width) in expected.items():
        entry = catalog.lookup(name)
        assert entry is not None
        found = original(entry.config)
        assert found is not None
        assert found.language == language
        spec = declare(entry.config)
        assert (len(spec.layers), spec.layers[0].head_dim) == (layers, width)
        assert {layer.mask.window for layer in spec.layers} == {CAUSAL}
