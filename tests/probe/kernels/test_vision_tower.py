"""A vision tower read inside its model: every implementation, by kernel or by flash attention's contract."""

from __future__ import annotations

from typing import Any

import pytest

from attncheck.probe.kernels import vision_tower
from attncheck.probe.protocol import Probe
from attncheck.semantics.observation import Basis, NotRun, Observed, Rejected, ScenarioRun
from attncheck.semantics.spec import Part


def run(name: str, config: dict[str, Any]) -> ScenarioRun:
    arguments = {"config": config, "probe": Probe("", ("plain",)), "contracts": {}, "devices": {}}
    return vision_tower.run(name, arguments)


@pytest.mark.parametrize("model_type", ["llava", "llava_next", "llava_onevision"])
@pytest.mark.parametrize("name", ["eager", "sdpa", "flash_attention_2"])
def test_every_patch_sees_every_patch(model_type: str, name: str) -> None:
    found = run(name, {"model_type": model_type})
    assert (found.implementation, found.scenario, found.core) == (name, "plain", True)
    assert found.basis is (Basis.PREDICTED if name.startswith("flash") else Basis.MEASURED)
    assert isinstance(found.outcome, Observed)
    assert found.outcome.used_implementation == name
    assert {call.part for call in found.outcome.calls} == {Part.VISION}
    assert {call.layer for call in found.outcome.calls} == {0, 1}
    assert found.vision is not None
    assert found.vision.length >= 16
    for call in found.outcome.calls:
        for mask in call.masks:
            assert all(mask.keep.keeps(i, j) for i in range(call.q_len) for j in range(call.q_len))
            assert mask.keep.kv_len == found.vision.length


def test_sdpas_kernels_are_read_one_by_one_on_a_cpu() -> None:
    outcome = run("sdpa", {"model_type": "llava"}).outcome
    assert isinstance(outcome, Observed)
    assert {call.kernel for call in outcome.calls} == {"", "math", "flash"}


def test_a_tower_of_another_kind_is_not_run() -> None:
    assert isinstance(run("sdpa", {"model_type": "qwen3_vl"}).outcome, NotRun)


def test_an_implementation_that_is_none_is_refused() -> None:
    assert isinstance(run("nothing_like_it", {"model_type": "llava"}).outcome, Rejected)
