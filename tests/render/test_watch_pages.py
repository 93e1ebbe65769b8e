"""Reports of watched scripts: every format shows them, JSON keeps to its schema, stored ones are read back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest

from attncheck.render import interface
from attncheck.render.interface import Style
from attncheck.render.json import schema
from attncheck.report import Report
from attncheck.semantics.watched import Watch
from attncheck.stored import report as stored
from tests.sample_watches import watch_report

FORMATS = [name for name, renderer in interface.renderers().items() if not renderer.commands]


def empty_report() -> Report:
    """A script in which nothing was seen."""
    return dataclasses.replace(
        watch_report(), findings=(), watch=Watch(script="true", status=0, failures=("torch could not be imported",))
    )


REPORTS = [watch_report(), watch_report(None), empty_report(), dataclasses.replace(empty_report(), watch=Watch())]


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("unicode", [True, False])
def test_every_format_copes(report: Report, format_name: str, unicode: bool) -> None:
    text = interface.render(report, format_name, Style(80, None, unicode))
    assert text.strip()
    assert unicode or text.isascii()


@pytest.mark.parametrize("report", REPORTS)
def test_json_keeps_to_its_schema_and_is_read_back(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(interface.render(report, "json"))
    jsonschema.Draft202012Validator(schema()).validate(json.loads(path.read_text()))
    again = stored.read(str(path))
    assert again.watch == report.watch
    assert interface.render(again, "terminal") == interface.render(report, "terminal")


def test_the_schema_documents_every_key() -> None:
    entry = json.loads(interface.render(watch_report(), "json"))["watch"]
    definitions = schema()["$defs"]
    assert set(entry) == set(definitions["watch"]["properties"])
    assert set(entry["sites"][0]) == set(definitions["watched_site"]["properties"])


def test_the_page_says_what_happened() -> None:
    text = interface.render(watch_report(), "terminal", Style(100))
    for part in (
        "python train.py",
        "with exit code 3",
        "2 processes, ranks 0, 1",
        "inside 2 graphs of torch.compile",
        "one failure",
        "✓ ok  sdpa [efficient]  decoder 0",
        "sees 5 keys: 4 back, 0 ahead, no padding",
        "✗ window-ignored  sdpa [efficient] fmha_cutlassF_bf16_aligned  decoder 1",
        "(declared 5 keys: 4 back, 0 ahead)",
        "train.py:8 in forward",
        "NOT READ",
        "the script's exit code 3",
    ):
        assert part in text, part


def test_nothing_seen_is_not_called_right() -> None:
    text = interface.render(empty_report(), "terminal", Style(100))
    assert "no attention call was seen: torch could not be imported" in text
    assert "✓" not in text


def test_a_command_line_is_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "s3cret-s3cret-s3cret")
    watch = Watch(script="python train.py --key s3cret-s3cret-s3cret --data /home/somebody/data", status=0)
    text = interface.render(dataclasses.replace(watch_report(), watch=watch), "json")
    assert "s3cret" not in text
    assert "somebody" not in text
