"""Scenarios on real tiny models: what comes back, what it says of healthy and broken attention, what is put back."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # before torch: flex_attention stays uncompiled

import torch

from attncheck.declared import oracle
from attncheck.probe.protocol import Probe, Started
from attncheck.probe.runner import run
from attncheck.probe.scenario import DOCUMENTS, scenarios
from attncheck.probe.tiny.build import TinyModel, build
from attncheck.semantics.mask import in_token_coordinates
from attncheck.semantics.observation import (
    Basis,
    Crashed,
    Method,
    NotApplicable,
    NotRun,
    Observed,
    Rejected,
    ScenarioRun,
)
from attncheck.semantics.spec import Part
from attncheck.semantics.tolerances import tolerances
from tests.plain_masks import cross_mask, declared_mask, judged_rows

ALL = tuple(scenario.name for scenario in scenarios())
CORE = tuple(scenario.name for scenario in scenarios() if scenario.core)
#: Cells by which the two documents of one row leak, with full causal attention and the four heads of a tiny model.
LEAK = 4 * DOCUMENTS[0] * DOCUMENTS[1]


@cache
def tiny(model_type: str, *settings: tuple[str, Any]) -> TinyModel:
    built = build({"model_type": model_type, **dict(settings)})
    assert isinstance(built, TinyModel), built
    return built


def runs(model: TinyModel, implementation: str, *names: str, **request: Any) -> dict[tuple[str, str], ScenarioRun]:
    answers = run(model, Probe(implementation, names, **request))
    return {(r.scenario, r.variant): r for r in answers if isinstance(r, ScenarioRun)}


def difference(model: TinyModel, found: ScenarioRun) -> tuple[int, int]:
    """Leaked and missing cells of a run against what the (overridden) tiny config declares, where that is known."""
    assert isinstance(found.outcome, Observed), found
    spec = oracle.declare({**model.info.config, **dict(found.overrides)}, None)
    leaked = missing = judged = 0
    for call in found.outcome.calls:
        layer = next((s for s in spec.of_part(call.part) if s.layer == call.layer), None)
        if layer is None or not layer.mask_known:
            continue
        layout = found.encoder if call.part is Part.ENCODER else found.decoder
        assert layout is not None
        for mask in call.masks:
            if call.part is Part.CROSS:
                assert found.encoder is not None
                wanted = cross_mask(layout, found.encoder, mask.row, call.step)
            else:
                wanted = declared_mask(layer, layout, mask.row, call.step)
            seen, behind = in_token_coordinates(mask.keep, wanted.kv_len)
            rows = judged_rows(layout, mask.row, call.step)
            heads = max(1, len(mask.heads))
            leaked += heads * (seen.minus(wanted).only_rows(rows).count() + behind.only_rows(rows).count())
            missing += heads * wanted.minus(seen).only_rows(rows).count()
            judged += 1
    assert judged
    return leaked, missing


@contextmanager
def registered(name: str, function: Any) -> Iterator[None]:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, eager_mask)
    try:
        yield
    finally:
        del AttentionInterface._global_mapping[name]
        del AttentionMaskInterface._global_mapping[name]


def test_each_scenario_is_announced_and_then_answered():
    answers = list(run(tiny("llama"), Probe("eager", ("plain", "packed"))))
    assert answers[0] == Started("eager", "plain")
    assert [a.scenario if isinstance(a, Started) else a.variant for a in answers] == [
        "plain", "no-mask", "ones-mask", "packed", "no-mask", "ones-mask",
    ]  # fmt: skip
    found = [a for a in answers if isinstance(a, ScenarioRun)]
    assert [r.core for r in found] == [True, True, False, False]
    assert all(r.basis is Basis.MEASURED and r.decoder is not None and r.encoder is None for r in found)


def test_an_unknown_scenario_is_an_error():
    with pytest.raises(ValueError, match="no-such-scenario"):
        list(run(tiny("llama"), Probe("eager", ("no-such-scenario",))))


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention", "flash_attention_2"])
def test_a_windowed_model_is_right_in_the_core_scenarios(implementation: str):
    model = tiny("mistral", ("sliding_window", 4096))
    found = runs(model, implementation, *CORE)
    assert {r.basis for r in found.values()} == {
        Basis.PREDICTED if implementation.startswith("flash") else Basis.MEASURED
    }
    for key, result in found.items():
        assert difference(model, result) == (0, 0), key
        assert isinstance(result.outcome, Observed)
        assert result.outcome.used_implementation == implementation
        assert {call.step for call in result.outcome.calls} == set(range(len(result.decoder.steps)))  # type: ignore[union-attr]
        assert len({call.layer for call in result.outcome.calls}) == model.info.num_layers


def test_scalars_are_fitted_once_and_gradients_where_asked():
    found = runs(tiny("llama"), "eager", "plain", "left-pad", "gradients")
    plain = found["plain", "no-mask"].outcome
    assert isinstance(plain, Observed)
    assert [call.softmax.scale == pytest.approx((0.25,) * 4) for call in plain.calls if call.softmax] == [True, True]
    padded = found["left-pad", "mask"].outcome
    assert isinstance(padded, Observed)
    assert all(call.softmax is None and call.gradient is None for call in padded.calls)
    for variant in ("no-mask", "right-pad"):
        outcome = found["gradients", variant].outcome
        assert isinstance(outcome, Observed)
        worst = [max(c.gradient.dq, c.gradient.dk, c.gradient.dv) for c in outcome.calls if c.gradient]
        assert len(worst) == 2
        assert max(worst) < 1e-4


def test_sdpa_is_also_read_under_each_kernel_of_the_device():
    plain = runs(tiny("llama"), "sdpa", "plain")["plain", "no-mask"].outcome
    assert isinstance(plain, Observed)
    assert {call.kernel for call in plain.calls} == {"", "math", "flash"}
    assert set(plain.kernels) <= {"math", "flash"}


def test_packed_documents_leak_where_a_cache_or_a_mask_hides_the_positions():
    model = tiny("llama")
    eager = runs(model, "eager", "packed", "packed-batch", "packed-cache")
    assert difference(model, eager["packed", "no-mask"]) == (0, 0)
    assert difference(model, eager["packed-batch", "no-mask"]) == (0, 0)
    assert difference(model, eager["packed-cache", "no-mask"]) == (2 * LEAK, 0)
    assert difference(model, eager["packed", "ones-mask"]) == (2 * LEAK, 0)
    flash = runs(model, "flash_attention_2", "packed", "packed-batch", "packed-cache")
    assert difference(model, flash["packed", "no-mask"]) == (0, 0)
    assert difference(model, flash["packed-cache", "no-mask"]) == (0, 0)
    assert difference(model, flash["packed-batch", "no-mask"]) == (4 * LEAK, 0)


def test_implementations_read_a_jump_of_positions_differently():
    model = tiny("llama")
    eager = runs(model, "eager", "position-jump")["position-jump", "no-mask"]
    flash = runs(model, "flash_attention_2", "position-jump")["position-jump", "no-mask"]
    assert not eager.truth
    assert not flash.truth
    assert difference(model, eager) != difference(model, flash)


def test_custom_masks_reach_full_layers_and_make_windowed_ones_forget_their_window():
    full, windowed = tiny("llama"), tiny("mistral", ("sliding_window", 4096))
    assert difference(full, runs(full, "sdpa", "custom-mask")["custom-mask", "additive"]) == (0, 0)
    assert difference(full, runs(full, "sdpa", "custom-mask")["custom-mask", "boolean"]) == (0, 0)
    leaked, missing = difference(windowed, runs(windowed, "sdpa", "custom-mask")["custom-mask", "additive"])
    assert leaked > 0
    assert missing == 0
    # Eager adds a boolean mask to the logits as 0 and 1, which forbids nothing.
    assert difference(full, runs(full, "eager", "custom-mask")["custom-mask", "boolean"])[0] > 0


def test_a_switched_decoder_is_judged_by_the_overridden_config():
    model = tiny("mistral", ("sliding_window", 4096))
    eager = runs(model, "eager", "bidirectional")
    assert eager["bidirectional", "is-causal"].overrides == (("is_causal", False),)
    assert difference(model, eager["bidirectional", "is-causal"]) == (0, 0)
    assert difference(model, eager["bidirectional", "is-causal-left-pad"]) == (0, 0)
    leaked, missing = difference(model, runs(model, "flash_attention_2", "bidirectional")["bidirectional", "is-causal"])
    assert leaked == 0
    assert missing > 0  # one key less on each side


def test_output_attentions_keeps_the_mask():
    model = tiny("mistral", ("sliding_window", 4096))
    for result in runs(model, "sdpa", "output-attentions").values():
        assert difference(model, result) == (0, 0)


def test_an_encoder_fills_the_encoder_layout():
    model = tiny("bert")
    found = runs(model, "eager", "plain", "left-pad", "right-pad", "decode", "packed")
    assert isinstance(found["decode", ""].outcome, NotApplicable)
    for key in (("plain", "no-mask"), ("left-pad", "mask"), ("right-pad", "mask")):
        assert found[key].decoder is None
        assert difference(model, found[key]) == (0, 0)
    assert difference(model, found["packed", "no-mask"])[0] > 0


def test_an_encoder_decoder_is_read_in_all_its_parts():
    model = tiny("t5gemma")
    found = runs(model, "eager", *CORE)
    for key, result in found.items():
        assert difference(model, result) == (0, 0), key
        assert isinstance(result.outcome, Observed)
        assert {call.part for call in result.outcome.calls} == {Part.ENCODER, Part.DECODER, Part.CROSS}
        assert {call.step for call in result.outcome.calls if call.part is Part.ENCODER} == {0}


def test_an_encoders_whole_output_goes_back_in():
    # The decoder of this type wants more of it than the hidden states.
    found = runs(tiny("switch_transformers"), "eager", "decode")
    assert all(isinstance(r.outcome, Observed) for r in found.values()), found


def test_tokens_are_fed_in_a_form_of_which_views_can_be_taken():
    # Generation feeds contiguous tokens; this type takes views of them, also of a batch of two.
    found = runs(tiny("kosmos-2"), "eager", "decode")
    assert all(isinstance(r.outcome, Observed) for r in found.values()), found


def test_every_part_of_the_default_encoder_decoder_is_there():
    model = tiny("encoder-decoder")
    for key, result in runs(model, "eager", *CORE).items():
        assert difference(model, result) == (0, 0), key
        assert isinstance(result.outcome, Observed)
        assert {call.part for call in result.outcome.calls} == {Part.ENCODER, Part.DECODER, Part.CROSS}


def test_is_causal_false_reaches_as_far_as_is_declared():
    for model_type in ("gemma3_text", "gpt_oss", "whisper"):
        model = tiny(model_type)
        for key, result in runs(model, "eager", "bidirectional").items():
            if ("is_causal", False) in result.overrides:
                assert difference(model, result) == (0, 0), (model_type, key)
                spec = oracle.declare({**model.info.config, **dict(result.overrides)}, None)
                assert all(layer.mask_known for layer in spec.of_part(Part.DECODER))


def test_a_flag_that_is_a_word_is_set_to_one():
    found = runs(tiny("gemma4_text"), "eager", "bidirectional")
    assert all(isinstance(r.outcome, Observed) for r in found.values()), found
    assert ("use_bidirectional_attention", "all") in {pair for r in found.values() for pair in r.overrides}


def test_a_model_past_the_interface_is_read_by_its_operations():
    found = runs(tiny("bloom"), "eager", "plain", "left-pad", "decode")
    for key, entry in found.items():
        assert isinstance(entry.outcome, Observed), (key, entry.outcome)
        assert {call.method for call in entry.outcome.calls} == {Method.IDENTITY}
    plain = found["plain", "no-mask"].outcome
    assert isinstance(plain, Observed)
    for mask in (mask for call in plain.calls for mask in call.masks):
        assert mask.keep.rows == tuple((2 << query) - 1 for query in range(24))


def test_a_model_whose_operations_tell_nothing_is_read_as_a_black_box_in_single_calls(monkeypatch):
    monkeypatch.setattr("attncheck.probe.reading.operations.written_out", lambda frame: None)
    found = runs(tiny("bloom"), "eager", "plain", "decode")
    plain = found["plain", "no-mask"].outcome
    assert isinstance(plain, Observed)
    assert {call.method for call in plain.calls} <= {Method.PERTURBATION, Method.JACOBIAN}
    assert all(isinstance(r.outcome, NotRun) for r in found.values() if r.scenario == "decode")


def test_a_model_without_attention_has_nothing_to_run():
    assert all(isinstance(r.outcome, NotApplicable) for r in runs(tiny("mamba"), "eager", *ALL).values())


def test_a_class_that_refuses_an_implementation_is_rejected():
    outcome = runs(tiny("bloom"), "sdpa", "plain")["plain", "no-mask"].outcome
    assert isinstance(outcome, Rejected)
    assert "does not support" in outcome.reasons[0].text


def test_a_refusal_at_run_time_names_its_source():
    outcome = runs(tiny("llama"), "flex_attention", "gradients")["gradients", "no-mask"].outcome
    assert isinstance(outcome, Rejected)
    assert "CPU" in outcome.reasons[0].text
    assert outcome.reasons[0].source.startswith("torch")


def test_a_kernel_that_raises_crashes_its_variant_and_no_more():
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def fails_on_padding(module: Any, query: Any, *rest: Any, **kwargs: Any) -> Any:
        if query.shape[0] > 1:
            raise ValueError("I cannot do batches")
        return sdpa_attention_forward(module, query, *rest, **kwargs)

    with registered("fails_on_padding", fails_on_padding):
        found = runs(copy.copy(tiny("llama")), "fails_on_padding", "plain", "left-pad")
    assert isinstance(found["plain", "no-mask"].outcome, Observed)
    crashed = found["left-pad", "mask"].outcome
    assert isinstance(crashed, Crashed)
    assert crashed.kind == "exception"
    assert "I cannot do batches" in crashed.reason


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_the_same_masks(dtype: str):
    model = tiny("mistral", ("sliding_window", 4096))
    for implementation in ("eager", "sdpa", "flash_attention_2"):
        for key, result in runs(model, implementation, "plain", "right-pad", "decode", dtype=dtype).items():
            assert difference(model, result) == (0, 0), (implementation, key)


def test_weights_rounded_to_the_values_dtype_are_no_sinks():
    """CodeGen takes queries and keys in float32 and hands P on in bfloat16: rows sum to 1 only as that dtype has it."""
    result = runs(tiny("codegen"), "eager", "plain", dtype="bfloat16")["plain", "no-mask"]
    assert isinstance(result.outcome, Observed)
    softmax = [call.softmax for call in result.outcome.calls if call.softmax is not None]
    assert softmax
    assert any(abs(1 - total) > tolerances("float32").row_sum for one in softmax for total in one.rowsum)
    assert all(one.sinks is None for one in softmax)


def test_everything_is_put_back():
    import torch._dynamo._trace_wrapped_higher_order_op as private
    import transformers.modeling_flash_attention_utils as glue
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.llama import modeling_llama

    def state() -> tuple[Any, ...]:
        functions = {key: ALL_ATTENTION_FUNCTIONS[key] for key in ALL_ATTENTION_FUNCTIONS.valid_keys()}
        slots = {name: value for name, value in vars(glue).items() if not name.startswith("__")}
        return functions, slots, modeling_llama.eager_attention_forward, getattr(private, "mod_index", None)

    torch.manual_seed(7)
    before, random, grad = state(), torch.get_rng_state(), torch.is_grad_enabled()
    for implementation in ("eager", "sdpa", "flex_attention", "flash_attention_2"):
        runs(tiny("llama"), implementation, "plain", "packed", "gradients")
    assert state() == before
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled() == grad


def test_the_same_request_gives_the_same_answer():
    for implementation in ("eager", "sdpa"):
        assert runs(tiny("llama"), implementation, *CORE) == runs(tiny("llama"), implementation, *CORE)
