"""The bundled catalog: complete rows, honest marks, and declarations that hold for well-known checkpoints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attncheck.declared import catalog, limits
from attncheck.declared.oracle import declare
from attncheck.semantics.spec import CAUSAL, FULL, Bias, Window

#: Class defaults of the types below, as far as their files leave keys out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 4096, "head_dim": None},
    "qwen2": {"sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 28, "layer_types": None},
    "gemma3": {
        "text_config": {
            "model_type": "gemma3_text",
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "max_position_embeddings": 131072,
            "layer_types": None,
        }
    },
}


def of(checkpoint: str) -> Any:
    entry = catalog.lookup(checkpoint)
    assert entry is not None
    return declare(entry.config, DEFAULTS.get(entry.config["model_type"], {}))


def windows(spec: Any) -> set[Window]:
    return {layer.mask.window for layer in spec.layers}


def test_the_catalog_has_at_least_a_hundred_checkpoints() -> None:
    assert len(catalog.ids()) >= 100


@pytest.mark.parametrize("checkpoint", catalog.ids())
def test_every_row_is_plausible_and_declares(checkpoint: str) -> None:
    entry = catalog.lookup(checkpoint)
    assert entry is not None
    assert entry.id == checkpoint
    assert entry.confidence in ("verbatim", "verbatim-partial", "secondary")
    json.dumps(entry.config)
    limits.check(entry.config, checkpoint)
    for defaults in (None, {}):
        spec = declare(entry.config, defaults)
        assert spec.model_type == entry.config["model_type"]
        # llava-hf files leave every size of the text model to its class
        assert spec.layers or checkpoint.startswith("llava-hf/")
    if entry.unconfirmed or entry.confidence == "secondary":
        assert "unconfirmed" in [note.code for note in entry.notes]
    assert not set(entry.unseen) & {key for key, value in entry.config.items() if value is not None}


def test_null_keys_become_nulls_also_in_sub_configs() -> None:
    plain = catalog.lookup("mistralai/Mistral-7B-Instruct-v0.2")
    nested = catalog.lookup("llava-hf/llava-v1.6-mistral-7b-hf")
    assert plain is not None
    assert nested is not None
    assert plain.config["sliding_window"] is None
    assert nested.config["text_config"]["sliding_window"] is None


def test_an_entry_is_a_copy() -> None:
    first = catalog.lookup("openai/gpt-oss-20b")
    assert first is not None
    first.config["layer_types"].clear()
    second = catalog.lookup("openai/gpt-oss-20b")
    assert second is not None
    assert len(second.config["layer_types"]) == 24


def test_upper_and_lower_case_count_alike_and_strangers_are_not_there() -> None:
    found = catalog.lookup("MISTRALAI/mistral-7b-v0.1")
    assert found is not None
    assert found.id == "mistralai/Mistral-7B-v0.1"
    assert catalog.lookup("nobody/nothing") is None


def test_remote_code_is_a_note() -> None:
    entry = catalog.lookup("THUDM/chatglm3-6b")
    assert entry is not None
    assert "remote-code" in [note.code for note in entry.notes]


def test_mistral_7b() -> None:
    spec = of("mistralai/Mistral-7B-v0.1")
    assert len(spec.layers) == 32
    assert windows(spec) == {Window(4095, 0)}
    assert spec.max_position == 32768
    assert not spec.notes


def test_qwen2_5_7b_is_all_full_and_says_why() -> None:
    spec = of("Qwen/Qwen2.5-7B-Instruct")
    assert (len(spec.layers), windows(spec)) == (28, {CAUSAL})
    (note,) = spec.notes
    assert note.code == "window-switched-off"
    assert "use_sliding_window is false" in note.text
    assert "max_window_layers (28)" in note.text


def test_a_window_switch_nobody_saw_leaves_the_window_unknown() -> None:
    entry = catalog.lookup("Qwen/Qwen1.5-0.5B")
    assert entry is not None
    kept = {key: value for key, value in DEFAULTS["qwen2"].items() if key not in entry.unseen}
    assert {frozenset(layer.unknown) for layer in declare(entry.config, kept).layers} == {frozenset({"window"})}


def test_gemma3_4b_takes_what_the_file_leaves_out_from_the_class() -> None:
    spec = of("google/gemma-3-4b-it")
    assert len(spec.layers) == 34
    assert sum(layer.mask.window == CAUSAL for layer in spec.layers) == 5
    assert spec.layers[5].mask.window == CAUSAL
    assert spec.layers[0].mask.window == Window(1023, 0)
    assert (spec.layers[0].num_heads, spec.layers[0].num_kv_heads, spec.layers[0].softmax.scale) == (8, 4, 0.0625)


def test_single_facts_of_other_checkpoints() -> None:
    gpt_oss = of("openai/gpt-oss-120b")
    assert [layer.mask.window for layer in gpt_oss.layers[:2]] == [Window(127, 0), CAUSAL]
    assert all(layer.softmax.sinks for layer in gpt_oss.layers)
    llama4 = of("meta-llama/Llama-4-Scout-17B-16E")
    assert [layer.mask.chunk for layer in llama4.layers[:4]] == [8192, 8192, 8192, None]
    assert of("google/gemma-2-27b-it").layers[0].softmax.scale == 144**-0.5
    assert of("google/gemma-2-27b-it").layers[0].softmax.softcap == 50.0
    assert of("tiiuae/falcon-7b-instruct").layers[0].num_kv_heads == 1
    assert of("tiiuae/falcon-7b-instruct").layers[0].softmax.bias is Bias.NONE
    assert of("bigscience/bloom-560m").layers[0].softmax.bias is Bias.ALIBI
    assert [i for i, layer in enumerate(of("ai21labs/Jamba-v0.1").layers) if layer.attends] == [4, 12, 20, 28]
    embedding = of("google/embeddinggemma-300m")
    assert windows(embedding) == {Window(256, 256), FULL}
    assert of("deepseek-ai/DeepSeek-V3").layers[0].head_dim == 192
