"""Tiny models of real classes: they build, they keep the decisions, they share weights, they leave nothing behind."""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING

from attncheck.probe.protocol import NotBuilt
from attncheck.probe.tiny import build as tiny
from attncheck.probe.tiny.build import TinyModel

MISTRAL_7B = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
    "vocab_size": 32000,
}


def built(config: dict[str, Any] | str) -> TinyModel:
    model = tiny.build({"model_type": config} if isinstance(config, str) else config)
    assert isinstance(model, TinyModel), model
    return model


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def logits(model: Any, kind: str) -> torch.Tensor:
    ids = torch.arange(64, 88)[None]
    extra = {"decoder_input_ids": ids} if kind == "seq2seq" else {}
    with torch.no_grad():
        return model(input_ids=ids, **extra)[0]


@pytest.mark.parametrize(
    ("target", "kind", "model_class", "layers", "encoder_layers"),
    [
        ("mistral", "causal-lm", "MistralForCausalLM", 2, 0),
        ("gemma2", "causal-lm", "Gemma2ForCausalLM", 2, 0),
        ("gemma3_text", "causal-lm", "Gemma3ForCausalLM", 6, 0),
        ("gpt_oss", "causal-lm", "GptOssForCausalLM", 2, 0),
        ("llama4_text", "causal-lm", "Llama4ForCausalLM", 4, 0),
        ("moshi", "causal-lm", "MoshiForCausalLM", 2, 0),
        ("doge", "causal-lm", "DogeForCausalLM", 2, 0),
        ("deepseek_v3", "causal-lm", "DeepseekV3ForCausalLM", 2, 0),
        ("falcon", "causal-lm", "FalconForCausalLM", 2, 0),
        ("gpt_neo", "causal-lm", "GPTNeoForCausalLM", 2, 0),
        ("bert", "causal-lm", "BertLMHeadModel", 2, 0),
        ("modernbert", "masked-lm", "ModernBertForMaskedLM", 2, 0),
        ("t5", "seq2seq", "T5ForConditionalGeneration", 2, 2),
        ("t5gemma", "seq2seq", "T5GemmaForConditionalGeneration", 2, 2),
        ("gemma3", "text", "Gemma3ForCausalLM", 6, 0),
        ("llava", "text", "LlamaForCausalLM", 2, 0),
    ],
)
def test_class_defaults_build_small(target: str, kind: str, model_class: str, layers: int, encoder_layers: int) -> None:
    model = built(target)
    info = model.info
    assert (info.kind, info.model_class) == (kind, model_class)
    assert (info.num_layers, info.num_encoder_layers) == (layers, encoder_layers)
    assert info.vocab_size == 128
    eager = model.instantiate("eager")
    assert not eager.training
    assert parameters(eager) < 400_000
    assert bool(torch.isfinite(logits(eager, kind)).all())


def test_a_full_checkpoint_config() -> None:
    info = built(MISTRAL_7B).info
    assert info.config["sliding_window"] == 8
    assert info.config["num_hidden_layers"] == 2
    assert info.config["rope_theta"] == 10000.0
    assert "torch_dtype" not in info.config
    assert info.takes_position_ids
    assert info.takes_cache


@pytest.mark.parametrize("window", [None, 5, 4096])
def test_what_the_model_is_told_is_what_the_tiny_config_says(window: int | None) -> None:
    model = built({**MISTRAL_7B, "sliding_window": window})
    expected = None if window is None else min(window, 8)
    assert model.info.config["sliding_window"] == expected
    assert model.instantiate("eager").config.sliding_window == expected


@pytest.mark.parametrize(
    ("turn", "kinds"),
    [(0, ["sliding_attention"] * 2), (28, ["full_attention", "sliding_attention"]), (32, ["full_attention"] * 2)],
)
def test_max_window_layers_of_qwen2(turn: int, kinds: list[str]) -> None:
    config = {
        "model_type": "qwen2",
        "num_hidden_layers": 32,
        "use_sliding_window": True,
        "sliding_window": 32768,
        "max_window_layers": turn,
    }
    assert built(config).instantiate("eager").config.layer_types == kinds


