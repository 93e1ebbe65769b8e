"""Attention of real tiny models read in live calls, healthy and with faults planted in the callable."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # before torch: flex_attention stays uncompiled

import pytest
import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BertConfig,
    BloomConfig,
    Gemma2Config,
    GptOssConfig,
    MistralConfig,
    T5Config,
)
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.mistral import modeling_mistral

from attncheck.probe.reading.live import Recorder, attention_probe
from attncheck.probe.reading.reference import Terms, attention
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import Layout, left_padded, sequence
from attncheck.semantics.mask import in_token_coordinates
from attncheck.semantics.observation import CallObservation, SoftmaxObservation
from attncheck.semantics.spec import AttentionSpec, MaskSpec, Part, Window
from attncheck.semantics.tolerances import tolerances
from tests.plain_masks import cross_mask, declared_mask, judged_rows

WINDOWED = AttentionSpec(Part.DECODER, 0, mask=MaskSpec(Window(7, 0)))
CAUSAL = AttentionSpec(Part.DECODER, 0)
PLAIN = Layout((sequence(24),), ((0, 24),))
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SIZES: dict[str, Any] = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "sliding_window": 8,
}  # fmt: skip


def mistral(implementation: str = "eager", dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    return built(MistralConfig(**{**SIZES, **changes}), implementation, dtype)


def gemma2(implementation: str = "eager", dtype: torch.dtype = torch.float32) -> Any:
    return built(Gemma2Config(**SIZES), implementation, dtype)


def gpt_oss(implementation: str = "eager", dtype: torch.dtype = torch.float32) -> Any:
    return built(GptOssConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2), implementation, dtype)


def built(config: Any, implementation: str, dtype: torch.dtype, auto: Any = AutoModelForCausalLM) -> Any:
    torch.manual_seed(0)
    model = auto.from_config(config, attn_implementation="eager").eval().to(dtype)
    for module in model.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = implementation
    return model


def tokens(rows: int = 1, length: int = 24) -> Tensor:
    return torch.randint(64, 120, (rows, length), generator=torch.Generator().manual_seed(1))


def probe(model: Any, implementation: str = "eager", inputs: dict[str, Any] | None = None, **options: Any) -> Recorder:
    with torch.no_grad(), attention_probe(model, implementation, **options) as recorder:
        model(**(inputs or {"input_ids": tokens(), "use_cache": False}))
    return recorder


def mask_of(call: CallObservation, row: int = 0) -> KeepMask:
    """The mask that all heads of a row share."""
    (mask,) = [mask for mask in call.masks if mask.row == row]
    return mask.keep


def terms_of(call: CallObservation) -> SoftmaxObservation:
    assert call.softmax is not None
    return call.softmax


# Healthy models ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
def test_mistral_shows_its_window_scale_and_heads(implementation: str, dtype: torch.dtype) -> None:
    recorder = probe(mistral(implementation, dtype), implementation, fit=True)
    assert recorder.failures == []
    assert recorder.used == {implementation}
    assert [(call.part, call.layer) for call in recorder.calls] == [(Part.DECODER, 0), (Part.DECODER, 1)]
    limits = tolerances(str(dtype).removeprefix("torch."))
    for call in recorder.calls:
        assert mask_of(call) == declared_mask(WINDOWED, PLAIN, 0, 0)
        assert (call.num_heads, call.num_kv_heads, call.head_dim, call.head_dim_v) == (4, 2, 16, 16)
        assert (call.nan_rows, call.unstable) == ((), 0)
        softmax = terms_of(call)
        assert softmax.scale == pytest.approx((0.25,) * 4, rel=limits.scale)
        assert (softmax.softcap, softmax.sinks, softmax.alibi, softmax.bias) == (None, None, None, None)
        assert softmax.head_map == (0, 0, 1, 1)
        assert softmax.residual <= limits.log_residual


@pytest.mark.parametrize("dtype", DTYPES)
def test_gemma2_shows_its_softcap_and_alternating_windows(dtype: torch.dtype) -> None:
    sliding, full = probe(gemma2(dtype=dtype), fit=True).calls
    assert mask_of(sliding) == declared_mask(WINDOWED, PLAIN, 0, 0)
    assert mask_of(full) == declared_mask(CAUSAL, PLAIN, 0, 0)
    for call in (sliding, full):
        assert terms_of(call).softcap == pytest.approx(50, rel=0.02)
        assert terms_of(call).scale == pytest.approx((1 / 16,) * 4, rel=tolerances(str(dtype)[6:]).scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gpt_oss_shows_the_sinks_its_parameters_hold(dtype: torch.dtype) -> None:
    model = gpt_oss(dtype=dtype)
    for call, layer in zip(probe(model, fit=True).calls, model.model.layers):
        softmax = terms_of(call)
        assert softmax.expected_sinks == pytest.approx(layer.self_attn.sinks.float().tolist(), abs=1e-6)
        assert softmax.sinks == pytest.approx(softmax.expected_sinks, abs=1e-5 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
def test_padded_rows_are_read_row_by_row_and_padding_queries_do_not_disturb_the_fit(implementation: str) -> None:
    layout = Layout((sequence(24), left_padded(24, 5)), ((0, 24),))
    given = torch.ones(2, 24, dtype=torch.long)
    given[1, :5] = 0
    inputs = {"input_ids": tokens(2), "attention_mask": given, "use_cache": False}
    recorder = probe(mistral(implementation), implementation, inputs, fit=True)
    assert recorder.failures == []
    for call in recorder.calls:
        assert call.requested is not None
        assert len(call.requested.mask) == 2
        for row in (0, 1):
            real = judged_rows(layout, row, 0)
            wanted = declared_mask(WINDOWED, layout, row, 0)
            assert mask_of(call, row).only_rows(real) == wanted
            assert call.requested.mask[row].only_rows(real) == wanted
        assert terms_of(call).scale == pytest.approx((0.25,) * 4, rel=1e-4)
        assert terms_of(call).residual < 1e-3


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_decoding_against_a_cache_is_read_step_by_step(implementation: str) -> None:
    model, ids = mistral(implementation), tokens(length=18)
    layout = Layout((sequence(18),), ((0, 16), (16, 17), (17, 18)))
    with torch.no_grad(), attention_probe(model, implementation) as recorder:
        cache = None
        for step, (start, stop) in enumerate(layout.steps):
            recorder.step = step
            cache = model(input_ids=ids[:, start:stop], past_key_values=cache, use_cache=True).past_key_values
    assert [(call.step, call.layer) for call in recorder.calls] == [(step, n) for step in range(3) for n in range(2)]
    for call in recorder.calls:
        in_tokens, _ = in_token_coordinates(mask_of(call), layout.steps[call.step][1])
        assert in_tokens == declared_mask(WINDOWED, layout, 0, call.step)


@pytest.mark.parametrize("config", [
    BartConfig(vocab_size=128, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
               decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, pad_token_id=0, bos_token_id=1,
               eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2),
    T5Config(vocab_size=128, d_model=64, d_kv=16, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0,
             decoder_start_token_id=0),
], ids=["bart", "t5"])  # fmt: skip
def test_encoder_decoder_and_cross_attention_are_told_apart(config: Any) -> None:
    model = built(config, "sdpa", torch.float32, AutoModelForSeq2SeqLM)
    encoder = Layout((sequence(32), left_padded(32, 5)), ((0, 32),))
    decoder = Layout((sequence(24), sequence(24)), ((0, 24),))
    given = torch.ones(2, 32, dtype=torch.long)
    given[1, :5] = 0
    inputs = {"input_ids": tokens(2, 32), "attention_mask": given, "decoder_input_ids": tokens(2), "use_cache": False}
    recorder = probe(model, "sdpa", inputs, fit=True)
    assert recorder.failures == []
    assert sorted((call.part.value, call.layer) for call in recorder.calls) == [
        (part, layer) for part in ("cross", "decoder", "encoder") for layer in (0, 1)
    ]
    spec = {Part.ENCODER: AttentionSpec(Part.ENCODER, 0, mask=MaskSpec(Window())), Part.DECODER: CAUSAL}
    for call in recorder.calls:
        layout = encoder if call.part is Part.ENCODER else decoder
        for row in (0, 1):
            wanted = (
                cross_mask(decoder, encoder, row, 0)
                if call.part is Part.CROSS
                else declared_mask(spec[call.part], layout, row, 0)
            )
            assert mask_of(call, row).only_rows(judged_rows(layout, row, 0)) == wanted
        assert terms_of(call).residual < 1e-3
        if config.model_type == "t5" and call.part is not Part.CROSS:
            assert call.requested is not None
            assert call.requested.position_bias
            assert terms_of(call).bias == pytest.approx((1,) * 4, abs=1e-4)


def test_an_encoder_is_an_encoder_and_the_caller_may_say_otherwise() -> None:
    config = BertConfig(vocab_size=128, hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    model = built(config, "sdpa", torch.float32, AutoModelForMaskedLM)
    inputs = {"input_ids": tokens()}
    assert {call.part for call in probe(model, "sdpa", inputs).calls} == {Part.ENCODER}
    assert {call.part for call in probe(model, "sdpa", inputs, single=Part.DECODER).calls} == {Part.DECODER}
    assert mask_of(probe(model, "sdpa", inputs).calls[0]).count() == 24 * 24


def test_what_the_framework_requested_is_recorded() -> None:
    eager, sdpa, flex = (probe(mistral(name), name).calls[0].requested for name in ("eager", "sdpa", "flex_attention"))
    assert eager is not None
    assert sdpa is not None
    assert flex is not None
    assert (eager.mask_kind, sdpa.mask_kind, flex.mask_kind) == ("float", "bool", "BlockMask")
    assert eager.mask == sdpa.mask == flex.mask == (declared_mask(WINDOWED, PLAIN, 0, 0),)
    assert (sdpa.sliding_window, sdpa.scaling, sdpa.is_causal, sdpa.softcap, sdpa.sinks) == (8, 0.25, True, None, False)
    bare = probe(mistral("sdpa", sliding_window=None), "sdpa").calls[0].requested
    assert bare is not None
    assert (bare.mask_kind, bare.mask, bare.is_causal) == ("none", (), True)
    capped, sunk = (probe(model).calls[0].requested for model in (gemma2(), gpt_oss()))
    assert capped is not None
    assert sunk is not None
    assert (capped.softcap, sunk.sinks) == (50.0, True)


def test_each_kernel_below_sdpa_is_read_and_one_that_refuses_is_noted() -> None:
    recorder = probe(mistral("sdpa"), "sdpa", fit=True, kernels=("", "math", "flash", "efficient"))
    assert [call.kernel for call in recorder.calls] == ["", "math", "flash"] * 2
    assert {mask_of(call) for call in recorder.calls} == {declared_mask(WINDOWED, PLAIN, 0, 0)}
    assert recorder.failures == []
    assert list(recorder.refusals) == ["efficient"]
    assert recorder.kernels == {"flash"}


def test_weights_that_eager_must_return_show_which_function_really_ran() -> None:
    model = mistral("sdpa")
    with torch.no_grad(), attention_probe(model, "sdpa") as recorder:
        for module in model.modules():
            if hasattr(module, "config"):
                module.config._attn_implementation = "eager"
        model(input_ids=tokens(), use_cache=False)
    assert recorder.used == {"eager"}


# Planted faults ----------------------------------------------------------------------------------

NAME = "wrong_on_purpose"


def asked(kwargs: dict[str, Any]) -> Terms:
    """The terms that the live call asks for."""
    sinks = kwargs.get("s_aux")
    return Terms(kwargs["scaling"], softcap=kwargs.get("softcap"), sinks=None if sinks is None else sinks.double())


Spoil = Callable[[Tensor, Terms], tuple[Tensor, Terms]]


@contextmanager
def planted(spoil: Spoil, finish: Callable[[Tensor], Tensor] = lambda output: output) -> Iterator[str]:
    """A custom implementation with eager's dense mask, healthy except for `spoil` and `finish`."""

    def wrong(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **kwargs: Any) -> Any:
        keep = (mask > torch.finfo(mask.dtype).min / 2).expand(query.shape[0], 4, -1, -1)
        keep, terms = spoil(keep.clone(), asked(kwargs))
        return finish(attention(query, key, value, keep, terms).to(query.dtype)).transpose(1, 2).contiguous(), None

    AttentionInterface.register(NAME, wrong)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    try:
        yield NAME
    finally:
        del AttentionInterface._global_mapping[NAME], AttentionMaskInterface._global_mapping[NAME]


