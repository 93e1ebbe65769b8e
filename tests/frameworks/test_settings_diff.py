"""Diffs that are printed can be applied as they are, indented as reports print them too."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
import yaml

from attncheck.frameworks import settings_file
from attncheck.frameworks.plugin import Asked
from attncheck.frameworks.settings_diff import Form, change

YAML = "# model\nmodel_name_or_path: x/y\nflash_attn: fa2  # why not\n'packing': true\nneat_packing: true\n"


def asked(folder: Path, text: str, name: str) -> Asked:
    (folder / name).write_text(text)
    found = settings_file.read(str(folder / name))
    return Asked(found.values, file=name, lines=found.lines, text=found.text, ended=found.ended)


def applied(folder: Path, diff: str, name: str) -> str:
    if shutil.which("patch") is None:
        pytest.skip("needs the program `patch`")
    done = subprocess.run(["patch", "-p0"], input=diff + "\n", text=True, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / name).read_text()


@pytest.mark.parametrize("indent", ["", "         "])
def test_values_change_in_their_lines_and_new_keys_come_last(indent: str, tmp_path: Path) -> None:
    values = {"flash_attn": "sdpa", "packing": False, "per_device_train_batch_size": 1}
    diff = change(asked(tmp_path, YAML, "train.yaml"), values)
    text = applied(tmp_path, "# first: pip install something\n" + textwrap.indent(diff, indent), "train.yaml")
    assert yaml.safe_load(text) == {"model_name_or_path": "x/y", "neat_packing": True, **values}
    assert "flash_attn: sdpa  # why not\n" in text
    assert text.startswith("# model\n")


def test_json_stays_json(tmp_path: Path) -> None:
    source = '{\n  "flash_attn": "fa2",\n  "packing": true\n}\n'
    diff = change(asked(tmp_path, source, "train.json"), {"packing": False, "neat_packing": False})
    text = applied(tmp_path, diff, "train.json")
    assert json.loads(text) == {"flash_attn": "fa2", "packing": False, "neat_packing": False}


def test_what_the_file_says_already_is_left_out(tmp_path: Path) -> None:
    found = asked(tmp_path, YAML, "train.yaml")
    assert change(found, {"flash_attn": "fa2"}) == ""
    assert "flash_attn" not in change(found, {"flash_attn": "fa2", "packing": False})


def test_what_the_command_line_says_is_changed_there(tmp_path: Path) -> None:
    """A changed line of the file would do nothing: `attncheck compare train.yaml flash_attn=fa3` still says fa3."""
    said = dataclasses.replace(asked(tmp_path, YAML, "train.yaml"), assigned={"flash_attn": "fa3"})
    assert change(said, {"flash_attn": "sdpa", "packing": False}) == "flash_attn=sdpa packing=false"
    assert change(said, {"flash_attn": "sdpa"}, Form.LINES) == "flash_attn=sdpa"
    assert change(said, {"packing": False}).startswith("--- train.yaml")


def test_without_a_file_arguments_are_named() -> None:
    assert change(Asked(), {"flash_attn": "sdpa", "packing": False}) == "flash_attn=sdpa packing=false"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"a": 1, "packing": true}\n', "train.json"),
        ('{"a": 1}\n', "train.json"),
        ("{a: 1, packing: true}\n", "train.yaml"),
        ("{a: 1}\n", "train.yaml"),
        ("packing:\n  true\n", "train.yaml"),
        ("packing: >\n  true\n", "train.yaml"),
    ],
)
def test_a_file_without_a_line_to_change_gets_arguments(text: str, name: str, tmp_path: Path) -> None:
    assert change(asked(tmp_path, text, name), {"packing": False}) == "packing=false"


@pytest.mark.parametrize(("text", "name"), [(YAML, "train.yaml"), ('{\n  "packing": true\n}\n', "train.json")])
def test_a_file_of_windows_gets_no_diff(text: str, name: str, tmp_path: Path) -> None:
    """A carriage return is lost on the way from a report to `patch`, which then finds no such line."""
    (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode())
    found = settings_file.read(str(tmp_path / name))
    windows = Asked(found.values, file=name, lines=found.lines, text=found.text)
    assert change(windows, {"packing": False, "a": "b c"}) == "packing=false 'a=b c'"
    quote = '"' if name.endswith("json") else ""
    assert change(windows, {"packing": False}, Form.LINES) == f"# in {name}:\n{quote}packing{quote}: false"
    assert windows.written("packing") == "true"


def test_a_last_line_without_an_end_is_not_changed_by_a_diff(tmp_path: Path) -> None:
    found = asked(tmp_path, "packing: true\nb: 1", "train.yaml")
    assert change(found, {"b": 2}) == "b=2"
    diff = change(found, {"packing": False, "c": 3})
    assert yaml.safe_load(applied(tmp_path, diff, "train.yaml")) == {"packing": False, "b": 1, "c": 3}


def test_flags_are_words_for_a_shell() -> None:
    assert change(Asked(), {"flash_attn": "off", "packing": False, "a": "b c"}, Form.FLAGS) == (
        "--flash_attn off --packing false --a 'b c'"
    )


def test_the_outermost_key_changes_and_not_one_of_its_name_inside(tmp_path: Path) -> None:
    source = '{\n  "inner": {\n    "bf16": "auto"\n  },\n  "bf16": true\n}\n'
    diff = change(asked(tmp_path, source, "train.json"), {"bf16": False})
    assert json.loads(applied(tmp_path, diff, "train.json")) == {"inner": {"bf16": "auto"}, "bf16": False}


def test_indented_keys_keep_their_indentation(tmp_path: Path) -> None:
    diff = change(asked(tmp_path, "  a: 1\n  packing: true\n", "train.yaml"), {"packing": False, "b": 2})
    assert yaml.safe_load(applied(tmp_path, diff, "train.yaml")) == {"a": 1, "packing": False, "b": 2}


def test_a_word_that_yaml_makes_false_is_quoted(tmp_path: Path) -> None:
    """`disabled` was called `off` up to LLaMA-Factory 0.8.2."""
    diff = change(asked(tmp_path, "flash_attn: fa2\n", "train.yaml"), {"flash_attn": "off"})
    assert yaml.safe_load(applied(tmp_path, diff, "train.yaml")) == {"flash_attn": "off"}
    (argument,) = shlex.split(change(Asked(), {"flash_attn": "off"}))
    assert settings_file.typed(argument.partition("=")[2], "x") == "off"
