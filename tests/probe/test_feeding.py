"""What the feeder hands to a model beside the tokens: the positions that go with a cache of `generate()`'s making."""

from __future__ import annotations

import types

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from attncheck.probe import feeding  # noqa: E402
from attncheck.probe.scenario import CacheInput, MaskInput, Stack  # noqa: E402
from attncheck.semantics.layout import Layout, sequence  # noqa: E402


class Model:
    """Keeps what it is called with."""

    config = types.SimpleNamespace(is_encoder_decoder=False)

    def __init__(self):
        self.calls = []

    def __call__(self, **inputs):
        self.calls.append(inputs)
        return types.SimpleNamespace(past_key_values="cache")


def fed(monkeypatch, forward_args, own_cache):
    layout = Layout((sequence(6),), ((0, 4), (4, 6)))
    variant = types.SimpleNamespace(
        main=layout, encoder=None, forward=(), mask=MaskInput.NONE, positions=None, cache=CacheInput.DEFAULT, name="v"
    )
    subject = types.SimpleNamespace(
        stack=Stack.DECODER,
        forward_args=frozenset(forward_args),
        info=types.SimpleNamespace(vocab_size=128, pad_token_id=0),
    )
    monkeypatch.setattr(feeding, "generation_cache", lambda *arguments: own_cache)
    model = Model()
    feeding.Feeder(subject, device="cpu", dtype=torch.float32, seed=0).run(model, variant, lambda step: None)
    return model.calls


def test_a_cache_that_generate_would_make_comes_with_the_positions_in_it(monkeypatch):
    first, second = fed(monkeypatch, ("input_ids", "past_key_values", "cache_position"), own_cache="hybrid")
    assert first["past_key_values"] == "hybrid"
    assert first["cache_position"].tolist() == [0, 1, 2, 3]
    assert second["cache_position"].tolist() == [4, 5]


@pytest.mark.parametrize(
    ("forward_args", "own_cache"),
    [
        (("input_ids", "past_key_values", "cache_position"), None),
        (("input_ids", "past_key_values"), "hybrid"),
    ],
)
def test_no_positions_for_the_models_own_cache_nor_where_none_are_taken(monkeypatch, forward_args, own_cache):
    calls = fed(monkeypatch, forward_args, own_cache)
    assert len(calls) == 2
    assert not any("cache_position" in call for call in calls)
