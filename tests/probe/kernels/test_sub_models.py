"""What runs in each sub-model, on the real classes: implementations, right and wrong keys, torch's switches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attncheck.probe.kernels import launched, sub_models
from attncheck.probe.kernels.torch_switches import switched
from attncheck.probe.tiny.whole import whole
from attncheck.semantics.sub_models import Asked, AskedRun, SubModelRun

LLAVA = {"model_type": "llava"}
DEFAULT = Asked("default")


def run(asked: Asked, config: dict[str, Any] = LLAVA, **arguments: Any) -> AskedRun:
    given = {"asked": {"it": asked}, "reference": DEFAULT, "config": config, "tower": None, "widths": {}}
    return sub_models.run("it", {**given, "dtype": "float32", "device": "cpu", **arguments})


def tower_and_text(asked: Asked, **arguments: Any) -> tuple[SubModelRun, SubModelRun]:
    tower, text = run(asked, **arguments).sub_models
    return tower, text


def test_by_default_sdpa_runs_its_own_flash_kernel_in_every_call() -> None:
    tower, text = tower_and_text(DEFAULT)
    assert (tower.requested, tower.reached, text.reached) == ("", ("sdpa",), ("sdpa",))
    assert {phase for phase, _ in tower.flash} == {"image", "backward"}
    assert {phase for phase, _ in text.flash} == {"prefill", "left-padded", "backward", "decode"}
    assert text.deviation is not None
    assert (text.deviation.largest, text.deviation.top1) == (0.0, 1.0)


def test_eager_runs_no_flash_kernel_and_gives_the_same_but_for_rounding() -> None:
    found = run(Asked("eager", "eager"))
    assert found.proven
    assert not found.flash
    for sub in found.sub_models:
        assert sub.reached == ("eager",)
        assert sub.deviation is not None
        assert 0 < sub.deviation.largest < 1e-4
        assert sub.deviation.typical < sub.deviation.largest


def test_outputs_are_kept_with_the_model_that_gave_them() -> None:
    """Models come and go, and the next one may lie where another was: their outputs must go with them."""
    one, other = (whole({"model_type": kind}, {}, False) for kind in ("llama", "qwen2"))
    kept = sub_models._reference(one, DEFAULT, "float32", "cpu")
    assert kept
    assert sub_models._reference(one, DEFAULT, "float32", "cpu") is kept
    assert not other.outputs


@pytest.mark.parametrize("switches", [("no-flash",), ("efficient-or-math",)])
def test_switches_leave_sdpa_without_flash_and_are_put_back(switches: tuple[str, ...]) -> None:
    found = run(Asked("off", "sdpa", switches))
    assert found.proven
    assert {sub.reached for sub in found.sub_models} == {("sdpa",)}
    assert torch.backends.cuda.flash_sdp_enabled()
    assert run(DEFAULT).flash


@pytest.mark.parametrize(("key", "eager", "other"), [("vision_config", 0, 1), ("text_config", 1, 0)])
def test_a_key_reaches_its_sub_model_alone(key: str, eager: int, other: int) -> None:
    subs = tower_and_text(Asked("part", ((key, "eager"),)))
    assert (subs[eager].requested, subs[eager].reached) == ("eager", ("eager",))
    assert (subs[other].requested, subs[other].reached) == ("", ("sdpa",))
    assert not subs[eager].flash
    assert subs[other].flash


def test_a_wrong_key_changes_nothing_and_raises_nothing() -> None:
    tower, text = tower_and_text(Asked("wrong", (("vision_tower", "eager"),)))
    assert (tower.reached, text.reached) == (("sdpa",), ("sdpa",))
    assert tower.deviation is not None
    assert tower.deviation.largest == 0.0


def test_the_original_repositories_tower_is_not_reached_by_what_is_asked_of_the_language_model() -> None:
    config = {"model_type": "llava_llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    tower, text = run(Asked("eager", "eager"), config, tower={"model_type": "clip_vision_model"}).sub_models
    assert (tower.title, tower.reached) == ("vision tower", ("sdpa",))
    assert tower.flash
    assert (text.title, text.reached) == ("language model", ("eager",))
    assert not text.flash


def test_what_cannot_run_here_says_so_and_proves_nothing() -> None:
    found = run(Asked("flash", "flash_attention_2", predicted=True))
    assert not found.proven
    assert not found.flash
    assert {sub.config for sub in found.sub_models} == {"flash_attention_2"}
    assert all(sub.missing and not sub.phases for sub in found.sub_models)


def test_a_call_that_breaks_is_a_failure_of_its_phase_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = launched.of_attention

    def breaking(call: Any) -> tuple[str, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("no backward here")
        return seen(call)

    monkeypatch.setattr(sub_models.launched, "of_attention", breaking)
    found = run(Asked("eager", "eager"))
    assert not found.proven
    for sub in found.sub_models:
        assert [phase.name for phase in sub.phases if phase.failure] == ["backward"]
        assert sub.unproven == ("backward: RuntimeError: no backward here",)


def test_a_profiler_that_sees_nothing_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sub_models.launched, "of_attention", lambda call: ())
    found = run(Asked("eager", "eager"))
    assert not found.proven
    assert "no attention kernel was seen" in found.sub_models[0].unproven[0]


def test_a_tower_that_nobody_knows_how_to_feed_is_named_and_not_run() -> None:
    tower, text = run(DEFAULT, {"model_type": "qwen3_vl"}).sub_models
    assert tower.missing
    assert tower.config == "sdpa"
    assert text.reached == ("sdpa",)


def test_switches_are_put_back_after_an_error() -> None:
    def broken() -> None:
        with switched(("no-flash", "no-cudnn")):
            assert not torch.backends.cuda.flash_sdp_enabled()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert torch.backends.cuda.flash_sdp_enabled()


def test_a_reference_that_breaks_leaves_the_other_ways_their_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """As flash attention in float32 does on a GPU: its own row says so."""
    import transformers.integrations.sdpa_attention as module
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def refusing(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("only support fp16 and bf16")

    monkeypatch.setattr(module, "sdpa_attention_forward", refusing)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", refusing)
    reference = Asked("breaks", "sdpa")
    found = run(Asked("eager", "eager"), reference=reference)
    assert found.proven
    assert all(sub.deviation is None for sub in found.sub_models)
    broken = run(reference, reference=reference)
    assert all("fp16" in phase.failure for sub in broken.sub_models for phase in sub.phases)
