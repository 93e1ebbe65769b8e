"""Training with and without `verify` in between is the same to the last bit, in every state in which people train."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import attncheck
from attncheck.probe.inside import state
from tests.live.live_models import model, padded, slugs, tokens
from tests.live.training import same, trained, wrapped

ROOT = Path(__file__).parents[2]
STATES = [
    "train",
    "eval",
    "checkpointing",
    "reentrant checkpointing",
    pytest.param("lora", marks=pytest.mark.skipif(find_spec("peft") is None, reason="needs peft")),
]


@pytest.mark.parametrize("kind", STATES)
def test_training_is_the_same_with_and_without(kind: str) -> None:
    looked: list[Any] = []

    def look(live: Any, batch: Any) -> None:
        looked.append(attncheck.verify(live, batch))
        looked.append(attncheck.verify(live))

    assert same(trained(wrapped(kind), None), trained(wrapped(kind), look))
    assert [slugs(report) for report in looked] == [set()] * len(looked)
    assert {cell.verdict.value for cell in looked[0].matrix} == {"ok"}


def test_under_autocast_cast_weights_are_not_kept() -> None:
    def look(live: Any, batch: Any) -> None:
        report = attncheck.verify(live, batch)
        assert slugs(report) == set()
        assert report.arguments["dtype"] == "bfloat16"

    assert same(trained(wrapped("train"), None, autocast=True), trained(wrapped("train"), look, autocast=True))


def test_the_comparison_itself_sees_a_difference() -> None:
    def look(live: Any, batch: Any) -> None:
        torch.rand(1)

    assert not same(trained(wrapped("train"), None), trained(wrapped("train"), look))


@pytest.mark.parametrize("method", ["interface", "perturbation"])
def test_either_way_of_reading_leaves_no_trace(method: str) -> None:
    def look(live: Any, batch: Any) -> None:
        attncheck.verify(live, batch, method=method, fit=False)

    assert same(trained(wrapped("train"), None), trained(wrapped("train"), look))


def test_generation_goes_on_with_the_same_tokens() -> None:
    live = model("mistral")
    once = live.generate(tokens(), max_new_tokens=4, do_sample=False)
    attncheck.verify(live)
    assert torch.equal(once, live.generate(tokens(), max_new_tokens=4, do_sample=False))


def test_buffers_attributes_lists_and_random_state_are_put_back() -> None:
    class Busy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))
            self.register_buffer("count", torch.zeros(3))
            self.register_buffer("replaced", torch.zeros(3))
            self.seen: list[int] = [1]
            self.named: dict[str, int] = {"a": 1}
            self.steps = 0

        def forward(self) -> None:
            self.count += 1
            self.replaced = self.replaced + 1
            self.register_buffer("late", torch.zeros(1))
            self.seen.append(2)
            self.named["b"] = 2
            self.steps += 1
            self.extra = torch.zeros(2)
            torch.rand(3)

    busy = Busy()
    replaced, random = busy.replaced, torch.get_rng_state()
    with state.undisturbed(busy) as disturbed:
        busy()
    assert busy.count.tolist() == [0.0] * 3
    assert busy.replaced is replaced
    assert (busy.seen, busy.named, busy.steps) == ([1], {"a": 1}, 0)
    assert not hasattr(busy, "extra")
    assert not hasattr(busy, "late")
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert disturbed.remarks == []


def test_a_buffer_too_large_to_copy_is_told_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "COPIED", 4)
    busy = torch.nn.BatchNorm1d(3)
    with state.undisturbed(busy) as disturbed:
        busy(torch.rand(4, 3))
    assert any("running_mean" in remark for remark in disturbed.remarks)


def test_everything_is_put_back_when_the_model_breaks() -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    live = model("mistral").train()
    before = dict(ALL_ATTENTION_FUNCTIONS._global_mapping)

    def broken(*_: object) -> None:
        raise RuntimeError("this layer breaks")

    hook = live.model.layers[-1].mlp.register_forward_hook(broken)
    attncheck.verify(live, padded(), fit=False)
    hook.remove()
    assert dict(ALL_ATTENTION_FUNCTIONS._global_mapping) == before
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in live.modules())
    assert live.training
    assert torch.is_grad_enabled()


COMPILED = """
import torch
from torch._dynamo.utils import counters
import attncheck
from tests.live.live_models import slugs
from tests.live.training import same, trained, wrapped

def run(look):
    torch._dynamo.reset()
    counters.clear()
    trace = trained(wrapped("compiled"), look)
    return trace, dict(counters["stats"]), dict(counters["frames"])

def look(live, batch):
    report = attncheck.verify(live, batch)
    assert slugs(report) == set(), slugs(report)
    assert any(note.code == "how-read" for note in report.model.notes)

alone, watched = run(None), run(look)
assert alone[1]["unique_graphs"] > 0
assert same(alone[0], watched[0])
assert alone[1:] == watched[1:], (alone[1:], watched[1:])
print("the same")
"""


@pytest.mark.slow
def test_compiled_models_neither_change_nor_compile_anew() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TORCHDYNAMO_DISABLE"}
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), environment.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    assert done.stdout.strip() == "the same", done.stderr[-2000:]


def test_no_other_device_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.manual_seed would seed every device, of which only the model's own are put back."""
    from attncheck.probe.inside import perturb

    def seeded(_: int) -> None:
        raise AssertionError("all devices were seeded")

    monkeypatch.setattr(torch, "manual_seed", seeded)
    module = torch.nn.Linear(4, 4)
    call = perturb.Module(module, (torch.ones(1, 3, 4),), {}, {})
    first = perturb._seeded(0, call, torch.ones(1, 3, 4))
    drawn = torch.rand(2)
    assert torch.equal(first, perturb._seeded(0, call, torch.ones(1, 3, 4)))
    assert torch.equal(drawn, torch.rand(2))
