"""Masks of models that bypass the interface, read at layer boundaries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    GPTNeoConfig,
    MistralConfig,
    MptConfig,
    MvpConfig,
    XGLMConfig,
    XLNetConfig,
)
from transformers.models.mvp.modeling_mvp import MvpForConditionalGeneration

from attncheck.probe.reading.blackbox import NotMeasurable, observe
from attncheck.probe.reading.blocks import blocks
from attncheck.probe.tiny import build as tiny
from attncheck.semantics.layout import Layout, left_padded, right_padded, sequence
from attncheck.semantics.observation import Method
from attncheck.semantics.spec import AttentionSpec, MaskSpec, Part, Window
from tests.plain_masks import declared_mask, judged_rows

CAUSAL = AttentionSpec(Part.DECODER, 0)
LOCAL = AttentionSpec(Part.DECODER, 0, mask=MaskSpec(Window(7, 0)))
IDS: dict[str, Any] = {"vocab_size": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "bloom": (BloomConfig(hidden_size=64, n_layer=2, n_head=4, **IDS), (CAUSAL, CAUSAL)),
    "falcon": (FalconConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, alibi=True, **IDS),
               (CAUSAL, CAUSAL)),
    "mpt": (MptConfig(d_model=64, n_layers=2, n_heads=4, max_seq_len=64, **IDS), (CAUSAL, CAUSAL)),
    "gpt_neo": (GPTNeoConfig(hidden_size=64, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]],
                             window_size=8, **IDS), (CAUSAL, LOCAL)),
    "xglm": (XGLMConfig(d_model=64, num_layers=2, attention_heads=4, ffn_dim=64, **IDS), (CAUSAL, CAUSAL)),
}  # fmt: skip


def built(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().to(dtype)


def inputs(layout: Layout) -> dict[str, torch.Tensor]:
    real = torch.tensor([[int(document >= 0) for document in row.document] for row in layout.rows])
    drawn = torch.randint(64, 120, real.shape, generator=torch.Generator().manual_seed(1))
    return {"input_ids": drawn * real, "attention_mask": real}


@pytest.mark.parametrize(("dtype", "method"), [(torch.float32, Method.PERTURBATION), (torch.bfloat16, Method.JACOBIAN)])
@pytest.mark.parametrize("name", CONFIGS)
def test_masks_of_bypassing_models_are_exact_with_padding(name: str, dtype: torch.dtype, method: Method) -> None:
    config, specs = CONFIGS[name]
    layout = Layout((sequence(24), left_padded(24, 5), right_padded(24, 5)), ((0, 24),))
    observed = observe(built(config, dtype), inputs(layout))
    assert [(call.layer, call.method, call.part) for call in observed] == [(n, method, Part.DECODER) for n in (0, 1)]
    for call, spec in zip(observed, specs):
        assert [(mask.row, mask.heads) for mask in call.masks] == [(0, ()), (1, ()), (2, ())]
        for mask in call.masks:
            real = judged_rows(layout, mask.row, 0)
            assert mask.keep.only_rows(real) == declared_mask(spec, layout, mask.row, 0)


def test_a_planted_leak_and_a_lost_window_show(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(CONFIGS["gpt_neo"][0])
    local = model.transformer.h[1].attn.attention
    local.bias[:, :, 3, 5] = True
    local.bias[:, :, 20, 2] = True
    layout = Layout((sequence(24),), ((0, 24),))
    found = observe(model, inputs(layout))[1].masks[0].keep.minus(declared_mask(LOCAL, layout, 0, 0))
    assert list(found.cells()) == [(20, 2)]  # the causal mask added on top still hides (3, 5)


def test_it_agrees_with_the_declared_window_of_a_model_that_uses_the_interface() -> None:
    config = MistralConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, sliding_window=8, **IDS,
    )  # fmt: skip
    layout = Layout((sequence(24),), ((0, 24),))
    for call in observe(built(config), inputs(layout)):
        assert call.masks[0].keep == declared_mask(LOCAL, layout, 0, 0)


def test_both_stacks_of_an_encoder_decoder_are_read() -> None:
    config = MvpConfig(
        d_model=64, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_ffn_dim=64, decoder_start_token_id=2, forced_eos_token_id=2, **IDS,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MvpForConditionalGeneration(config).eval()
    encoder, decoder = Layout((sequence(32),), ((0, 32),)), Layout((sequence(24),), ((0, 24),))
    given = {**inputs(encoder), "decoder_input_ids": inputs(decoder)["input_ids"], "use_cache": False}
    full = AttentionSpec(Part.ENCODER, 0, mask=MaskSpec(Window()))
    found = observe(model, given, part=Part.ENCODER)
    assert [call.masks[0].keep for call in found] == [declared_mask(full, encoder, 0, 0)] * 2
    found = observe(model, given, part=Part.DECODER)
    assert [call.masks[0].keep for call in found] == [declared_mask(CAUSAL, decoder, 0, 0)] * 3
    with pytest.raises(NotMeasurable, match="cross-attention"):
        observe(model, given, part=Part.CROSS)


def test_what_cannot_be_read_is_said() -> None:
    layout = Layout((sequence(24),), ((0, 24),))
    model = built(CONFIGS["bloom"][0])
    with torch.no_grad():
        cache = model(**inputs(layout), use_cache=True).past_key_values
    with pytest.raises(NotMeasurable, match="cache"):
        observe(model, {**inputs(layout), "past_key_values": cache})
    for dtype in (torch.float32, torch.bfloat16):
        time_major = built(XLNetConfig(d_model=64, n_layer=2, n_head=4, d_inner=64, **IDS), dtype)
        with pytest.raises(NotMeasurable, match="shape"):
            observe(time_major, inputs(layout))
    with pytest.raises(NotMeasurable, match="no repeated"):
        observe(torch_linear(), inputs(layout))


def torch_linear() -> Any:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    model.config = type("Config", (), {})()  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_and_the_random_state_are_left_as_they_were(dtype: torch.dtype) -> None:
    model = built(CONFIGS["mpt"][0], dtype).train()
    random = torch.get_rng_state()
    observe(model, inputs(Layout((sequence(24),), ((0, 24),))))
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert all(module.training for module in model.modules())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_repeated_blocks_are_found_not_the_lists_inside_them() -> None:
    model = built(CONFIGS["falcon"][0])
    found = blocks(model, Part.DECODER)
    assert [block.module for block in found] == list(model.transformer.h)
    assert [block.index for block in found] == [0, 1]


def test_the_blocks_of_a_vision_tower_are_not_those_of_the_text() -> None:
    made = tiny.build({"model_type": "git"})
    assert isinstance(made, tiny.TinyModel)
    model = made.instantiate("eager")
    assert [block.module for block in blocks(model, Part.DECODER)] == list(model.git.encoder.layer)
