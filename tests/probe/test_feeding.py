"""What the feeder hands to a model beside the tokens: the positions that go with a cache, and whether to keep one."""

from __future__ import annotations

import types

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from attncheck.probe import feeding  # noqa: E402
from attncheck.probe.caches import hands_on_use_cache  # noqa: E402
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


def variant_of(cache, layout):
    return types.SimpleNamespace(
        main=layout, encoder=layout, forward=(), mask=MaskInput.NONE, positions=None, cache=cache, name="v"
    )


def fed(monkeypatch, forward_args, own_cache):
    variant = variant_of(CacheInput.DEFAULT, Layout((sequence(6),), ((0, 4), (4, 6))))
    subject = types.SimpleNamespace(
        stack=Stack.DECODER,
        forward_args=frozenset(forward_args),
        hands_on_use_cache=False,
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


def handing_on(input_ids=None, past_key_values=None, **kwargs):
    """As GraniteMoeForCausalLM's."""


def naming(input_ids=None, past_key_values=None, use_cache=None, **kwargs):
    """As LlamaForCausalLM's."""


def without_a_cache(input_ids=None, **kwargs):
    """An encoder's: what it does not know goes to the attention functions."""


def closed(input_ids=None, past_key_values=None):
    """Takes nothing else."""


def of_states(input_ids=None, cache_params=None, **kwargs):
    """As a state-space model's."""


@pytest.mark.parametrize(
    ("forward", "hands_on"),
    [(handing_on, True), (of_states, True), (naming, False), (without_a_cache, False), (closed, False)],
)
def test_use_cache_goes_through_kwargs_only_beside_a_cache(forward, hands_on):
    assert hands_on_use_cache(forward) is hands_on


@pytest.mark.parametrize(
    ("named", "hands_on", "stack", "cache", "given"),
    [
        (True, False, Stack.DECODER, CacheInput.OFF, False),
        (True, False, Stack.ENCODER_DECODER, CacheInput.DEFAULT, True),
        (False, True, Stack.DECODER, CacheInput.OFF, False),
        (False, True, Stack.DECODER, CacheInput.STATIC, True),
        (False, True, Stack.ENCODER_DECODER, CacheInput.OFF, False),
        (False, True, Stack.ENCODER_DECODER, CacheInput.DEFAULT, None),
        (False, False, Stack.DECODER, CacheInput.OFF, None),
    ],
)
def test_every_forward_that_takes_use_cache_is_told(named, hands_on, stack, cache, given):
    subject = types.SimpleNamespace(
        stack=stack,
        forward_args=frozenset(("input_ids", "past_key_values", *(("use_cache",) if named else ()))),
        hands_on_use_cache=hands_on,
        info=types.SimpleNamespace(vocab_size=128, pad_token_id=0),
    )
    feeder = feeding.Feeder(subject, device="cpu", dtype=torch.float32, seed=0)
    inputs = feeder.inputs(variant_of(cache, Layout((sequence(6),), ((0, 6),))))
    assert inputs.get("use_cache") is given


@pytest.mark.parametrize("model_type", ["granitemoe", "granitemoeshared", "switch_transformers", "llama"])
def test_a_scenario_without_a_cache_runs_without_one(model_type):
    from attncheck.declared import oracle
    from attncheck.probe.scenarios import packed, plain
    from attncheck.probe.subject import subject_of
    from attncheck.probe.tiny.build import build

    tiny = build({"model_type": model_type})
    model = tiny.instantiate("eager")
    layers = oracle.declare(tiny.info.config, tiny.defaults).layers
    subject = subject_of(tiny.info, model, {layer.part for layer in layers})
    feeder = feeding.Feeder(subject, device="cpu", dtype=torch.float32, seed=0)
    scenario = plain if model_type == "switch_transformers" else packed
    for variant in scenario.plan(subject):
        assert variant.cache is CacheInput.OFF
        with torch.no_grad():
            assert model(**feeder.inputs(variant)).past_key_values is None
