"""What the oracle reads off a checkpoint's config it also reads off its tiny model's: shrinking loses no decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from attncheck.declared import catalog, oracle
from attncheck.probe.protocol import ClassFacts
from attncheck.probe.tiny import build as tiny
from attncheck.probe.tiny.build import TinyModel
from attncheck.probe.tiny.facts import describe

CHECKPOINTS = [
    "mistralai/Mistral-7B-v0.1",
    "mistralai/Mistral-7B-Instruct-v0.2",
    "mistralai/Mixtral-8x7B-v0.1",
    "Qwen/Qwen2.5-7B-Instruct",
    "google/gemma-2-9b-it",
    "google/gemma-3-4b-it",
    "google/gemma-4-26B-A4B-it",
    "meta-llama/Llama-4-Scout-17B-16E",
    "openai/gpt-oss-20b",
    "deepseek-ai/DeepSeek-V3",
    "ai21labs/Jamba-v0.1",
    "HuggingFaceTB/SmolLM3-3B",
    "LGAI-EXAONE/EXAONE-4.0-32B",
    "llava-hf/llava-v1.6-mistral-7b-hf",
]


def decisions(config: Mapping[str, Any]) -> set[tuple[object, ...]]:
    """Every distinct layer a config declares, windows and chunks capped at what a tiny model has."""
    facts = describe(config)
    assert isinstance(facts, ClassFacts)
    found = set()
    for layer in oracle.declare(config, facts.defaults).layers:
        mask, softmax = layer.mask, layer.softmax
        past = None if mask.window.left is None else min(mask.window.left, 3)
        future = None if mask.window.right is None else min(mask.window.right, 3)
        grouped = layer.num_kv_heads is not None and layer.num_heads != layer.num_kv_heads
        bounds = (past, future, None if mask.chunk is None else min(mask.chunk, 8))
        terms = (softmax.softcap, softmax.sinks, softmax.bias, grouped, layer.num_kv_heads == 1)
        found.add((layer.part, layer.kind, layer.attends, *bounds, *terms, layer.unknown))
    return found


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_declared_decisions_survive(checkpoint: str) -> None:
    entry = catalog.lookup(checkpoint)
    assert entry is not None
    model = tiny.build(entry.config)
    assert isinstance(model, TinyModel), model
    assert decisions(model.info.config) == decisions(entry.config)
    assert model.info.num_layers <= 12


@pytest.mark.parametrize("model_type", ["encoder-decoder", "t5gemma", "bart", "led", "whisper"])
def test_declared_decisions_of_class_defaults_survive(model_type: str) -> None:
    """What a wrapper class passes to a missing sub-config (a decoder's `is_decoder`) is part of the declaration."""
    config = {"model_type": model_type}
    model = tiny.build(config)
    assert isinstance(model, TinyModel), model
    assert decisions(model.info.config) == decisions(config)


def test_the_decoder_of_an_encoder_decoder_is_built_as_one() -> None:
    model = tiny.build({"model_type": "encoder-decoder"})
    assert isinstance(model, TinyModel), model
    decoder = model.instantiate("eager").config.decoder
    assert decoder.is_decoder is True
    assert decoder.add_cross_attention is True
