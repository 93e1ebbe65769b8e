"""TransformerEngine's settings resolved for stored machines: what is selected, what the window means, what to write."""

from __future__ import annotations

from typing import Any

import pytest
from packaging.version import Version

from attncheck.environment import Environment
from attncheck.errors import UsageError
from attncheck.findings import Severity
from attncheck.frameworks import plugin
from attncheck.frameworks.plugin import Asked, Fails, ModelFacts, Resolution, RunsOwn, Unresolved
from attncheck.frameworks.transformer_engine import resolve
from attncheck.frameworks.transformer_engine_call import Written, documented, rewritten, sized
from attncheck.frameworks.transformer_engine_params import FLASH_2, FLASH_4, FUSED, UNFUSED, Params
from attncheck.frameworks.transformer_engine_parse import settings
from attncheck.frameworks.transformer_engine_selection import select
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window
from attncheck.semantics.written import PLAIN, SHORT_QUERIES, WrittenCall
from tests.backends.environments import A100, B200, CPU_ONLY, H100, T4, with_libraries

MISTRAL: dict[str, Any] = {
    "model_type": "mistral",
    "num_hidden_layers": 2,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "sliding_window": 4096,
    "max_position_embeddings": 32768,
}
LLAMA = {**MISTRAL, "model_type": "llama", "sliding_window": None}
GEMMA2 = {
    **MISTRAL,
    "model_type": "gemma2",
    "attn_logit_softcapping": 50.0,
    "query_pre_attn_scalar": 144,
    "layer_types": ["sliding_attention", "full_attention"],
}


def resolved(
    environment: Environment, version: str | None = None, config: dict[str, Any] = MISTRAL, **assigned: str
) -> Resolution:
    facts = ModelFacts("a-model", config["model_type"], config)
    return resolve(Asked(assigned=assigned, version=version), environment, facts)


def chosen(resolution: Resolution, scenario: str = PLAIN) -> WrittenCall:
    (call,) = [call for call in resolution.calls[0].calls if call.selected and call.scenario == scenario]
    return call


def said(resolution: Resolution) -> str:
    return "\n".join(f"{step.setting}={step.value}: {step.does}" for step in resolution.steps)


def test_it_is_found_by_name() -> None:
    assert plugin.find("transformer-engine").title == "TransformerEngine"


# Selection ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "version", "backend"),
    [
        (H100, None, FUSED),
        (B200, None, FUSED),
        (B200, "1.13.0", FLASH_2),
        (A100, None, FLASH_2),
        (A100, "2.1.0", FUSED),  # this release does not take flash-attn 2.8.3
        (T4, None, UNFUSED),
        (with_libraries(A100, {"flash-attn": None}), None, FUSED),
        (CPU_ONLY, None, FUSED),
    ],
)
def test_the_same_settings_run_another_backend_on_another_machine(
    environment: Environment, version: str | None, backend: str
) -> None:
    environment = with_libraries(environment, {"flash-attn": "2.6.3"}) if version == "1.13.0" else environment
    outcome = resolved(environment, version, window_size="4095,0").outcome
    assert isinstance(outcome, RunsOwn)
    assert outcome.what == f"TransformerEngine {backend}"


def test_two_flash_packages_on_hopper_without_fused_give_the_newer_one() -> None:
    """And with it the zeros of (-1, 0)."""
    resolution = resolved(H100, config=LLAMA, NVTE_FUSED_ATTN="0")
    assert resolution.outcome == RunsOwn(f"TransformerEngine {FLASH_4}", (FLASH_4, UNFUSED))
    assert chosen(resolution).means is None
    assert "4.0.0b36" in chosen(resolution).known


@pytest.mark.parametrize(
    ("beta", "te", "sees_nothing"),
    [("4.0.0b36", None, True), ("4.0.0b30", None, True), ("4.0.0b29", None, False), ("4.0.0b11", None, False)],
)
def test_zeros_begin_with_the_release_of_flash_attn_4(beta: str, te: str | None, sees_nothing: bool) -> None:
    machine = with_libraries(H100, {"flash-attn-4": beta})
    call = chosen(resolved(machine, te, LLAMA, NVTE_FUSED_ATTN="0"))
    assert (call.means is None) is sees_nothing
    windowed = chosen(resolved(machine, te, MISTRAL, NVTE_FUSED_ATTN="0", window_size="4095,0"))
    assert windowed.means == Window(4095, 0)


