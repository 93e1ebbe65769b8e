"""LLaMA-Factory's settings resolved from data: chains, failures, packing, versions, and settings that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from attncheck.environment import Environment, Library
from attncheck.errors import UsageError
from attncheck.findings import Severity
from attncheck.frameworks import llama_factory, llama_factory_keys, plugin
from attncheck.frameworks.interface import ClassSupport
from attncheck.frameworks.llama_factory_versions import NEWEST, RELEASES, Packed, release
from attncheck.frameworks.plugin import Asked, Fails, ModelFacts, Resolution, Runs, RunsOwn, Unresolved
from attncheck.gpus import Gpu

H100 = Gpu(0, "H100", (9, 0), 80 << 30)
BARE = Environment("3.11", "Linux", (Library("transformers", "5.6.0"),), torch_cuda="")
FLASH = Environment(
    "3.11", "Linux", (Library("transformers", "5.6.0"), Library("flash-attn", "2.8.3")), (H100,), torch_cuda="13.0"
)
SUPPORTS = {"eager": True, "sdpa": True, "flash_attention_2": True}


def facts(model_type: str = "qwen2", default: str | None = "sdpa", **config: Any) -> ModelFacts:
    support = ClassSupport("SomeForCausalLM", "5.6.0", SUPPORTS, None, default)
    return ModelFacts("made/model", model_type, config, support)


def resolved(
    model: ModelFacts | None = None, here: Environment = BARE, version: str = "0.9.5", **settings: Any
) -> Resolution:
    asked = Asked({"model_name_or_path": "x", "stage": "sft", "do_train": True, **settings}, version=version)
    return llama_factory.resolve(asked, here, model or facts())


def test_it_is_found() -> None:
    assert plugin.find("llama-factory") is llama_factory.FRAMEWORK
    with pytest.raises(UsageError, match="no such framework") as caught:
        plugin.find("llama_factory")
    assert "llama-factory" in caught.value.hint


def test_fa2_without_flash_attn_goes_on_with_the_default_and_says_so() -> None:
    found = resolved(flash_attn="fa2")
    assert found.outcome == Runs("sdpa")
    first, second = found.steps
    assert (first.setting, first.value) == ("flash_attn", "fa2")
    assert "flash-attn is not installed" in first.does
    assert "LLaMA-Factory 0.9.5" in first.does
    assert "takes its default" in second.does
    (remark,) = found.remarks
    assert (remark.slug, remark.severity, remark.implementation) == ("silent-fallback", Severity.WARNING, "sdpa")
    assert [setting.value for fix in remark.fixes for setting in fix.settings] == ["sdpa"]


def test_fa2_with_flash_attn_is_quiet() -> None:
    found = resolved(here=FLASH, flash_attn="fa2")
    assert found.outcome == Runs("flash_attention_2")
    assert found.remarks == ()


@pytest.mark.parametrize(("value", "reason"), [("fa3", "fa3"), (False, "False"), ("off", "off"), ("eager", "eager")])
def test_values_that_pass_parsing_and_fail_later(value: Any, reason: str) -> None:
    outcome = resolved(flash_attn=value).outcome
    assert outcome == Fails("NotImplementedError", f"Unknown attention type: {reason}", "flash_attn")


def test_off_was_a_value_once() -> None:
    assert resolved(version="0.8.2", flash_attn="off").outcome == Runs("eager")
    assert isinstance(resolved(version="0.8.2", flash_attn="disabled").outcome, Fails)


@pytest.mark.parametrize(
    ("model_type", "here", "settings", "version", "expected"),
    [
        ("gemma2", BARE, {}, "0.9.5", Runs("eager")),
        ("gemma2", FLASH, {}, "0.9.5", Runs("flash_attention_2")),
        ("gemma2", BARE, {"do_train": False}, "0.9.5", Runs("eager")),
        ("gemma2", BARE, {"do_train": False}, "0.9.2", Runs("sdpa")),
        ("youtu", BARE, {"flash_attn": "sdpa"}, "0.9.5", Runs("eager")),
        ("youtu", BARE, {"flash_attn": "sdpa"}, "0.9.4", Runs("sdpa")),
        ("gpt_oss", BARE, {"flash_attn": "sdpa"}, "0.9.5", Runs("kernels-community/vllm-flash-attn3")),
        ("gpt_oss", BARE, {"flash_attn": "sdpa"}, "0.9.3", Runs("sdpa")),
        ("internlm2", BARE, {}, "0.9.5", Runs("eager")),
        ("internlm2", BARE, {"flash_attn": "sdpa"}, "0.9.5", Runs("sdpa")),
        ("kimi_vl", BARE, {"flash_attn": "disabled"}, "0.9.5", Runs("eager")),
    ],
)
def test_model_types_with_rules_of_their_own(
    model_type: str, here: Environment, settings: dict[str, Any], version: str, expected: Any
) -> None:
    assert resolved(facts(model_type), here, version, **settings).outcome == expected


def test_kimi_vl_is_written_into_its_sub_configs_only() -> None:
    found = resolved(facts("kimi_vl"), flash_attn="sdpa")
    assert [(part.name, part.requested) for part in found.sub_models] == [
        ("vision_config", "sdpa"),
        ("text_config", "sdpa"),
    ]


def test_a_default_that_nobody_knows_is_not_guessed() -> None:
    assert isinstance(resolved(facts(default=None)).outcome, Unresolved)


@pytest.mark.parametrize("version", ["0.9.4", "0.9.5"])
def test_shift_attn_can_never_run_for_llama(version: str) -> None:
    outcome = resolved(facts("llama"), version=version, shift_attn=True).outcome
    assert isinstance(outcome, Fails)
    assert outcome.error == "ImportError"
    assert "can never run" in outcome.reason


def test_shift_attn_ran_once_and_is_ignored_elsewhere() -> None:
    old = Environment("3.11", "Linux", (Library("transformers", "4.45.2"),), torch_cuda="")
    assert isinstance(resolved(facts("llama"), old, "0.9.3", shift_attn=True).outcome, RunsOwn)
    found = resolved(shift_attn=True)
    assert found.outcome == Runs("sdpa")
    assert [remark.slug for remark in found.remarks] == ["setting-ignored"]
    assert resolved(facts("llama"), shift_attn=True, do_train=False).outcome == Runs("sdpa")


def test_unsloth_takes_the_place_of_the_resolver() -> None:
    missing = resolved(use_unsloth=True).outcome
    assert isinstance(missing, Fails)
    assert missing.setting == "use_unsloth"
    there = Environment("3.11", "Linux", (*BARE.libraries, Library("unsloth", "2026.10.9")), torch_cuda="")
    assert isinstance(resolved(here=there, use_unsloth=True).outcome, RunsOwn)
    assert resolved(here=there, use_unsloth=True, do_train=False).outcome == Runs("sdpa")
    assert isinstance(resolved(here=there, use_unsloth=True, flash_attn="fa3").outcome, Fails)


def test_neat_packing_feeds_by_implementation_and_version() -> None:
    assert resolved(neat_packing=True).scenarios == ("neat-packing",)
    assert resolved(neat_packing=True, version="0.9.4").scenarios == ("neat-packing-index",)
    flash = resolved(here=FLASH, flash_attn="fa2", neat_packing=True, per_device_train_batch_size=1)
    assert flash.scenarios == ("neat-packing",)
    assert "position_ids" in flash.steps[-1].does
    old = resolved(here=FLASH, flash_attn="fa2", neat_packing=True, version="0.9.3")
    assert old.scenarios == ("neat-packing-index",)
    assert "_get_unpad_data" in old.steps[-1].does


@pytest.mark.parametrize("size", [None, 2])
def test_neat_packing_under_fa2_asserts_one_row_from_0_9_5_on(size: int | None) -> None:
    settings = {} if size is None else {"per_device_train_batch_size": size}
    found = resolved(here=FLASH, flash_attn="fa2", neat_packing=True, **settings)
    assert isinstance(found.outcome, Fails)
    assert found.outcome.error == "AssertionError"
    assert found.fixes[0].settings[0].value == "1"


def test_what_neat_packing_refuses() -> None:
    assert isinstance(resolved(neat_packing=True, stage="dpo").outcome, Fails)
    assert isinstance(resolved(facts("qwen3"), version="0.9.0", neat_packing=True).outcome, Fails)
    gemma4 = resolved(facts("gemma4"), FLASH, flash_attn="fa2", neat_packing=True, per_device_train_batch_size=1)
    assert isinstance(gemma4.outcome, Fails)
    kernel = resolved(facts("gpt_oss"), neat_packing=True)
    assert [remark.slug for remark in kernel.remarks] == ["backend-unusable"]


def test_plain_packing_is_looked_at_and_never_an_error() -> None:
    found = resolved(packing=True)
    assert (found.scenarios, found.beside) == ((), ("plain-packing",))
    (advice,) = found.remedies["plain-packing"]
    assert advice.settings[0].key == "neat_packing"
    assert resolved(packing=True, stage="pt").beside == ()


def test_the_way_to_keep_documents_apart_does_not_end_the_run() -> None:
    def advised(**settings: Any) -> str:
        return resolved(here=FLASH, flash_attn="fa2", packing=True, **settings).remedies["plain-packing"][0].paste

    assert advised() == "neat_packing=true per_device_train_batch_size=1"
    assert advised(version="0.9.3") == "neat_packing=true"
    assert advised(model=facts("gemma4")) == "packing=false"
    assert advised(model=facts("qwen3"), version="0.9.0") == "--packing false"


def test_recommending_fa2_does_not_end_a_packed_run() -> None:
    settings = {"flash_attn": "sdpa", "neat_packing": True, "per_device_train_batch_size": 1}

    def advised(model_type: str, **more: Any) -> str:
        return resolved(facts(model_type), FLASH, **settings, **more).recommend("flash_attention_2").paste

    assert advised("qwen2") == "flash_attn=fa2"
    assert advised("gemma4") == "flash_attn=fa2 neat_packing=false"
    assert advised("gemma4", packing=True) == "flash_attn=fa2 neat_packing=false packing=false"
    after = {**settings, "flash_attn": "fa2", "neat_packing": False}
    assert resolved(facts("gemma4"), FLASH, **after).outcome == Runs("flash_attention_2")


@pytest.mark.parametrize(
    ("version", "file", "expected"),
    [
        ("0.9.3", "train.yaml", "flash_attn=disabled"),
        ("0.9.2", "train.yaml", "# in train.yaml:\nflash_attn: disabled"),
        ("0.9.2", "train.json", '# in train.json:\n"flash_attn": "disabled"'),
        ("0.9.2", "", "--flash_attn disabled"),
        ("0.8.2", "", "--flash_attn off"),
    ],
)
def test_older_releases_take_no_arguments_beside_a_file(version: str, file: str, expected: str) -> None:
    text = '{"model_name_or_path": "x", "flash_attn": "sdpa"}'
    settings = {"model_name_or_path": "x", "flash_attn": "sdpa"}
    lines = {"model_name_or_path": 1, "flash_attn": 1}
    asked = Asked(settings, version=version, file=file, lines=lines if file else {}, text=(text,) if file else ())
    assert llama_factory.resolve(asked, BARE, facts()).recommend("eager").paste == expected


@pytest.mark.parametrize("version", ["0.1.0", "0.6.3"])
def test_nothing_is_said_of_releases_that_nobody_read(version: str) -> None:
    found = resolved(here=FLASH, version=version, flash_attn="fa2")
    assert found.outcome == Unresolved(f"releases before 0.7.1 were not read, and {version} is meant")
    assert (found.steps, found.versions) == ((), {})


def test_a_newer_release_is_judged_as_the_newest_and_told_so() -> None:
    found = resolved(here=FLASH, version="7.7", flash_attn="fa2")
    assert found.outcome == Runs("flash_attention_2")
    assert found.steps[0].does == f"is newer than {NEWEST}, the newest release that was read: its rules are taken"
    assert not any("newer than" in step.does for step in resolved(here=FLASH, version=NEWEST).steps)


def test_what_the_settings_give_already_is_kept() -> None:
    assert resolved(here=FLASH, flash_attn="fa2").recommend("flash_attention_2").settings == ()
    assert resolved(facts("gemma2"), FLASH).recommend("flash_attention_2").settings == ()
    assert resolved(flash_attn="fa2").recommend("sdpa").settings[0].value == "sdpa"


def test_gemma2_needed_a_newer_flash_attn_once() -> None:
    old = Environment("3.11", "Linux", (*BARE.libraries, Library("flash-attn", "2.5.8")), (H100,), torch_cuda="13.0")
    outcome = resolved(facts("gemma2"), old, "0.9.2", flash_attn="fa2").outcome
    assert outcome == Fails("ImportError", "flash_attn>=2.6.3 is required for gemma2, 2.5.8 is installed", "flash_attn")
    assert resolved(facts("gemma2"), FLASH, "0.9.2").outcome == Runs("flash_attention_2")
    assert resolved(facts("gemma2"), old, "0.9.5").outcome == Runs("flash_attention_2")


def test_the_way_out_of_packing_is_not_to_pack_at_all() -> None:
    (advice,) = resolved(packing=True, neat_packing=True).remedies["neat-packing"]
    assert advice.paste == "neat_packing=false packing=false"


def test_recommendations_are_in_its_own_words() -> None:
    found = resolved(flash_attn="fa2", neat_packing=True)
    assert found.recommend("eager").settings[0].paste == "flash_attn=disabled"
    fa2 = found.recommend("flash_attention_2").settings[0].paste
    assert fa2.startswith("# first: pip install flash-attn")
    assert "per_device_train_batch_size=1" in fa2
    assert found.recommend("flex_attention").settings == ()
    assert resolved(flash_attn="sdpa").recommend("sdpa").settings == ()


def test_a_file_that_asks_for_it_already_needs_the_package_alone() -> None:
    text = ("model_name_or_path: x", "flash_attn: fa2")
    asked = Asked(
        {"model_name_or_path": "x", "flash_attn": "fa2"},
        version="0.9.5",
        file="train.yaml",
        lines={"model_name_or_path": 1, "flash_attn": 2},
        text=text,
    )
    (setting,) = llama_factory.resolve(asked, BARE, facts()).recommend("flash_attention_2").settings
    assert setting.paste == "pip install flash-attn --no-build-isolation  # the settings stay as they are"


def test_the_v1_engine_takes_names_of_transformers_and_replaces_nothing() -> None:
    def v1(**settings: Any) -> Any:
        return llama_factory.resolve(Asked({"model": "x", **settings}, version="0.9.5"), BARE, facts()).outcome

    assert v1() == Runs("sdpa")
    assert v1(flash_attn="eager") == Runs("eager")
    assert isinstance(v1(flash_attn="fa2"), Fails)
    missing = v1(flash_attn="flash_attention_2")
    assert isinstance(missing, Fails)
    assert missing.error == "ImportError"
    assert isinstance(v1(batching_strategy="padding_free"), Fails)
    asked = Asked({"model": "x", "batching_strategy": "padding_free"}, version="0.9.5")
    assert [fix.paste for fix in llama_factory.resolve(asked, BARE, facts()).fixes] == ["flash_attn=flash_attention_2"]


def test_use_train_counts_where_do_train_is_not_set() -> None:
    def found(use: str, **settings: Any) -> Resolution:
        asked = Asked(assigned={"neat_packing": "true", **settings}, version="0.9.5", model="a/b", use=use)
        assert llama_factory.plan(asked).use == ("train" if use and not settings else "generate")
        return llama_factory.resolve(asked, BARE, facts())

    assert found("train").scenarios == ("neat-packing",)
    for left_out in (found(""), found("train", do_train="false")):
        assert left_out.scenarios == ()
        (step,) = [step for step in left_out.steps if step.setting == "neat_packing"]
        assert step.does.startswith("not judged: without do_train")


def test_the_plan() -> None:
    asked = Asked({"model_name_or_path": "a/b", "do_train": True, "bf16": True, "cutoff_len": 8192})
    plan = llama_factory.plan(asked)
    assert (plan.target, plan.seq_len, plan.use, plan.dtype) == ("a/b", 8192, "train", "bfloat16")
    assert llama_factory.plan(Asked({"model_name_or_path": "a/b"})).use == "generate"
    assert llama_factory.plan(Asked({"model_name_or_path": "a/b", "do_train": True})).seq_len == 2048
    assert llama_factory.plan(Asked(model="c/d", assigned={"flash_attn": "sdpa"})).target == "c/d"
    with pytest.raises(UsageError, match="no model_name_or_path"):
        llama_factory.plan(Asked({"flash_attn": "sdpa"}, file="train.yaml"))


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"flash_atn": "fa2"}, "'flash_atn' is no key", "flash_attn"),
        ({"block_diag_attn": True}, "'block_diag_attn' is no key", "derived from neat_packing"),
        ({"packing": "true"}, "packing is 'true', a text, expected true or false", ""),
        ({"flash_attn": 3}, "flash_attn is 3, a number, expected a text or true or false", ""),
        ({"cutoff_len": "1k"}, "cutoff_len is '1k', a text, expected a whole number", ""),
        ({"cutoff_len": True}, "cutoff_len is true, a truth value, expected a whole number", ""),
        ({"cutoff_len": 0}, "cutoff_len is 0, expected a number from 1 on", ""),
    ],
)
def test_settings_that_are_wrong_name_their_place(settings: dict[str, Any], message: str, hint: str) -> None:
    key = next(iter(settings))
    asked = Asked({"model_name_or_path": "x", **settings}, file="train.yaml", lines={key: 7})
    with pytest.raises(UsageError) as caught:
        llama_factory.plan(asked)
    assert caught.value.message == f"train.yaml, line 7: {message}" + (" of LLaMA-Factory" if "key" in message else "")
    assert hint in caught.value.hint


def test_a_key_of_another_version_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked({"model_name_or_path": "x", "use_kt": True}, version="0.9.3")
    with pytest.raises(UsageError, match=r"no key of LLaMA-Factory 0\.9\.3") as caught:
        llama_factory.plan(asked)
    assert "another version knows it" in caught.value.hint
    monkeypatch.setenv("ALLOW_EXTRA_ARGS", "1")
    llama_factory.plan(asked)


def test_the_tables_are_whole() -> None:
    assert [row.since for row in RELEASES] == sorted((row.since for row in RELEASES), reverse=True)
    assert release("0.9.5.dev0").since == "0.9.5"
    assert release("0.1").since == RELEASES[-1].since
    for row in RELEASES:
        assert {name for _, name in row.values} == {"", "eager", "sdpa", "flash_attention_2"}
        assert (row.packed is Packed.PATCHED) == bool(row.packed_types)
        assert row.shift
    assert {"flash_attn", "learning_rate", "neat_packing"} <= llama_factory_keys.keys("0.9.5")
    assert "neat_packing" not in llama_factory_keys.keys("0.8.2")


def test_it_recognises_its_own_files_and_leaves_others() -> None:
    assert llama_factory.recognises({"model_name_or_path": "x", "flash_attn": "fa2"})
    assert not llama_factory.recognises({"model_type": "qwen2", "hidden_size": 8})
    assert not llama_factory.recognises({"base_model": "x", "flash_attention": True})
