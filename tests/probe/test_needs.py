"""Classes that need more than token ids are built and fed, others are left alone; those that cannot be say why."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from attncheck.probe.protocol import ClassFacts, NotBuilt
from attncheck.probe.tiny import build as tiny
from attncheck.probe.tiny import library
from attncheck.probe.tiny.build import TinyModel
from attncheck.probe.tiny.facts import describe
from attncheck.probe.tiny.needs import absent, hand_over, needs_of, with_keys


def built(model_type: str, **keys: Any) -> TinyModel:
    model = tiny.build({"model_type": model_type, **keys})
    assert isinstance(model, TinyModel), model
    return model


def refused(model_type: str) -> NotBuilt:
    model = tiny.build({"model_type": model_type})
    assert isinstance(model, NotBuilt)
    return model


@pytest.mark.parametrize(
    ("model_type", "model_class", "kind"),
    [
        ("bros", "BrosModel", "base"),
        ("chameleon", "ChameleonModel", "base"),
        ("dbrx", "DbrxForCausalLM", "causal-lm"),
        ("dia", "DiaDecoder", "text"),
        ("diffusion_gemma", "DiffusionGemmaEncoderTextModel", "text"),
        ("kyutai_speech_to_text", "KyutaiSpeechToTextModel", "base"),
        ("moshi_depth", "MoshiDepthDecoder", "base"),
        ("musicgen", "MusicgenForCausalLM", "text"),
        ("musicgen_melody", "MusicgenMelodyForCausalLM", "text"),
        ("owlvit_text_model", "OwlViTTextModel", "base"),
        ("pix2struct", "Pix2StructTextModel", "text"),
        ("qwen3_omni_moe_talker_text", "Qwen3OmniMoeTalkerModel", "base"),
        ("qwen3_omni_moe_talker_code_predictor", "Qwen3OmniMoeTalkerCodePredictorModel", "base"),
        ("t5gemma2_text", "T5Gemma2TextEncoder", "base"),
        ("udop", "UdopModel", "seq2seq"),
        ("voxtral_realtime", "VoxtralRealtimeTextModel", "text"),
    ],
)
def test_classes_that_need_more_than_tokens_are_built(model_type: str, model_class: str, kind: str) -> None:
    info = built(model_type).info
    assert (info.model_class, info.kind) == (model_class, kind)
    assert info.rung == "16"


@pytest.mark.parametrize("model_type", ["bros", "kyutai_speech_to_text", "moshi_depth", "voxtral_realtime_text"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_instance_finds_its_needs_in_a_call_of_token_ids(model_type: str, dtype: str) -> None:
    model = built(model_type)
    tokens = torch.arange(64, 88).repeat(2, 1)
    for implementation in ("eager", "sdpa" if model_type != "bros" else "eager"):
        with torch.no_grad():
            output = model.instantiate(implementation, dtype)(input_ids=tokens)[0]
        assert tuple(output.shape[:2]) == (2, 24)
        assert bool(output.isfinite().all())


def test_a_config_that_states_more_code_books_is_read_as_one_row_a_sequence_too() -> None:
    model = built("musicgen_decoder", num_codebooks=4, hidden_size=1024, num_attention_heads=16)
    with torch.no_grad():
        assert model.instantiate("eager")(input_ids=torch.arange(64, 88)[None]).logits.shape[1] == 24


def test_what_the_caller_gives_stays() -> None:
    model = hand_over(_Echo(), "voxtral_realtime_text")
    own = torch.ones(1, 1, 4)
    assert model(input_ids=torch.arange(3)[None], t_cond=own)["t_cond"] is own
    assert model(input_ids=torch.arange(3)[None])["t_cond"].shape == (1, 1, 4)


def test_calls_without_token_ids_are_left_alone() -> None:
    model = hand_over(_Echo(), "voxtral_realtime_text")
    assert model(inputs_embeds=torch.zeros(1, 3, 4)).keys() == {"inputs_embeds"}


def test_token_ids_of_several_channels_carry_the_same_id_in_each() -> None:
    given = hand_over(_Echo(), "kyutai_speech_to_text")(input_ids=torch.tensor([[5, 6]]))["input_ids"]
    assert given.tolist() == [[[5, 5, 5], [6, 6, 6]]]


def test_embeddings_stand_for_token_ids_one_for_one_and_alike_in_every_model() -> None:
    one, other = (hand_over(_Echo(), "qwen3_omni_moe_talker_code_predictor") for _ in range(2))
    given = one(input_ids=torch.tensor([[5, 6, 5]]))
    assert given.keys() == {"inputs_embeds"}
    vectors = given["inputs_embeds"][0]
    assert torch.equal(vectors[0], vectors[2])
    assert not torch.equal(vectors[0], vectors[1])
    assert torch.equal(vectors, other(input_ids=torch.tensor([[5, 6, 5]]))["inputs_embeds"][0])


def test_copies_of_a_model_keep_what_they_need() -> None:
    model = copy.deepcopy(hand_over(_Echo(), "voxtral_realtime_text"))
    assert "t_cond" in model(input_ids=torch.arange(3)[None])


def test_other_types_get_no_hook() -> None:
    assert not needs_of("llama").at_call
    assert not hand_over(_Echo(), "llama")._forward_pre_hooks


def test_an_attribute_is_only_filled_in_where_the_class_missed_it_in_its_config() -> None:
    config_class = library.config_class("llama")
    config = config_class()
    for name, found in (("dropout_rate", {"dropout_rate": 0.0}), ("no_such_thing", {})):
        with pytest.raises(AttributeError) as caught:
            getattr(config, name)
        assert absent(caught.value, config_class) == found
    with pytest.raises(AttributeError) as caught:
        getattr(_Echo(), "dropout_rate")  # noqa: B009 - not a config: the model's own mistake
    assert absent(caught.value, config_class) == {}


def test_keys_with_dots_reach_sub_configs_and_leave_the_rest() -> None:
    raw = {"a": {"b": 1, "c": 2}, "d": 3}
    assert with_keys(raw, {"a.b": 4, "e.f": 5}) == {"a": {"b": 4, "c": 2}, "d": 3, "e": {"f": 5}}
    assert raw == {"a": {"b": 1, "c": 2}, "d": 3}


@pytest.mark.parametrize("model_type", ["blt", "blt_local_decoder", "vilt"])
def test_a_type_that_cannot_be_fed_says_why_before_what_was_tried(model_type: str) -> None:
    first, *tried = refused(model_type).reasons
    assert first.text.endswith(f"cannot be probed: {needs_of(model_type).cannot}")
    assert tried


def test_a_class_without_a_forward_reads_no_text() -> None:
    found = refused("glm_image_vqmodel")
    assert found.textless
    assert "no forward of its own" in found.reasons[0].text


def test_a_missing_package_is_a_reason_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stand(type):
        def __getattribute__(cls, name: str) -> Any:
            if name.startswith("_") and name != "_from_config":  # as the stand-ins of transformers do
                return super().__getattribute__(name)
            raise ImportError("Stand requires the torchaudio library but it was not found")

    stand = Stand("LlamaForCausalLM", (), {})
    monkeypatch.setattr(library, "model_class", lambda model_type, kind: stand)
    assert isinstance(describe({"model_type": "llama"}), ClassFacts)
    assert "torchaudio" in refused("llama").reasons[0].text


class _Echo(torch.nn.Module):
    """Returns what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    class config:
        hidden_size = 4
        vocab_size = 128
        num_codebooks = 2

    def forward(self, **given: Any) -> dict[str, Any]:
        return given