def terms(**changes: Any) -> Spoil:
    def spoil(keep: Tensor, right: Terms) -> tuple[Tensor, Terms]:
        known = {name: getattr(right, name) for name in ("scale", "softcap", "bias", "sinks", "head_map")}
        return keep, Terms(**{**known, **{name: change(right) for name, change in changes.items()}})

    return spoil


def cells(change: Callable[[int, int], bool | None], head: int | None = None) -> Spoil:
    """Set the cells for which `change` answers, in one head or in all."""

    def spoil(keep: Tensor, right: Terms) -> tuple[Tensor, Terms]:
        for i in range(keep.shape[2]):
            for j in range(keep.shape[3]):
                if (wanted := change(i, j)) is not None:
                    keep[:, slice(None) if head is None else head, i, j] = wanted
        return keep, right

    return spoil


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("change", "reach"), [
    (lambda i, j: True if i - j == 8 else None, (8, 0)),
    (lambda i, j: False if i - j == 7 else None, (6, 0)),
    (lambda i, j: True if i >= j else None, (23, 0)),
    (lambda i, j: True if j > i else None, (7, 23)),
], ids=["window + 1", "window - 1", "window dropped", "causal dropped"])  # fmt: skip
def test_a_wrong_mask_is_seen_exactly_and_the_request_stays_right(
    change: Callable[[int, int], bool | None], reach: tuple[int, int], dtype: torch.dtype
) -> None:
    with planted(cells(change)) as name:
        recorder = probe(mistral(name, dtype), name)
    assert recorder.failures == []
    wanted = KeepMask.from_rule(24, 24, lambda i, j: 0 <= i - j < 8 if change(i, j) is None else bool(change(i, j)))
    for call in recorder.calls:
        assert mask_of(call) == wanted
        assert mask_of(call).reach() == reach
        assert call.requested is not None
        assert call.requested.mask == (declared_mask(WINDOWED, PLAIN, 0, 0),)


