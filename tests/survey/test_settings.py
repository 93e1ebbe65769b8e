"""The settings of a survey make declared features bind, type by type."""

from __future__ import annotations

import json

import pytest

from attncheck.declared import oracle
from attncheck.probe.protocol import ClassFacts
from attncheck.probe.tiny.build import TinyModel, build
from attncheck.probe.tiny.facts import describe
from attncheck.semantics.spec import Window
from attncheck.survey.settings import changed, settings_of


def facts(model_type: str) -> ClassFacts:
    found = describe({"model_type": model_type})
    assert isinstance(found, ClassFacts)
    return found


def settings(model_type: str) -> dict[str, tuple[str, ...]]:
    found = facts(model_type)
    return {entry.name: entry.assignments for entry in settings_of(model_type, found.kind, found.defaults, found.keys)}


def test_a_type_without_a_window_has_its_class_defaults_alone() -> None:
    assert settings("gemma") == {"": ()}


def test_a_window_that_the_class_already_has_needs_no_setting() -> None:
    assert settings("mistral") == {"": ()}


def test_a_window_that_is_off_is_switched_on_the_shortest_way_that_binds() -> None:
    assert settings("phi3")["window"] == ("sliding_window=64",)
    assert settings("qwen2")["window"] == ("sliding_window=64", "use_sliding_window=true")
    assert settings("dots1")["window"][0] == "sliding_window=64"


def test_a_window_as_long_as_the_longest_sequence_never_binds_and_gets_a_setting() -> None:
    assert settings("moshi")["window"] == ("sliding_window=64",)


@pytest.mark.parametrize("model_type", ["phi3", "qwen2", "qwen2_moe", "qwen3_moe", "moshi", "smollm3"])
def test_some_layer_declares_the_window_in_that_setting(model_type: str) -> None:
    found = facts(model_type)
    own = next(
        entry
        for entry in settings_of(model_type, found.kind, found.defaults, found.keys)
        if entry.name in ("window", "") and (entry.name or model_type == "smollm3")
    )
    pairs = dict(text.split("=", 1) for text in own.assignments)
    config = changed({"model_type": model_type}, {key: json.loads(value) for key, value in pairs.items()})
    layers = oracle.declare(config, found.defaults).layers
    if own.name:
        assert Window(63, 0) in {layer.mask.window for layer in layers}


def test_bert_is_also_probed_as_the_decoder_that_it_may_be() -> None:
    assert settings("bert")["decoder"] == ("is_decoder=true",)


def test_a_class_whose_defaults_do_not_fit_together_gets_what_checkpoints_write_in_every_setting() -> None:
    found = settings("granitemoehybrid")
    assert all('layer_types=["mamba", "attention"]' in texts for texts in found.values())


@pytest.mark.parametrize(
    ("model_type", "path"),
    [("qwen2_vl", "text_config."), ("mistral3", "text_config."), ("qwen2_5_omni", "thinker_config.text_config.")],
)
def test_a_composite_type_has_the_settings_of_its_text_model_where_that_stands(model_type: str, path: str) -> None:
    own = settings(model_type)["window"]
    assert own[0] == f"{path}sliding_window=64"
    assert all(text.startswith(path) for text in own)


def test_the_softcap_of_a_composite_type_is_set_in_its_text_model() -> None:
    assert settings("gemma3")["softcap"] == ("text_config.attn_logit_softcapping=30.0",)


@pytest.mark.parametrize("model_type", ["deepseek_v4", "unlimited_ocr_text", "qwen3_omni_moe_talker_code_predictor"])
def test_a_window_is_not_offered_where_no_layer_of_the_class_could_have_one_that_it_lacks(model_type: str) -> None:
    assert "window" not in settings(model_type)


@pytest.mark.parametrize("model_type", ["minimax", "zaya", "cohere_compass_text"])
def test_a_window_is_set_in_the_words_of_the_type_and_the_class_runs_with_it(model_type: str) -> None:
    own = dict(text.split("=", 1) for text in settings(model_type)["window"])
    config = changed({"model_type": model_type}, {key: json.loads(value) for key, value in own.items()})
    built = build(config)
    assert isinstance(built, TinyModel), built
    assert Window(7, 0) in {layer.mask.window for layer in oracle.declare(built.info.config, built.defaults).layers}
