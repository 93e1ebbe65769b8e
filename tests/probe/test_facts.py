"""What is read from the installed transformers about a model type."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
import transformers

from attncheck.probe.protocol import ClassFacts, UnknownType
from attncheck.probe.tiny import library
from attncheck.probe.tiny.facts import describe


def facts(config: dict[str, Any] | str) -> ClassFacts:
    found = describe({"model_type": config} if isinstance(config, str) else config)
    assert isinstance(found, ClassFacts), found
    return found


@pytest.mark.parametrize(
    ("target", "kind", "config_class", "model_class"),
    [
        ("mistral", "causal-lm", "MistralConfig", "MistralForCausalLM"),
        ("bart", "seq2seq", "BartConfig", "BartForConditionalGeneration"),
        ("t5", "seq2seq", "T5Config", "T5ForConditionalGeneration"),
        ("t5gemma", "seq2seq", "T5GemmaConfig", "T5GemmaForConditionalGeneration"),
        ("modernbert", "masked-lm", "ModernBertConfig", "ModernBertForMaskedLM"),
        ("gemma3", "text", "Gemma3Config", "Gemma3ForCausalLM"),
        ("qwen2_vl", "text", "Qwen2VLConfig", "Qwen2VLTextModel"),
        ("vit", "base", "ViTConfig", "ViTModel"),
    ],
)
def test_classes(target: str, kind: str, config_class: str, model_class: str) -> None:
    found = facts(target)
    assert (found.kind, found.config_class, found.model_class) == (kind, config_class, model_class)
    assert found.transformers == transformers.__version__


def test_defaults_are_what_the_class_declares_not_what_it_computes() -> None:
    mistral = facts("mistral").defaults
    assert mistral["sliding_window"] == 4096
    assert mistral["head_dim"] is None  # the constructor would make it 128
    assert facts("qwen2").defaults["layer_types"] is None
    assert facts({"model_type": "mistral", "sliding_window": None}).defaults["sliding_window"] == 4096


def test_defaults_of_sub_configs_are_nested_and_follow_the_stated_type() -> None:
    assert facts("gemma3").defaults["text_config"]["sliding_window"] == 4096
    assert facts("llava").defaults["text_config"]["model_type"] == "llama"
    mistral = facts({"model_type": "llava", "text_config": {"model_type": "mistral"}})
    assert mistral.defaults["text_config"]["sliding_window"] == 4096
    assert mistral.model_class == "MistralForCausalLM"


@pytest.mark.parametrize("target", ["mistral", "gemma3", "t5gemma", "qwen2_vl", "gpt_neo", "moshi"])
def test_everything_is_plain_data(target: str) -> None:
    found = facts(target)
    assert json.loads(json.dumps(found.defaults)) == found.defaults
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("mistral", "sliding_window"),
        ("gpt2", "n_layer"),
        ("gpt2", "num_hidden_layers"),  # an alias of n_layer
        ("gemma3_text", "sliding_window_pattern"),  # taken out of **kwargs by the constructor
        ("gemma3", "text_config.sliding_window"),
        ("t5gemma", "encoder.sliding_window"),
        ("qwen2", "max_window_layers"),
        ("llama", "rope_scaling"),
    ],
)
def test_known_keys(target: str, key: str) -> None:
    assert key in facts(target).keys


@pytest.mark.parametrize(
    ("target", "key"), [("mistral", "sliding_windw"), ("gemma3", "sliding_window"), ("t5", "alibi")]
)
def test_unknown_keys(target: str, key: str) -> None:
    assert key not in facts(target).keys


def test_declared_support_matches_what_the_library_does() -> None:
    from attncheck.probe.tiny import build as tiny

    for target in ("mistral", "gemma2", "doge", "falcon", "t5", "bloom", "gpt_oss"):
        found = facts(target)
        model = tiny.build({"model_type": target})
        assert isinstance(model, tiny.TinyModel)
        for implementation, supported in found.supports.items():
            if supported:
                instance = model.instantiate(implementation)
                assert instance.config._attn_implementation == implementation, (target, implementation)
            else:
                with pytest.raises(ValueError, match="support"):
                    model.instantiate(implementation)


@pytest.mark.parametrize("target", ["mistral", "gemma2", "gpt_oss", "falcon", "bloom", "t5"])
def test_default_implementation_is_what_a_plain_build_gets(target: str) -> None:
    cls = library.config_class(target)
    _, model_class = library.probed_class(target) or (None, None)
    config = cls(num_hidden_layers=1, hidden_size=64, num_attention_heads=4)
    assert model_class is not None
    import torch

    with torch.device("meta"):
        plain = model_class._from_config(config)
    assert facts(target).default_implementation == plain.config._attn_implementation


def test_compatible_flash_list() -> None:
    listed = facts("gpt_oss").compatible_flash
    assert listed is not None
    assert all(isinstance(name, str) for name in listed)
    assert facts("mistral").compatible_flash is None


def test_forward_arguments() -> None:
    assert {"input_ids", "attention_mask", "position_ids", "past_key_values"} <= set(facts("mistral").forward_args)
    assert "position_ids" not in facts("t5").forward_args


def test_unknown_type_names_the_nearest() -> None:
    found = describe({"model_type": "mistrall"})
    assert isinstance(found, UnknownType)
    assert "mistral" in found.nearest
    assert "mistrall" in found.reason


@pytest.mark.parametrize("config", [{}, {"model_type": None}, {"model_type": ""}])
def test_no_model_type(config: dict[str, Any]) -> None:
    found = describe(config)
    assert isinstance(found, UnknownType)
    assert "model_type" in found.reason


def test_remote_code_is_not_run_unasked() -> None:
    remote = {"model_type": "no_native_class", "auto_map": {"AutoConfig": "configuration_x.XConfig"}}
    found = describe(remote)
    assert isinstance(found, UnknownType)
    assert "--trust-remote-code" in found.reason


def test_a_native_type_with_remote_code_is_described_natively() -> None:
    found = facts({"model_type": "phi3", "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}})
    assert found.model_class == "Phi3ForCausalLM"
    assert "auto_map" not in found.defaults