def test_variables_act_from_the_release_on_that_reads_them() -> None:
    old = resolved(H100, "2.17.1", LLAMA, NVTE_FUSED_ATTN="0", NVTE_FLASH_ATTN_V4="0")
    assert chosen(old).kernel == "flash-4"
    assert "not read by 2.17.1 (read from 2.18 on)" in said(old)
    new = resolved(H100, "2.18.0", LLAMA, NVTE_FUSED_ATTN="0", NVTE_FLASH_ATTN_V4="0")
    assert chosen(new).kernel == "unfused"  # 2.18 takes flash-attn up to 2.8.3, and 2.8.3.post2 is later
    newest = resolved(H100, None, LLAMA, NVTE_FUSED_ATTN="0", NVTE_FLASH_ATTN_V4="0")
    assert chosen(newest).kernel == "flash"
    workspace = resolved(H100, "2.16.1", LLAMA, NVTE_FUSED_ATTN_BACKEND="1")
    assert "no longer in 2.16" in said(workspace)


def test_the_variables_of_this_process_count_too() -> None:
    from dataclasses import replace

    machine = replace(H100, variables={"NVTE_FUSED_ATTN": "0", "NVTE_FLASH_ATTN": "0"})
    assert chosen(resolved(machine, window_size="4095,0")).kernel == "unfused"


def test_why_not_the_others_is_said_in_its_own_words() -> None:
    told = said(resolved(H100, window_size="4095,0", softmax_type="learnable"))
    assert (
        "FlashAttention 2 is not used (compute capability 9.0): Disabling FlashAttention 2 for a softmax_type" in told
    )
    assert "FusedAttention is selected" in told
    told = said(resolved(CPU_ONLY, window_size="4095,0"))
    assert "not this machine's" in told


def test_a_backend_that_is_only_preferred_less_gives_way() -> None:
    told = said(resolved(H100, config=LLAMA))
    assert "FlashAttention 4 gives way to FusedAttention (compute capability 9.0): Disabling FlashAttention to" in told
    assert "FusedAttention is selected (compute capability 9.0); FlashAttention 4, Unfused" in told
    assert "FlashAttention 4 is not used" not in told
    off = said(resolved(H100, config=LLAMA, NVTE_FLASH_ATTN_V4="0"))
    assert "FlashAttention 4 is not used (compute capability 9.0): Disabling FlashAttention 4 due to" in off
    assert "FlashAttention 4," not in off


def test_variables_that_are_set_and_read_are_told_apart_from_typed_ones() -> None:
    from dataclasses import replace

    machine = replace(H100, variables={"NVTE_FUSED_ATTN": "0", "NVTE_FLASH_ATTN_V4": "0", "HF_HUB_OFFLINE": "1"})
    assert resolved(machine).variables == {"NVTE_FLASH_ATTN_V4": "0", "NVTE_FUSED_ATTN": "0"}
    assert resolved(machine, NVTE_FUSED_ATTN="1").variables == {"NVTE_FLASH_ATTN_V4": "0"}
    assert resolved(machine, "2.17.1").variables == {"NVTE_FUSED_ATTN": "0"}


def test_a_machine_can_be_named() -> None:
    typed = {"compute_capability": "8.0", "flash-attn": "2.7.4", "cudnn": "9.3"}
    resolution = resolved(CPU_ONLY, window_size="4095,0", **typed)
    assert chosen(resolution).kernel == "flash"
    assert resolution.elsewhere
    assert not resolved(H100, window_size="4095,0").elsewhere


@pytest.mark.parametrize("since", ["1.9.0", "1.12.0", "2.8.0", "2.20.2"])
def test_some_backend_is_selected_or_the_call_raises(since: str) -> None:
    nothing = Params((9, 0), variables={"NVTE_UNFUSED_ATTN": "0", "NVTE_FUSED_ATTN": "0", "NVTE_FLASH_ATTN": "0"})
    assert select(Version(since), nothing).chosen is None
    assert select(Version(since), Params((9, 0))).chosen == FUSED


