"""The real flash path of the installed transformers over the plain-torch contract."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from attncheck.probe.flash import virtual as virtual_flash
from attncheck.probe.tiny import build as tiny

FLASH = ("flash_attention_2", "flash_attention_3", "flash_attention_4")
IDS = torch.arange(64, 88)[None]


def built(**config):
    model = tiny.build(config)
    assert isinstance(model, tiny.TinyModel), model
    return model


def logits(model, **inputs):
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False, **inputs).logits


@pytest.fixture(scope="module")
def mistral():
    return built(model_type="mistral", sliding_window=4096)


@pytest.mark.parametrize("implementation", FLASH)
def test_agrees_with_eager_and_shows_what_was_asked(mistral, implementation):
    model = mistral.instantiate(implementation)
    with virtual_flash.installed(implementation, model) as flash:
        out = logits(model)
    torch.testing.assert_close(out, logits(mistral.instantiate("eager")), atol=1e-5, rtol=1e-5)
    assert [(call.varlen, call.causal, call.window) for call in flash.calls] == [(False, True, (7, 7))] * 2


def test_padding_goes_through_the_variable_length_call(mistral):
    mask = torch.ones(1, 24, dtype=torch.long)
    mask[:, :5] = 0
    model = mistral.instantiate("flash_attention_2")
    with virtual_flash.installed("flash_attention_2", model) as flash:
        out = logits(model, attention_mask=mask)
    assert all(call.varlen for call in flash.calls)
    torch.testing.assert_close(
        out[:, 5:], logits(mistral.instantiate("eager"), attention_mask=mask)[:, 5:], atol=1e-5, rtol=1e-5
    )


def test_packed_positions_are_split(mistral):
    positions = torch.cat([torch.arange(11), torch.arange(13)])[None]
    model = mistral.instantiate("flash_attention_2")
    with virtual_flash.installed("flash_attention_2", model) as flash:
        packed = logits(model, position_ids=positions)
        with torch.no_grad():
            alone = model(input_ids=IDS[:, 11:], use_cache=False).logits
    assert flash.calls[0].varlen
    torch.testing.assert_close(packed[:, 11:], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("implementation", FLASH)
def test_everything_is_put_back(mistral, implementation):
    names = ("transformers.modeling_flash_attention_utils", "transformers.integrations.flash_attention")
    model = mistral.instantiate(implementation)
    before = {name: dict(vars(sys.modules[name])) for name in names}
    classes = [type(module) for module in model.modules()]
    with virtual_flash.installed(implementation, model):
        logits(model)
        assert vars(sys.modules[names[0]])["_flash_fn"] is not before[names[0]]["_flash_fn"]
    with pytest.raises(RuntimeError, match="stop"), virtual_flash.installed(implementation, model):
        raise RuntimeError("stop")
    assert {name: dict(vars(sys.modules[name])) for name in names} == before
    assert [type(module) for module in model.modules()] == classes


@pytest.mark.parametrize("implementation", FLASH)
def test_conv1d_models_run_in_float32(implementation):
    """GPT-2 has no nn.Linear in its attention; in float32 the interface would end in StopIteration."""
    model = built(model_type="gpt2").instantiate(implementation)
    with virtual_flash.installed(implementation, model) as flash:
        out = logits(model)
    assert flash.calls
    assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("model_type", ["falcon", "gptj"])
def test_types_with_one_class_an_implementation_take_the_flash_class(model_type):
    tiny_model = built(model_type=model_type)
    eager = tiny_model.instantiate("eager")
    classes = {type(module) for module in eager.modules()}
    switched = tiny_model.instantiate("flash_attention_2")
    for model in (switched, eager):  # built for flash, and built for eager
        with virtual_flash.installed("flash_attention_2", model) as flash:
            if model is eager:
                model.config._attn_implementation_internal = "flash_attention_2"
            try:
                out = logits(model)
            finally:
                if model is eager:
                    model.config._attn_implementation_internal = "eager"
        assert flash.calls
        torch.testing.assert_close(out, logits(eager), atol=1e-5, rtol=1e-5)
    assert {type(module) for module in eager.modules()} == classes
    assert not hasattr(sys.modules[type(eager).__module__], "_flash_attention_forward")


def test_sinks_reach_fa4_and_not_fa2():
    tiny_model = built(model_type="gpt_oss")
    with torch.no_grad():
        for name, parameter in tiny_model.instantiate("eager").named_parameters():
            if name.endswith("sinks"):
                parameter.fill_(2.0)
    reference = logits(tiny_model.instantiate("eager"))
    calls, errors = {}, {}
    for implementation in ("flash_attention_2", "flash_attention_4"):
        model = tiny_model.instantiate(implementation)
        with virtual_flash.installed(implementation, model) as flash:
            errors[implementation] = float((logits(model) - reference).abs().max())
        calls[implementation] = flash.calls[0].sinks
    assert calls == {"flash_attention_2": False, "flash_attention_4": True}
    assert errors["flash_attention_4"] < 1e-4 < errors["flash_attention_2"]


def test_a_model_that_never_takes_the_flash_path_leaves_no_calls(mistral):
    model = mistral.instantiate("sdpa")
    with virtual_flash.installed("flash_attention_2", model) as flash:
        logits(model)
    assert not flash.calls


def test_backward_runs_through_the_contract(mistral):
    gradients = []
    for implementation in ("eager", "flash_attention_2"):
        model = mistral.instantiate(implementation)
        embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
        with virtual_flash.installed("flash_attention_2", model):
            model(inputs_embeds=embedded, use_cache=False).logits.square().sum().backward()
        gradients.append(embedded.grad)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


def test_other_names_and_unknown_layouts_are_refused(mistral, monkeypatch):
    with (
        pytest.raises(virtual_flash.VirtualFlashUnsupported, match="no flash contract"),
        virtual_flash.installed("sdpa"),
    ):
        pass
    glue = sys.modules["transformers.modeling_flash_attention_utils"]
    monkeypatch.delattr(glue, "lazy_import_flash_attention")
    with (
        pytest.raises(virtual_flash.VirtualFlashUnsupported, match="private entry points"),
        virtual_flash.installed("flash_attention_2"),
    ):
        pass


@pytest.fixture
def own_file(monkeypatch):
    """A model file of 4.43 to 4.47 as it is without flash-attn: nothing of the shared file, and a question."""
    source = types.ModuleType("own_modeling_file")
    monkeypatch.setitem(sys.modules, source.__name__, source)
    eager = type("Attention", (torch.nn.Module,), {"__module__": source.__name__})
    flash = type("FlashAttention2", (eager,), {"__module__": source.__name__})
    source.OWN_ATTENTION_CLASSES = {"eager": eager, "flash_attention_2": flash}
    source.is_flash_attn_greater_or_equal = lambda version: False
    return source


def test_a_file_that_asks_for_the_version_of_flash_attn_is_told_a_new_one(own_file):
    model = torch.nn.Sequential(own_file.OWN_ATTENTION_CLASSES["eager"]())
    with virtual_flash.installed("flash_attention_2", model):
        assert type(model[0]) is own_file.OWN_ATTENTION_CLASSES["flash_attention_2"]
        assert own_file.is_flash_attn_greater_or_equal("2.6.0")
        assert own_file._flash_attention_forward is virtual_flash.shared_file()._flash_attention_forward
    assert type(model[0]) is own_file.OWN_ATTENTION_CLASSES["eager"]
    assert not own_file.is_flash_attn_greater_or_equal("2.6.0")
    assert not hasattr(own_file, "_flash_attention_forward")


def test_a_file_with_a_flash_function_of_its_own_gets_what_it_calls(own_file):
    def flash_attention_forward():
        return own_file._flash_attention_forward

    flash_attention_forward.__module__ = own_file.__name__
    own_file.flash_attention_forward = flash_attention_forward
    eager = own_file.OWN_ATTENTION_CLASSES["eager"]
    del own_file.OWN_ATTENTION_CLASSES
    model = torch.nn.Sequential(eager())
    with virtual_flash.installed("flash_attention_2", model):
        assert flash_attention_forward() is virtual_flash.shared_file()._flash_attention_forward
        assert type(model[0]) is eager
    assert not hasattr(own_file, "_flash_attention_forward")


def test_a_flash_function_that_a_file_only_imports_changes_nothing(own_file):
    del own_file.OWN_ATTENTION_CLASSES
    own_file.flash_attention_forward = virtual_flash.installed
    model = torch.nn.Sequential(type("Attention", (torch.nn.Module,), {"__module__": own_file.__name__})())
    with virtual_flash.installed("flash_attention_2", model):
        assert not hasattr(own_file, "_flash_attention_forward")
        assert not own_file.is_flash_attn_greater_or_equal("2.6.0")
