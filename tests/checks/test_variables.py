"""Environment variables: what the known ones do by value, which act on nothing, and that both lists are one."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from attncheck.checks.machine import Machine
from attncheck.checks.variables import ACTS, FLEX_SWITCHES, IDLE, UNREAD, acting, effect_word, effects, in_vain, inert
from attncheck.environment import ACTING_VARIABLES, INERT_VARIABLES, LIBRARIES, Environment, Library, read_environment
from attncheck.findings import Severity
from tests.backends.environments import CPU_ONLY, H100, with_libraries

#: Acting variables that do not change attention itself: which devices and which files there are.
ELSEWHERE = {"CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}
WITH_ALL = with_libraries(H100, dict.fromkeys(LIBRARIES, "1.0"))


def machine(**variables: str) -> Machine:
    return Machine(replace(WITH_ALL, variables=variables))


def test_the_texts_and_the_names_that_are_read_agree() -> None:
    assert {entry.name for entry in acting()} | ELSEWHERE == set(ACTING_VARIABLES)
    assert sorted(name for group in inert() for name in group.names) == sorted(INERT_VARIABLES)
    assert not set(ACTING_VARIABLES) & set(INERT_VARIABLES)


@pytest.mark.parametrize("entry", acting(), ids=lambda entry: entry.name)
def test_an_acting_variable_says_what_it_does(entry) -> None:
    assert entry.read_by in LIBRARIES
    assert entry.source
    assert entry.values or entry.other
    assert not (entry.only and entry.other)
    assert not set(entry.values) & set(entry.idle)
    value = next(iter(entry.values), "something")
    found = list(effects(machine(**{entry.name: value})))
    if entry.name in FLEX_SWITCHES:
        assert found == []
        return
    (finding,) = found
    assert finding.severity is Severity.NOTE
    assert entry.effect(value) in finding.message
    assert list(effects(machine(**dict.fromkeys([entry.name], entry.idle[0])))) == [] if entry.idle else True
    without = with_libraries(WITH_ALL, {entry.read_by: None})
    assert list(effects(Machine(replace(without, variables={entry.name: value})))) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("NVTE_FLASH_ATTN", "0", "TransformerEngine does not use FlashAttention"),
        ("NVTE_FLASH_ATTN", "1", ""),
        ("USE_HUB_KERNELS", "NO", "no kernel is taken from the Hugging Face hub"),
        ("USE_HUB_KERNELS", "YES", ""),
        ("TRANSFORMERS_SDPA_FORCE_GQA", "1", "enable_gqa"),
        ("UNSLOTH_FLASH_ATTENTION_IMPL", "flash_attention_3", "takes this flash implementation"),
        ("CUDA_VISIBLE_DEVICES", "0", ""),
    ],
)
def test_the_value_decides(name: str, value: str, words: str) -> None:
    found = list(effects(machine(**{name: value})))
    assert len(found) == bool(words)
    assert all(words in finding.message for finding in found)


@pytest.mark.parametrize("name", INERT_VARIABLES)
def test_an_inert_variable_that_is_set_is_a_note_with_what_acts(name: str) -> None:
    (finding,) = in_vain(Machine(replace(CPU_ONLY, inert={name: "1"})))
    assert finding.severity is Severity.NOTE
    assert finding.message.startswith(f"{name}='1' is set, but no attention library reads it")
    assert finding.recommendations[0].settings[0].paste
    assert list(in_vain(Machine(CPU_ONLY))) == []


def test_a_value_that_nobody_knows_is_set_in_vain() -> None:
    (finding,) = in_vain(machine(TRANSFORMERS_SDPA_FORCE_GQA="true"))
    assert "only the value 1 acts" in finding.message
    assert list(in_vain(machine(TRANSFORMERS_SDPA_FORCE_GQA="1"))) == []
    assert list(in_vain(machine(TRANSFORMERS_SDPA_FORCE_GQA="0"))) == []
    bare = replace(CPU_ONLY, libraries=(Library("torch", "2.13.0"),))
    assert list(in_vain(Machine(replace(bare, variables={"TRANSFORMERS_SDPA_FORCE_GQA": "true"})))) == []


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("NVTE_FLASH_ATTN", "0", ACTS),
        ("NVTE_FLASH_ATTN", "1", IDLE),
        ("TRANSFORMERS_SDPA_FORCE_GQA", "true", IDLE),
        ("TORCH_COMPILE_DISABLE", "1", ACTS),
        ("CUDA_VISIBLE_DEVICES", "0", ACTS),
        ("HF_HUB_OFFLINE", "yes", ACTS),
        ("HF_HUB_OFFLINE", "0", IDLE),
    ],
)
def test_the_word_beside_a_variable_is_that_of_the_rules(name: str, value: str, word: str) -> None:
    facts = machine(**{name: value})
    assert effect_word(facts.environment, name) == word
    if word == IDLE:
        assert list(effects(facts)) == []
    without = Environment("3.12", "Linux", variables={name: value})
    assert effect_word(without, name) == (UNREAD if name in {entry.name for entry in acting()} else word)
    assert effect_word(replace(without, inert={"DISABLE_FLASH_ATTN": "1"}), "DISABLE_FLASH_ATTN") == UNREAD


def test_both_kinds_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISABLE_FLASH_ATTN", "1")
    monkeypatch.setenv("NVTE_FLASH_ATTN", "0")
    environment = read_environment()
    assert environment.inert["DISABLE_FLASH_ATTN"] == "1"
    assert environment.variables["NVTE_FLASH_ATTN"] == "0"
    assert "DISABLE_FLASH_ATTN" not in environment.variables


@pytest.mark.slow
@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_no_inert_name_stands_in_the_installed_libraries(package: str) -> None:
    """The claim of variables.toml, checked on what is installed here: sources and binaries."""
    module = __import__(package)
    folder = Path(module.__file__).parent
    patterns = [argument for name in INERT_VARIABLES for argument in ("-e", name)]
    # -w: USE_FLASH_ATTENTION is part of the names of torch's own classes.
    done = subprocess.run(
        ["grep", "-rlwF", "--include=*.py", "--include=*.so*", *patterns, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