# What the window means ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "kind", "version", "becomes", "warns"),
    [
        (None, "causal", "2.20.2", (-1, 0), False),
        (None, "causal", "1.9.0", (-1, 0), True),
        ((1024, 0), "causal", "2.20.2", (1024, 0), False),
        ((1024, 1024), "causal", "2.20.2", (1024, 0), True),
        ((-1, -1), "padding_causal", "2.20.2", (-1, 0), True),
        ((-1, 0), "no_mask", "2.20.2", (-1, -1), True),
        ((8, 3), "no_mask", "2.20.2", (8, 3), False),
        ((-1, 5), "causal", "2.20.2", None, False),
        ((-1, 5), "no_mask", "2.20.2", None, False),
    ],
)
def test_check_set_window_size(size: Any, kind: str, version: str, becomes: Any, warns: bool) -> None:
    found = rewritten(Written(size, kind), Version(version))
    assert (found.size, found.warns) == (becomes, warns)
    assert bool(found.error) is (becomes is None)


@pytest.mark.parametrize("window", [CAUSAL, FULL, Window(0, 0), Window(7, 0), Window(7, 3)])
def test_a_window_is_spelled_and_read_back(window: Window) -> None:
    size = sized(window, 4096)
    assert size is not None
    assert documented(size) == window


def test_megatron_and_nemo_users_need_one_less() -> None:
    """The number of the config, handed on as it is, sees one key more."""
    wrong = resolved(H100, window_size="4096,0")
    assert chosen(wrong).means == Window(4096, 0)
    (layers,) = wrong.calls
    assert layers.shape.window == Window(4095, 0)
    assert layers.suggested is not None
    assert layers.suggested.paste == 'window_size=(4095, 0), attn_mask_type="causal"'
    right = resolved(H100, window_size="4095,0")
    assert chosen(right).means == Window(4095, 0)
    assert right.calls[0].suggested is None


@pytest.mark.parametrize(("version", "keys"), [("1.9.0", 4095), ("1.11.0", 4095), ("1.12.0", 4096), ("2.20.2", 4096)])
def test_fused_attention_was_one_key_short(version: str, keys: int) -> None:
    resolution = resolved(CPU_ONLY, version, window_size="4095,0")
    calls = {call.kernel: call for call in resolution.calls[0].calls if call.scenario == PLAIN}
    means = calls["fused"].means
    assert means is not None
    assert means.left == keys - 1
    assert calls["unfused"].means == Window(4095, 0)
    suggested = resolution.calls[0].suggested
    if keys == 4096:
        assert suggested is None
    else:
        assert suggested is not None
        assert suggested.paste.startswith("window_size=(4096, 0)")
        assert suggested.upgrade == "transformer-engine>=1.12"


def test_short_queries_count_from_the_first_key() -> None:
    causal = resolved(H100, window_size="4095,0")
    assert chosen(causal, SHORT_QUERIES).alignment is Alignment.TOP_LEFT
    moved = resolved(H100, window_size="4095,0", attn_mask_type="causal_bottom_right")
    assert chosen(moved, SHORT_QUERIES).alignment is Alignment.BOTTOM_RIGHT
    flash = next(call for call in causal.calls[0].calls if (call.kernel, call.scenario) == ("flash", SHORT_QUERIES))
    assert flash.refused


def test_layers_with_different_declarations_get_their_own_words() -> None:
    resolution = resolved(H100, config=GEMMA2, window_size="4095,0")
    assert [entry.layers for entry in resolution.calls] == [(0,), (1,)]
    windowed, full = resolution.calls
    assert windowed.suggested is not None
    assert full.suggested is not None
    assert windowed.suggested.paste.startswith('window_size=(4095, 0), attn_mask_type="causal"')
    assert full.suggested.paste.startswith('window_size=(-1, 0), attn_mask_type="causal"')
    assert all("softcap=50.0" in entry.suggested.paste for entry in resolution.calls if entry.suggested)
    assert f"softmax_scale={1 / 12}" in windowed.suggested.paste
    assert chosen(resolution).terms == ("softcap-dropped", "scale-wrong")
    assert len(resolution.recommend("transformer-engine").settings) == 2


def test_a_release_without_the_argument_has_no_words_for_it() -> None:
    assert resolved(H100, "2.19.0", GEMMA2, window_size="4095,0").calls[0].suggested is None


