"""Lines of keys in a config.json: nested, repeated, in strings; paths as annotations want them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attncheck.declared import lines

TEXT = """{
  "model_type": "x",

  "text_config": {"sliding_window": 4, "rope": {
      "theta": 1}},
  "note": "no \\"sliding_window\\": here, { or [",
  "layer_types": ["a", {"sliding_window": 1},
    "b"],
  "sliding_window"
    : null, "last": 1
}"""


def test_every_key_has_its_line() -> None:
    json.loads(TEXT)
    assert lines.of_text(TEXT) == {
        "model_type": 2,
        "text_config": 4,
        "text_config.sliding_window": 4,
        "text_config.rope": 4,
        "text_config.rope.theta": 5,
        "note": 6,
        "layer_types": 7,
        "sliding_window": 9,
        "last": 10,
    }


def test_of_a_repeated_key_the_last_counts() -> None:
    assert lines.of_text('{"a": 1,\n"a": 2}') == {"a": 2}


@pytest.mark.parametrize("text", ["", "[]", "}", "[[", '{"a', '{"a"'])
def test_what_is_no_object_has_no_keys(text: str) -> None:
    assert lines.of_text(text) == {}


def test_a_file_that_is_gone_has_no_lines(tmp_path: Path) -> None:
    assert lines.of_file(str(tmp_path / "config.json")) == {}


def test_paths_start_at_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "models")
    file = str(tmp_path / "models" / "config.json")
    assert lines.shown("config.json") == "config.json"
    assert lines.shown(file) == "config.json"
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert lines.shown("config.json") == "models/config.json"
    assert lines.shown("/somewhere/else.json") == "/somewhere/else.json"
