"""--set: JSON or text, dots, known keys only, and the type of what it replaces."""

from __future__ import annotations

import pytest

from attncheck.declared.overrides import apply
from attncheck.errors import UsageError

CONFIG = {
    "model_type": "qwen2",
    "sliding_window": None,
    "use_sliding_window": False,
    "hidden_size": 64,
    "hidden_act": "silu",
}
KEYS = frozenset(
    {"sliding_window", "use_sliding_window", "max_window_layers", "text_config.hidden_size", "layer_types"}
)


def refused(*assignments: str, unchecked: tuple[str, ...] = (), keys: frozenset[str] | None = KEYS) -> UsageError:
    with pytest.raises(UsageError) as caught:
        apply(CONFIG, assignments, keys, unchecked=unchecked)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_values_are_json_else_text() -> None:
    changed = apply(
        CONFIG, ["sliding_window=4096", "use_sliding_window=true", "hidden_act=gelu", 'layer_types=["a"]'], KEYS
    )
    assert (changed["sliding_window"], changed["use_sliding_window"]) == (4096, True)
    assert (changed["hidden_act"], changed["layer_types"]) == ("gelu", ["a"])
    assert CONFIG["use_sliding_window"] is False
    assert apply(changed, ["sliding_window=null"], KEYS)["sliding_window"] is None


def test_dots_reach_sub_configs_without_touching_the_original() -> None:
    config = {"model_type": "llava", "text_config": {"hidden_size": 64}}
    changed = apply(config, ["text_config.hidden_size=128"], KEYS)
    assert changed["text_config"] == {"hidden_size": 128}
    assert config["text_config"] == {"hidden_size": 64}
    assert apply({"model_type": "llava"}, ["text_config.hidden_size=128"], KEYS)["text_config"] == {"hidden_size": 128}


def test_later_assignments_win_and_values_may_hold_equal_signs() -> None:
    changed = apply(CONFIG, ["sliding_window=1", "sliding_window=2", "hidden_act=a=b"], KEYS)
    assert (changed["sliding_window"], changed["hidden_act"]) == (2, "a=b")


def test_an_unknown_key_names_the_nearest() -> None:
    error = refused("sliding_windw=4")
    assert "unknown key of model type qwen2" in error.message
    assert "sliding_window" in error.message
    assert "--set-unknown" in error.hint
    assert "text_config.hidden_size" in refused("text_confg.hidden_size=4").message


def test_a_key_of_another_level_is_unknown() -> None:
    assert "unknown key" in refused("other_config.hidden_size=4").message


def test_keys_that_models_read_outside_their_class_are_known() -> None:
    assert apply(CONFIG, ["is_causal=false"], KEYS)["is_causal"] is False
    gemma = {"model_type": "gemma3_text"}
    assert apply(gemma, ["sliding_window_pattern=3"], KEYS)["sliding_window_pattern"] == 3
    assert "unknown key" in refused("sliding_window_pattern=3").message
    composite = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}
    assert (
        apply(composite, ["text_config.sliding_window_pattern=3"], KEYS)["text_config"]["sliding_window_pattern"] == 3
    )


def test_unchecked_keys_pass_and_without_a_class_all_do() -> None:
    assert apply(CONFIG, [], KEYS, unchecked=["brand_new=1"])["brand_new"] == 1
    assert apply(CONFIG, ["brand_new=1"], None)["brand_new"] == 1


@pytest.mark.parametrize(
    "assignment",
    [
        "use_sliding_window=1",
        "use_sliding_window=maybe",
        "hidden_size=abc",
        "hidden_size=true",
        "hidden_size=[1]",
        "hidden_act=3",
    ],
)
def test_a_value_of_another_type_is_refused(assignment: str) -> None:
    assert "expected" in refused(assignment).message


def test_types_come_from_the_class_when_the_file_has_no_value() -> None:
    with pytest.raises(UsageError, match="expected true or false"):
        apply({"model_type": "qwen2"}, ["use_sliding_window=3"], KEYS, defaults={"use_sliding_window": False})
    assert apply({"model_type": "qwen2"}, ["sliding_window=3"], KEYS, defaults={"sliding_window": None})


@pytest.mark.parametrize("assignment", ["sliding_window", "=4", "", ".a=1", "a..b=1"])
def test_what_is_no_assignment(assignment: str) -> None:
    assert "is not key=value" in refused(assignment).message
    assert "is not key=value" in refused(unchecked=(assignment,)).message


@pytest.mark.parametrize("value", ["NaN", "Infinity", "True", "None"])
def test_words_that_are_almost_json(value: str) -> None:
    refused(f"sliding_window={value}")


def test_a_key_below_a_plain_value_is_refused() -> None:
    assert "not a sub-config" in refused(unchecked=("hidden_size.x=1",)).message
