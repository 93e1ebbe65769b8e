"""The settings of a survey make declared features bind, type by type."""

from __future__ import annotations

import pytest

from attncheck.declared import oracle
from attncheck.probe.protocol import ClassFacts
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
    import json

    config = changed({"model_type": model_type}, {key: json.loads(value) for key, value in pairs.items()})
    layers = oracle.declare(config, found.defaults).layers
    if own.name:
        assert Window(63, 0) in {layer.mask.window for layer in layers}


def test_bert_is_also_probed_as_the_decoder_that_it_may_be() -> None:
    assert settings("bert")["decoder"] == ("is_decoder=true",)


def test_a_class_whose_defaults_do_not_fit_together_gets_what_checkpoints_write_in_every_setting() -> None:
    found = settings("granitemoehybrid")
    assert all('layer_types=["mamba", "attention"]' in texts for texts in found.values())


def test_the_text_model_of_a_composite_type_has_its_settings_as_a_type_of_its_own() -> None:
    assert set(settings("qwen2_vl")) == {""}
    assert "window" in settings("qwen2_vl_text")
