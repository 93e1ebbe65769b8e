"""Part and layer of an attention call, from the module that makes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from attncheck.probe.reading.place import Places
from attncheck.semantics.spec import Part


class SomeAttention(nn.Module):
    def __init__(self, layer_idx: Any = None) -> None:
        super().__init__()
        self.layer_idx = layer_idx

    def forward(self, hidden: torch.Tensor, key_value_states: torch.Tensor | None = None) -> torch.Tensor:
        return hidden


class SomeCrossAttention(SomeAttention):
    pass


class SomeMergedAttention(SomeAttention):
    pass


def model(path: str, module: nn.Module, name: str = "SomeModel", **config: Any) -> Any:
    """A model that holds `module` at a dotted path."""
    words = path.split(".")
    for word in reversed(words[1:]):
        outer = nn.Module()
        outer.add_module(word, module)
        module = outer
    whole = type(name, (nn.Module,), {})()
    whole.add_module(words[0], module)
    whole.config = SimpleNamespace(**config)
    return whole


@pytest.mark.parametrize(("path", "config", "part"), [
    ("layers.0.self_attn", {}, Part.DECODER),
    ("bert.encoder.layer.0.attention.self", {}, Part.ENCODER),
    ("bert.encoder.layer.0.attention.self", {"is_decoder": True}, Part.DECODER),
    ("model.encoder.layers.0.self_attn", {"is_encoder_decoder": True}, Part.ENCODER),
    ("model.decoder.layers.0.self_attn", {"is_encoder_decoder": True}, Part.DECODER),
    ("model.decoder.layers.0.encoder_attn", {"is_encoder_decoder": True}, Part.CROSS),
    ("decoder.block.0.layer.1.EncDecAttention", {"is_encoder_decoder": True}, Part.CROSS),
    ("h.0.crossattention", {"add_cross_attention": True}, Part.CROSS),
    ("vision_tower.encoder.layers.0.self_attn", {}, Part.VISION),
])  # fmt: skip
def test_the_path_and_the_config_tell_the_part(path: str, config: dict[str, Any], part: Part) -> None:
    attention = SomeAttention()
    assert Places(model(path, attention, **config)).of(attention)[0] is part


def test_the_class_tells_cross_attention_and_masked_language_models() -> None:
    crossing = SomeCrossAttention()
    assert Places(model("decoder.layers.0.x", crossing, is_encoder_decoder=True)).of(crossing)[0] is Part.CROSS
    plain = SomeAttention()
    assert Places(model("layers.0.attn", plain, name="SomeForMaskedLM")).of(plain)[0] is Part.ENCODER
    assert Places(model("layers.0.attn", plain, name="SomeForMaskedLM"), Part.DECODER).of(plain)[0] is Part.DECODER


@pytest.mark.parametrize(("kind", "part"), [(SomeAttention, Part.CROSS), (SomeMergedAttention, Part.DECODER)])
def test_states_handed_over_from_another_stack_tell_cross_attention(kind: type[SomeAttention], part: Part) -> None:
    attention = kind()
    whole = model("decoder.layers.0.attn", attention, is_encoder_decoder=True)
    places = Places(whole)
    with places.watching(whole):
        attention(torch.zeros(1), key_value_states=torch.zeros(1))
        assert places.of(attention)[0] is part
        attention(torch.zeros(1))
        assert places.of(attention)[0] is Part.DECODER
    assert not attention._forward_pre_hooks


@pytest.mark.parametrize(("path", "layer_idx", "layer"), [
    ("layers.3.self_attn", None, 3),
    ("layers.3.self_attn", 5, 5),
    ("decoder.block.2.layer.1.attn", None, 2),
    ("layers.3.self_attn", "3", 3),
])  # fmt: skip
def test_the_layer_is_the_modules_own_index_or_the_first_number_of_its_path(
    path: str, layer_idx: Any, layer: int
) -> None:
    attention = SomeAttention(layer_idx)
    assert Places(model(path, attention)).of(attention)[1] == layer


def test_layers_that_share_a_module_are_counted_and_each_step_starts_anew() -> None:
    shared = SomeAttention()
    places = Places(model("groups.0.attn", shared))
    assert [places.of(shared)[1] for _ in range(3)] == [0, 1, 2]
    places.begin_step()
    assert [places.of(shared)[1] for _ in range(2)] == [0, 1]