def test_one_wrong_head_is_that_head() -> None:
    with planted(cells(lambda i, j: True if i - j == 8 else None, head=2)) as name:
        call = probe(mistral(name), name).calls[0]
    assert {mask.heads: mask.keep.reach() for mask in call.masks} == {(0, 1, 3): (7, 0), (2,): (8, 0)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [1.03, math.sqrt(2)])
def test_a_wrong_scale_on_gemma2_is_named_scale_and_the_cap_stays(factor: float, dtype: torch.dtype) -> None:
    with planted(terms(scale=lambda right: right.scale * factor)) as name:
        recorder = probe(gemma2(name, dtype), name, fit=True)
    for call in recorder.calls:
        limits = tolerances(str(dtype).removeprefix("torch."))
        assert terms_of(call).scale == pytest.approx((factor / 16,) * 4, rel=limits.scale)
        assert terms_of(call).softcap == pytest.approx(50, rel=0.02)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dropped_softcap_is_none_and_the_scale_stays(dtype: torch.dtype) -> None:
    with planted(terms(softcap=lambda right: None)) as name:
        recorder = probe(gemma2(name, dtype), name, fit=True)
    for call in recorder.calls:
        assert terms_of(call).softcap is None
        assert terms_of(call).scale == pytest.approx((1 / 16,) * 4, rel=tolerances(str(dtype)[6:]).scale)
        assert call.requested is not None
        assert call.requested.softcap == 50.0


