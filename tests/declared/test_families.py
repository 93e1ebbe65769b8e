"""families.toml: every entry is used, every name in it means something."""

from __future__ import annotations

import sys
from dataclasses import fields
from importlib.resources import files
from typing import Any

import pytest

from attncheck.declared import families, layers
from attncheck.declared.families import Family, family, outside_keys
from attncheck.semantics.spec import UNKNOWABLE, Bias

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA: dict[str, Any] = tomllib.loads(files("attncheck.declared").joinpath("families.toml").read_text(encoding="utf-8"))
SEES = {"full", "window", "chunk", "none", "sparse", "set", "foreign"}


def test_a_type_is_in_one_list_of_directions_only() -> None:
    listed = [name for types in DATA["directions"].values() for name in types]
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("model_type", DATA["types"])
def test_every_entry_loads_and_uses_known_words(model_type: str) -> None:
    known = family(model_type)
    if known.pattern:
        assert known.pattern["rule"] in layers._RULES
    assert set(known.kinds.values()) <= SEES
    assert known.bias in ("", *Bias._value2member_map_)
    assert known.sinks in ("", "all", "window")
    assert known.window.get("bidirectional", "inclusive") in ("inclusive", "exclusive", "total", "half")
    for name in known.unknown:
        assert name in UNKNOWABLE or name.partition("_")[2] in UNKNOWABLE
    for entry in known.per_kind.values():
        assert set(entry) <= {"head_dim", "num_key_value_heads", "num_attention_heads"}


def test_kinds_mean_something_and_legacy_words_lead_to_kinds() -> None:
    assert set(DATA["kinds"].values()) <= SEES
    assert set(DATA["legacy"].values()) <= set(DATA["kinds"])


def test_the_file_names_no_field_that_nothing_reads() -> None:
    read = {field.name for field in fields(Family)} | {"like"}
    assert {name for entry in DATA["types"].values() for name in entry} <= read


def test_likeness_takes_over_and_own_entries_win() -> None:
    assert family("qwen3").pattern == family("qwen2").pattern
    assert family("t5_gemma_module").scale == family("gemma2").scale
    assert family("t5_gemma_module").window == {"bidirectional": "inclusive"}


def test_an_unheard_of_type_is_an_empty_family() -> None:
    assert family("nobody") == Family("nobody")
    assert families.text_path("nobody") is None


def test_outside_keys_go_with_the_type() -> None:
    assert "is_causal" in outside_keys()
    assert "sliding_window_pattern" in outside_keys("gemma3_text")
    assert "sliding_window_pattern" not in outside_keys("llama")
    assert "hybrid_override_pattern" in outside_keys("nemotron_h")
