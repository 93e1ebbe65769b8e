"""What transformers makes of a requested implementation, decided from data and checked against the installed code."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from attncheck.environment import Environment, Gpu, Library
from attncheck.frameworks import flash_kernels, transformers
from attncheck.frameworks.interface import ClassSupport, Redirected, Unavailable, Usable
from attncheck.semantics.observation import Rejected

H100 = Gpu(0, "H100", (9, 0), 80 << 30)
ALL = dict.fromkeys(("eager", "sdpa", "flex_attention", *transformers.FLASH_PACKAGES), True)


def machine(gpu=True, torch_cuda="13.0", **libraries):
    found = tuple(Library(name.replace("_", "-"), version) for name, version in libraries.items())
    return Environment("3.11", "Linux", found, (H100,) if gpu else (), torch_cuda=torch_cuda)


def support(version="5.23.0", compatible=None, **supports):
    return ClassSupport("SomeForCausalLM", version, {**ALL, **supports}, compatible)


def test_everything_there():
    here = machine(flash_attn="2.8.3")
    for name in ("eager", "sdpa", "flex_attention", "flash_attention_2"):
        assert transformers.decide(support(), here, name) == Usable(name)


@pytest.mark.parametrize("name", ["sdpa", "flex_attention", "flash_attention_2"])
def test_what_the_class_does_not_declare_is_rejected(name):
    decision = transformers.decide(support(**{name: False}), machine(flash_attn="2.8.3"), name)
    assert isinstance(decision, Rejected)
    (reason,) = decision.reasons
    assert "SomeForCausalLM" in reason.text
    assert reason.limit.endswith("= True")
    assert reason.actual.endswith("= False")
    assert reason.source


def test_missing_package_and_gpu_are_named_separately():
    decision = transformers.decide(support(), machine(gpu=False, torch_cuda=""), "flash_attention_2")
    assert isinstance(decision, Unavailable)
    assert [reason.limit for reason in decision.reasons] == ["flash-attn installed", "a visible CUDA GPU"]
    without_gpu = transformers.decide(support(), machine(gpu=False, flash_attn="2.8.3"), "flash_attention_2")
    assert [reason.limit for reason in without_gpu.reasons] == ["a visible CUDA GPU"]
    old = transformers.decide(support(), machine(flash_attn="2.3.2"), "flash_attention_2")
    assert [(reason.limit, reason.actual) for reason in old.reasons] == [("flash-attn >= 2.3.3", "2.3.2")]
    cpu_torch = transformers.decide(support(), machine(torch_cuda="", flash_attn="2.8.3"), "flash_attention_2")
    assert [reason.limit for reason in cpu_torch.reasons] == ["torch built for CUDA"]


@pytest.mark.parametrize(
    ("version", "name", "kernels", "actual"),
    [
        ("5.23.0", "flash_attention_2", "0.18.2", "kernels-community/flash-attn2"),
        ("5.23.0", "flash_attention_3", "0.18.9", "kernels-community/vllm-flash-attn3"),
        ("5.23.0", "flash_attention_4", "0.18.2", "kernels-community/flash-attn4"),
        ("5.23.0", "flash_attention_2", "0.19.0", None),
        ("5.23.0", "flash_attention_2", "0.12.0", None),
        ("5.6.0", "flash_attention_2", "0.12.0", "kernels-community/flash-attn2"),
        ("4.57.6", "flash_attention_2", "0.4", "kernels-community/flash-attn"),
        ("4.56.2", "flash_attention_3", "0.4", None),
        ("4.55.4", "flash_attention_2", "0.4", None),
    ],
)
def test_hub_kernels_step_in_for_a_missing_package(version, name, kernels, actual):
    decision = transformers.decide(support(version), machine(kernels=kernels), name)
    if actual is None:
        assert isinstance(decision, Unavailable)
    else:
        assert isinstance(decision, Redirected)
        assert (decision.actual, decision.available) == (actual, True)
        assert decision.contract == flash_kernels.CONTRACTS.get(actual)


def test_hub_kernels_do_not_help_without_a_gpu_or_class_support():
    assert isinstance(
        transformers.decide(support(), machine(gpu=False, kernels="0.18.2"), "flash_attention_2"), Unavailable
    )
    refused = support(flash_attention_2=False)
    assert isinstance(transformers.decide(refused, machine(kernels="0.18.2"), "flash_attention_2"), Rejected)


def test_a_class_that_insists_on_other_flash_implementations():
    insists = support(compatible=("kernels-community/vllm-flash-attn3", "flash_attention_4"))
    with_kernels = transformers.decide(insists, machine(flash_attn="2.8.3", kernels="0.18.2"), "flash_attention_2")
    assert isinstance(with_kernels, Redirected)
    assert (with_kernels.actual, with_kernels.available) == ("kernels-community/vllm-flash-attn3", True)
    without = transformers.decide(insists, machine(flash_attn="2.8.3"), "flash_attention_2")
    assert isinstance(without, Redirected)
    assert not without.available
    assert without.reasons[-1].actual == "not installed"
    assert transformers.decide(insists, machine(flash_attn_4="4.0.0"), "flash_attention_4") == Usable(
        "flash_attention_4"
    )


def test_the_first_listed_implementation_built_for_the_device_is_taken():
    listed = ("kernels-community/metal-flash-sdpa", "flash_attention_4")
    assert flash_kernels.first_for("cuda", listed) == "flash_attention_4"
    assert flash_kernels.first_for("cpu", listed) == "kernels-community/metal-flash-sdpa"


def test_names_younger_than_the_installed_version():
    assert isinstance(transformers.decide(support("4.47.0"), machine(), "flex_attention"), Rejected)
    assert isinstance(transformers.decide(support("4.52.4"), machine(), "flash_attention_3"), Rejected)
    assert not isinstance(transformers.decide(support("4.53.0"), machine(), "flash_attention_3"), Rejected)
    assert transformers.decide(support("5.23.0"), machine(), "my_plugin") == Usable("my_plugin")


def test_default_implementations():
    names = transformers.default_implementations
    assert names(support(), machine(gpu=False)) == ("eager", "sdpa", "flex_attention", "flash_attention_2")
    assert names(support(), machine(flash_attn_4="4.0.0"))[-1] == "flash_attention_4"
    assert names(support("4.47.1"), machine()) == ("eager", "sdpa", "flash_attention_2")
    insists = support(compatible=("kernels-community/vllm-flash-attn3", "flash_attention_4"))
    assert names(insists, machine(gpu=False)) == ("eager", "sdpa", "flex_attention", "flash_attention_4")


def test_settings_are_ready_to_paste():
    recommendation = transformers.settings("sdpa", target="mistralai/Mistral-7B-v0.1", version="5.23.0")
    assert [setting.paste for setting in recommendation.settings] == [
        'model = AutoModelForCausalLM.from_pretrained("mistralai/Mistral-7B-v0.1", attn_implementation="sdpa")',
        'model.set_attn_implementation("sdpa")',
    ]
    per_part = transformers.settings("sdpa", kind="text", sub_config="text_config")
    assert per_part.settings[0].value == '{"text_config": "sdpa"}'
    for setting in (*recommendation.settings, *per_part.settings):
        compile(setting.paste, "paste", "exec")
    assert len(transformers.settings("eager", version="4.53.0").settings) == 1


def test_a_path_with_quotes_is_still_python():
    target = 'C:\\new "models"'
    paste = transformers.settings("sdpa", target=target).settings[0].paste
    assert (
        ast.literal_eval(paste.removeprefix("model = AutoModelForCausalLM.from_pretrained(").split(", attn_")[0])
        == target
    )


def test_tables_equal_those_of_the_installed_transformers():
    """What is kept as data here is data there too, in the versions that have it."""
    import transformers as library
    from transformers import modeling_flash_attention_utils as glue
    from transformers.utils import import_utils

    rules = flash_kernels.fallback(library.__version__)
    assert rules is not None
    assert dict(rules.repositories) == glue.FLASH_ATTN_KERNEL_FALLBACK
    assert (rules.kernels_min, rules.kernels_below) == (
        import_utils.KERNELS_MIN_VERSION,
        import_utils.KERNELS_MAX_VERSION,
    )
    ours = {name: devices for name, devices in flash_kernels.DEVICES.items() if "/" in name}
    assert ours == {name: tuple(devices) for name, devices in glue.FLASH_ATTN_KERNEL_DEVICES.items()}


def test_agrees_with_the_installed_dispatch_code_on_this_machine():
    from transformers import MistralConfig, MistralForCausalLM

    from attncheck.environment import read_environment
    from attncheck.probe.tiny import facts

    described = facts.describe({"model_type": "mistral"})
    here = read_environment()
    known = ClassSupport(described.model_class, described.transformers, described.supports, described.compatible_flash)
    config = MistralConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=32
    )
    for name in ("eager", "sdpa", "flex_attention", *transformers.FLASH_PACKAGES):
        decision = transformers.decide(known, here, name)
        try:
            model = MistralForCausalLM._from_config(config, attn_implementation=name)
        except ImportError:
            assert isinstance(decision, Unavailable), name
        else:
            assert isinstance(decision, Usable | Redirected), name
            if isinstance(decision, Usable):
                assert model.config._attn_implementation == name


def test_no_heavy_import():
    code = "import sys, attncheck.frameworks.transformers; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