# What fails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "assigned", "error", "setting"),
    [
        ("2.19.0", {"softcap": "50"}, "TypeError", "softcap"),
        ("2.5.0", {"softmax_type": "learnable"}, "TypeError", "softmax_type"),
        (None, {"window_size": "-1,5"}, "AssertionError", "window_size"),
        (None, {"attn_mask_type": "arbitrary", "NVTE_UNFUSED_ATTN": "0"}, "ValueError", "NVTE_UNFUSED_ATTN"),
    ],
)
def test_runs_that_end_with_an_error(version: str | None, assigned: dict[str, str], error: str, setting: str) -> None:
    resolution = resolved(H100, version, **assigned)
    assert isinstance(resolution.outcome, Fails)
    assert (resolution.outcome.error, resolution.outcome.setting) == (error, setting)
    assert resolution.calls == ()
    assert resolution.fixes


def test_an_old_release_cannot_be_imported_without_flash_attn() -> None:
    machine = with_libraries(H100, {"flash-attn": None, "transformer-engine": "1.11.0"})
    outcome = resolved(machine, window_size="4095,0").outcome
    assert isinstance(outcome, Fails)
    assert outcome.error == "PackageNotFoundError"


def test_a_release_that_nobody_read_is_not_guessed() -> None:
    assert isinstance(resolved(H100, "1.8.0", window_size="4095,0").outcome, Unresolved)
    newer = resolved(H100, "2.30.0", window_size="4095,0")
    assert isinstance(newer.outcome, RunsOwn)
    assert "newer than 2.20.2" in said(newer)


def test_a_mask_of_the_callers_own_has_no_window_to_judge() -> None:
    resolution = resolved(H100, attn_mask_type="arbitrary")
    assert resolution.outcome == RunsOwn(f"TransformerEngine {UNFUSED}", (UNFUSED,))
    assert resolution.calls == ()


def test_a_backend_that_was_asked_for_and_does_not_run_is_told() -> None:
    (remark,) = resolved(H100, window_size="4095,0", NVTE_FUSED_ATTN="0", softmax_type="learnable").remarks
    assert (remark.slug, remark.severity) == ("silent-fallback", Severity.WARNING)
    assert "UnfusedDotProductAttention" in remark.message
    assert "softmax_type" in remark.message
    (asked,) = resolved(A100, window_size="4095,0", NVTE_FUSED_ATTN="1").remarks
    assert "FlashAttention 2 although NVTE_FUSED_ATTN=1" in asked.message
    assert resolved(A100, window_size="4095,0", NVTE_FUSED_ATTN="0").remarks == ()
    assert resolved(H100, window_size="4095,0").remarks == ()


# What is typed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1024,0", "(1024, 0)", "[1024,0]", "1024 0"])
def test_ways_to_type_a_window(text: str) -> None:
    assert settings(Asked(assigned={"window_size": text})).written.window_size == (1024, 0)


@pytest.mark.parametrize("value", [[1024, 0], (1024, 0)])
def test_a_window_from_a_file(value: object) -> None:
    assert settings(Asked(settings={"window_size": value})).written.window_size == (1024, 0)


def test_none_is_no_window() -> None:
    assert settings(Asked(assigned={"window_size": "none"})).written.window_size is None


def test_a_comma_in_the_mask_type() -> None:
    assert settings(Asked(assigned={"attn_mask_type": "padding,causal"})).written.attn_mask_type == "padding_causal"


@pytest.mark.parametrize(
    ("key", "value", "found", "hint"),
    [
        ("window_siz", "1,0", "no such setting", "window_size"),
        ("window_size", "1024", "two whole numbers", "1024,0"),
        ("window_size", "1024,zero", "two whole numbers", "1024,0"),
        ("window_size", "-2,0", "two whole numbers", "1024,0"),
        ("attn_mask_type", "casual", "one of no_mask", "no_mask"),
        ("softmax_type", "sink", "one of vanilla", "vanilla"),
        ("softcap", "much", "a number", "0.0"),
        ("num_attention_heads", "0", "a whole number", "16"),
        ("bottom_right_diagonal", "perhaps", "true or false", "true"),
        ("compute_capability", "hopper", "a compute capability", "9.0"),
        ("flash-attn", "new", "a version", "2.8.3"),
        ("NVTE_FUSED", "0", "no such environment variable", "NVTE_FUSED_ATTN"),
        ("NVTE_FUSED_ATTN", "off", "a number", "0"),
    ],
)
def test_bad_input_is_one_clear_line(key: str, value: str, found: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        settings(Asked(assigned={key: value}))
    assert found in str(raised.value)
    assert hint in raised.value.hint
    assert "\n" not in str(raised.value)