def test_dropped_sinks_and_tiled_heads_and_alibi_show() -> None:
    with planted(terms(sinks=lambda right: None)) as name:
        softmax = terms_of(probe(gpt_oss(name), name, fit=True).calls[0])
    assert softmax.sinks is None
    assert softmax.expected_sinks is not None
    with planted(terms(head_map=lambda right: (0, 1, 0, 1))) as name:
        assert terms_of(probe(mistral(name), name, fit=True).calls[0]).head_map == (0, 1, 0, 1)
    slopes = torch.tensor([0.25, 0.0625, 0.015625, 0.00390625]).view(1, 4, 1, 1)
    with planted(terms(bias=lambda right: slopes * torch.arange(24))) as name:
        assert terms_of(probe(mistral(name), name, fit=True).calls[0]).alibi == pytest.approx(slopes.flatten().tolist())


def test_nan_rows_are_named() -> None:
    def poison(output: Tensor) -> Tensor:
        output[:, 1, -1] = math.nan
        return output

    with planted(lambda keep, right: (keep, right), poison) as name:
        recorder = probe(mistral(name), name, fit=True)
    first = recorder.calls[0]
    assert first.nan_rows == ((0, 23),)
    assert terms_of(first).scale == pytest.approx((0.25,) * 4, rel=1e-4)


