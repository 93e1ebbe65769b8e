"""Generation with caches by name, and padding of other contents, on tiny models; faults are planted in the cache."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import pytest
import torch

from attncheck.checks.cache import DRIFT
from attncheck.checks.spill import SPILL
from attncheck.probe.generation import known_kinds
from attncheck.probe.protocol import Probe
from attncheck.probe.runner import run
from attncheck.probe.scenario import every_scenario, scenarios
from attncheck.probe.scenarios.cache_kinds import CALLS, KINDS
from attncheck.probe.tiny.build import TinyModel, build
from attncheck.semantics.observation import NotApplicable, NotRun, Observed, ScenarioRun


def tiny(model_type: str, **settings: Any) -> TinyModel:
    built = build({"model_type": model_type, **settings})
    assert isinstance(built, TinyModel), built
    return built


def runs(model: TinyModel, scenario: str, implementation: str = "eager", **request: Any) -> dict[str, ScenarioRun]:
    found = run(model, Probe(implementation, (scenario,), **request))
    return {entry.variant: entry for entry in found if isinstance(entry, ScenarioRun)}


@pytest.fixture(scope="module")
def mistral() -> TinyModel:
    return tiny("mistral", sliding_window=8)


def test_the_scenario_runs_on_request_only() -> None:
    assert "cache-kinds" in {scenario.name for scenario in every_scenario()}
    assert "cache-kinds" not in {scenario.name for scenario in scenarios()}


def test_every_kind_that_is_known_agrees_with_one_pass(mistral: TinyModel) -> None:
    found = runs(mistral, "cache-kinds")
    assert set(found) == {f"{kind}-prompt-{prompt}" for kind in KINDS for prompt in (5, 8, 16)}
    for name, entry in found.items():
        assert isinstance(entry.outcome, Observed), (name, entry.outcome)
        assert entry.outcome.beside.drift is not None
        assert entry.outcome.beside.drift < DRIFT / 10, name
        assert {call.step for call in entry.outcome.calls} == set(range(CALLS + 1)), name


def test_a_cache_that_mixes_up_its_keys_shows(mistral: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import cache_utils

    usual = cache_utils.DynamicSlidingWindowLayer.update

    def mixed(self: Any, *args: Any, **kwargs: Any) -> Any:
        keys, values = usual(self, *args, **kwargs)
        return (keys.flip(2), values) if args[0].shape[2] == 1 else (keys, values)

    monkeypatch.setattr(cache_utils.DynamicSlidingWindowLayer, "update", mixed)
    outcome = runs(mistral, "cache-kinds")["dynamic-prompt-16"].outcome
    assert isinstance(outcome, Observed)
    assert outcome.beside.drift is not None
    assert outcome.beside.drift > DRIFT


def test_an_unknown_kind_is_not_run(mistral: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "static" in known_kinds()
    monkeypatch.setattr("attncheck.probe.generation.known_kinds", lambda: frozenset(("static",)))
    outcome = runs(mistral, "cache-kinds")["hybrid-prompt-8"].outcome
    assert isinstance(outcome, NotRun)
    assert "knows no kind of cache 'hybrid', only static" in outcome.reason


def test_half_precision_is_not_run(mistral: TinyModel) -> None:
    outcome = runs(mistral, "cache-kinds", dtype="bfloat16")["static-prompt-8"].outcome
    assert isinstance(outcome, NotRun)
    assert "--dtype float32" in outcome.reason


def test_encoders_do_not_generate() -> None:
    (entry,) = runs(tiny("bert"), "cache-kinds").values()
    assert isinstance(entry.outcome, NotApplicable)


def test_a_model_keeps_no_cache_and_no_hook_behind(mistral: TinyModel) -> None:
    model = mistral.instantiate("eager")
    before = set(vars(model)), len(model._forward_hooks) + len(model._forward_pre_hooks)
    runs(mistral, "cache-kinds")
    assert (set(vars(model)), len(model._forward_hooks) + len(model._forward_pre_hooks)) == before


@pytest.mark.parametrize(("model_type", "spills"), [("llama", False), ("recurrent_gemma", True)])
def test_padding_is_followed_to_the_outputs(model_type: str, spills: bool) -> None:
    outcome = runs(tiny(model_type), "left-pad")["mask"].outcome
    assert isinstance(outcome, Observed)
    assert outcome.beside.spill is not None
    assert (outcome.beside.spill > SPILL) is spills
    assert torch.isfinite(torch.tensor(outcome.beside.spill))