def test_window_switched_off_stays_off() -> None:
    model = built({"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 131072})
    assert model.info.config["use_sliding_window"] is False
    assert model.instantiate("eager").config.layer_types == ["full_attention"] * 2


def test_qwen2_moe_window_alternates_below_the_turn() -> None:
    model = built({"model_type": "qwen2_moe", "use_sliding_window": True, "max_window_layers": 1})
    assert model.instantiate("eager").config.layer_types == ["sliding_attention", "full_attention"]
    assert model.info.config["max_window_layers"] == 1


@pytest.mark.parametrize("target", ["flint", "gemma2", "gemma3_text", "cohere2", "jamba", "lfm2", "llama4_text"])
def test_every_kind_of_layer_of_the_full_depth_appears(target: str) -> None:
    full = CONFIG_MAPPING[target]()
    small = built(target).instantiate("eager").config
    assert set(small.layer_types) == set(full.layer_types)
    assert small.num_hidden_layers <= 12


@pytest.mark.parametrize("target", ["gemma2", "mistral", "falcon", "t5", "granite", "bert", "gpt_oss"])
def test_scale_softcap_dropout_and_flags_are_those_of_the_class(target: str) -> None:
    full, small = CONFIG_MAPPING[target]().to_dict(), built(target).instantiate("eager").config.to_dict()
    names = [
        name
        for name in full
        if any(word in name for word in ("softcap", "scalar", "multiplier", "dropout", "alibi", "is_decoder", "causal"))
    ]
    assert names
    assert {name: small[name] for name in names} == {name: full[name] for name in names}


# Instances ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["mistral", "falcon", "gpt2", "t5", "bert"])
def test_implementations_share_weights_and_agree(target: str) -> None:
    model = built(target)
    eager, sdpa = model.instantiate("eager"), model.instantiate("sdpa")
    assert eager is not sdpa
    assert (eager.config._attn_implementation, sdpa.config._attn_implementation) == ("eager", "sdpa")
    torch.testing.assert_close(logits(sdpa, model.info.kind), logits(eager, model.info.kind), atol=1e-4, rtol=1e-4)
    for ours, theirs in zip(eager.parameters(), sdpa.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_instance_is_made_once() -> None:
    model = built("mistral")
    assert model.instantiate("sdpa") is model.instantiate("sdpa")


def test_a_later_instance_does_not_switch_an_earlier_one() -> None:
    model = built("gemma3")
    eager = model.instantiate("eager")
    model.instantiate("sdpa")
    names = {m.config._attn_implementation for m in eager.modules() if hasattr(m, "config")}
    assert names == {"eager"}


def test_flash_names_need_no_package() -> None:
    model = built("mistral").instantiate("flash_attention_2")
    assert {m.config._attn_implementation for m in model.modules() if hasattr(m, "config")} == {"flash_attention_2"}


@pytest.mark.parametrize("target", ["falcon", "gptj", "gpt_neo"])
def test_types_with_flash_classes_of_their_own_get_them(target: str) -> None:
    names = {type(module).__name__ for module in built(target).instantiate("flash_attention_2").modules()}
    assert [name for name in names if name.endswith("FlashAttention2")]
    names = {type(module).__name__ for module in built(target).instantiate("eager").modules()}
    assert not [name for name in names if name.endswith("FlashAttention2")]


@pytest.mark.parametrize(
    ("target", "implementation"),
    [("doge", "flash_attention_2"), ("gpt_oss", "sdpa"), ("falcon", "flex_attention"), ("mistral", "no_such_thing")],
)
def test_a_refusal_of_the_class_is_raised(target: str, implementation: str) -> None:
    with pytest.raises(ValueError, match=r"support|possible"):
        built(target).instantiate(implementation)


def test_a_registered_implementation_is_taken_by_name() -> None:
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register("attncheck_test_copy", sdpa_attention_forward)
    try:
        model = built("mistral").instantiate("attncheck_test_copy")
        assert model.config._attn_implementation == "attncheck_test_copy"
    finally:
        AttentionInterface._global_mapping.pop("attncheck_test_copy", None)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_holds_the_same_weights(dtype: str) -> None:
    model = built("mistral")
    half = model.instantiate("sdpa", dtype)
    full = dict(model.instantiate("eager").named_parameters())
    for name, parameter in half.named_parameters():
        assert parameter.dtype == getattr(torch, dtype)
        assert torch.equal(parameter, full[name].to(parameter.dtype))


def test_overrides_reach_the_constructor_of_a_fresh_module() -> None:
    model = built("llama")
    plain = model.instantiate("eager")
    other = model.instantiate("eager", overrides={"is_causal": False})
    assert other is not plain
    assert other.config.is_causal is False
    assert not hasattr(plain.config, "is_causal") or plain.config.is_causal is not False
    assert torch.equal(other.lm_head.weight, plain.lm_head.weight)


# Nothing is left behind ---------------------------------------------------------------------------


def test_random_state_is_put_back() -> None:
    torch.manual_seed(123)
    random.seed(123)
    before = torch.get_rng_state(), random.getstate(), torch.get_default_dtype()
    model = built("mistral")
    model.instantiate("sdpa", "bfloat16")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert torch.get_default_dtype() == before[2]


def test_two_builds_are_alike() -> None:
    torch.manual_seed(1)
    first = built("mistral").instantiate("eager").state_dict()
    torch.manual_seed(2)
    second = built("mistral").instantiate("eager").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_that_the_library_leaves_to_the_memory_are_drawn() -> None:
    """The experts of Qwen3-Omni's talker, in transformers 5.23."""
    states = []
    for _ in range(2):
        spoiled = [torch.full((count,), math.nan) for count in range(64, 65536, 64)]  # what the memory holds next
        del spoiled
        states.append(built("qwen3_omni_moe_talker_text").instantiate("eager").state_dict())
    assert all(tensor.isfinite().all() for tensor in states[0].values())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_config_is_not_changed() -> None:
    config = {**MISTRAL_7B, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    before = repr(config)
    built(config)
    assert repr(config) == before


# Refusals -----------------------------------------------------------------------------------------


def test_an_unknown_type_is_not_built() -> None:
    answer = tiny.build({"model_type": "no_such_type"})
    assert isinstance(answer, NotBuilt)
    assert "no_such_type" in answer.reasons[0].text


def test_a_config_the_class_refuses_is_not_built_and_says_why() -> None:
    answer = tiny.build({"model_type": "exaone4", "sliding_window_pattern": "LLLG"})
    assert isinstance(answer, NotBuilt)
    assert "TypeError" in answer.reasons[0].text


def test_a_model_that_stays_large_is_not_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "MAX_BYTES", 1000)
    monkeypatch.setattr(tiny, "_SUSPICIOUS", 100)
    answer = tiny.build({"model_type": "mistral"})
    assert isinstance(answer, NotBuilt)
    assert any("MB" in reason.text for reason in answer.reasons)


# Where the text is --------------------------------------------------------------------------------


def test_text_keys_at_the_top_of_an_old_flat_file_reach_the_text_tower() -> None:
    flat = {
        "model_type": "qwen2_vl",
        "num_hidden_layers": 28,
        "use_sliding_window": True,
        "sliding_window": 32768,
        "max_window_layers": 14,
        "image_token_id": 151655,
        "vision_config": {"depth": 32},
    }
    model = built(flat)
    assert model.info.config["model_type"] == "qwen2_vl_text"
    assert model.info.config["use_sliding_window"] is True
    assert "image_token_id" not in model.info.config
    assert model.instantiate("eager").config.layer_types == ["full_attention", "sliding_attention"]


REMOTE_CONFIG = """
from transformers import LlamaConfig

class RemoteConfig(LlamaConfig):
    model_type = "remote_llama"
"""

REMOTE_MODEL = """
from transformers import LlamaForCausalLM
from .configuration_remote import RemoteConfig

class RemoteForCausalLM(LlamaForCausalLM):
    config_class = RemoteConfig
"""


def test_remote_code_is_built_when_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "remote"
    repository.mkdir()
    (repository / "configuration_remote.py").write_text(REMOTE_CONFIG)
    (repository / "modeling_remote.py").write_text(REMOTE_MODEL)
    config = {
        "model_type": "remote_llama",
        "num_hidden_layers": 30,
        "auto_map": {
            "AutoConfig": "configuration_remote.RemoteConfig",
            "AutoModelForCausalLM": "modeling_remote.RemoteForCausalLM",
        },
        "_name_or_path": str(repository),
    }
    (repository / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", sys.path.copy())
    assert isinstance(tiny.build(config), NotBuilt)
    model = tiny.build(config, trust_remote_code=True)
    assert isinstance(model, TinyModel), model
    assert model.info.model_class == "RemoteForCausalLM"
    assert model.info.num_layers == 2