def test_dropout_inside_a_kernel_in_eval_mode_is_unstable() -> None:
    def spoil(keep: Tensor, right: Terms) -> tuple[Tensor, Terms]:
        return keep & (torch.rand(keep.shape) > 0.25), right

    with planted(spoil) as name:
        call = probe(mistral(name), name, fit=True).calls[0]
    assert call.unstable > 0.1
    assert call.masks
    assert all(mask.keep != declared_mask(WINDOWED, PLAIN, 0, 0) for mask in call.masks)


class CarelessAttention(torch.nn.Module):
    """A framework that hands its dropout to the kernel whatever the mode."""

    num_key_value_groups, is_causal = 2, True

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        output, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](self, query, key, key, None, dropout=0.3, scaling=0.25)
        return torch.as_tensor(output)


@pytest.mark.parametrize("training", [False, True])
def test_dropout_handed_over_in_eval_mode_is_recorded_and_takes_effect_but_in_train_mode_it_is_meant(
    training: bool,
) -> None:
    model: Any = torch.nn.ModuleDict({"layer": CarelessAttention()}).train(training)
    model.config = MistralConfig(**SIZES)
    with torch.no_grad(), attention_probe(model, "sdpa", fit=True) as recorder:
        model["layer"](torch.randn(1, 4, 24, 16), torch.randn(1, 2, 24, 16))
    assert recorder.failures == []
    (call,) = recorder.calls
    assert call.requested is not None
    if training:
        assert (call.requested.dropout, call.unstable) == (0, 0)
        assert mask_of(call) == declared_mask(CAUSAL, PLAIN, 0, 0)
    else:
        assert call.requested.dropout == 0.3
        assert call.unstable > 0.1
        assert all(mask.keep != declared_mask(CAUSAL, PLAIN, 0, 0) for mask in call.masks)


# Gradients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("make", "implementation"), [(mistral, "eager"), (mistral, "sdpa"), (gemma2, "eager"), (gpt_oss, "eager")]
)
def test_the_backward_of_healthy_attention_agrees_with_float64(
    make: Callable[..., Any], implementation: str, dtype: torch.dtype
) -> None:
    given = torch.ones(2, 24, dtype=torch.long)
    given[1, :5] = 0
    inputs = {"input_ids": tokens(2), "attention_mask": given, "use_cache": False}
    recorder = probe(make(implementation, dtype), implementation, inputs, gradients=True)
    assert recorder.failures == []
    for call in recorder.calls:
        assert call.gradient is not None
        worst = max(call.gradient.dq, call.gradient.dk, call.gradient.dv)
        assert worst <= tolerances(str(dtype).removeprefix("torch.")).gradient


class _Doubled(torch.autograd.Function):
    """Forward unchanged, backward times 1.1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * 1.1


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_backward_that_disagrees_with_its_forward_shows_only_in_the_gradient(dtype: torch.dtype) -> None:
    with planted(lambda keep, right: (keep, right), lambda output: _Doubled.apply(output)) as name:
        call = probe(mistral(name, dtype), name, gradients=True).calls[0]
    assert mask_of(call) == declared_mask(WINDOWED, PLAIN, 0, 0)
    assert call.gradient is not None
    for size in (call.gradient.dq, call.gradient.dk, call.gradient.dv):
        assert size == pytest.approx(0.1, rel=0.2)


# What must not change ----------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_models_own_result_is_untouched(implementation: str) -> None:
    model = mistral(implementation)
    with torch.no_grad():
        before = model(input_ids=tokens(), use_cache=False).logits
        with attention_probe(model, implementation, fit=True, gradients=True) as recorder:
            during = model(input_ids=tokens(), use_cache=False).logits
    assert torch.equal(before, during)
    assert len(recorder.calls) == 2
    assert all(parameter.grad is None for parameter in model.parameters())


def state() -> tuple[Any, ...]:
    mappings = AttentionInterface._global_mapping, ALL_ATTENTION_FUNCTIONS._local_mapping
    return (*(dict(mapping) for mapping in mappings), modeling_mistral.eager_attention_forward)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_registry_hooks_and_random_state_are_restored_also_after_an_exception(implementation: str, fails: bool) -> None:
    model = mistral(implementation)
    before, random = state(), torch.get_rng_state()
    try:
        with torch.no_grad(), attention_probe(model, implementation, fit=True, gradients=True):
            assert state() != before
            model(input_ids=tokens(), use_cache=False)
            if fails:
                raise KeyError("planted")
    except KeyError:
        assert fails
    assert state() == before
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert torch.is_grad_enabled()


def test_a_function_that_draws_random_numbers_finds_and_leaves_the_same_state_as_without_a_probe() -> None:
    def spoil(keep: Tensor, right: Terms) -> tuple[Tensor, Terms]:
        return keep & (torch.rand(keep.shape) > 0.01), right

    with planted(spoil) as name:
        model = mistral(name)
        torch.manual_seed(5)
        with torch.no_grad():
            alone = model(input_ids=tokens(), use_cache=False).logits
        after = torch.get_rng_state()
        torch.manual_seed(5)
        with torch.no_grad(), attention_probe(model, name, fit=True, gradients=True) as recorder:
            probed = model(input_ids=tokens(), use_cache=False).logits
    assert len(recorder.calls) == 2
    assert torch.equal(probed, alone)
    assert torch.equal(torch.get_rng_state(), after)


def test_a_call_that_cannot_be_repeated_does_not_break_the_forward_pass() -> None:
    with planted(lambda keep, right: (keep, right)) as name:
        real, seen = AttentionInterface._global_mapping[name], 0

        def once(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen % 2 == 0:
                raise RuntimeError("only the model may call me\nand a second line")
            return real(*args, **kwargs)

        AttentionInterface._global_mapping[name] = once
        recorder = probe(mistral(name), name, fit=True)
    assert recorder.reached == 2
    assert recorder.calls == []
    assert recorder.failures == [
        f"MistralAttention under {NAME} could not be read: RuntimeError: only the model may call me"
    ]


def test_what_the_real_function_raises_passes_through() -> None:
    with planted(lambda keep, right: (keep, right)) as name:
        AttentionInterface._global_mapping[name] = lambda *args, **kwargs: 1 / 0
        model = mistral(name)
        with pytest.raises(ZeroDivisionError), attention_probe(model, name):
            model(input_ids=tokens(), use_cache=False)


def test_a_model_that_bypasses_the_interface_is_not_reached() -> None:
    config = BloomConfig(vocab_size=128, hidden_size=64, n_layer=2, n_head=4)
    recorder = probe(built(config, "eager", torch.float32))
    assert (recorder.reached, recorder.calls) == (0, [])
    assert "BloomForCausalLM" in recorder.failures[0]
