"""`attncheck.text` and `attncheck.save`: what Python measured is shown and written as the command line does it."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import attncheck
from attncheck import cli
from attncheck.live.showing import FORMATS
from attncheck.render import interface
from attncheck.report import Report
from tests.live.live_models import model


@pytest.fixture(scope="module")
def report() -> Report:
    return attncheck.verify(model("llama"), fit=False)


@pytest.mark.parametrize("name", sorted(FORMATS.values()))
def test_each_format_is_what_the_command_line_writes(report: Report, name: str) -> None:
    assert attncheck.text(report, name) == interface.render(report, name, interface.Style(width=100))


def test_the_width_is_the_callers(report: Report) -> None:
    wide, narrow = (attncheck.text(report, width=columns) for columns in (140, 60))
    assert len(narrow.splitlines()) > len(wide.splitlines())
    assert "\x1b" not in wide


@pytest.mark.parametrize("suffix", [*sorted(FORMATS), ".HTML"])
def test_the_suffix_says_the_format(report: Report, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"found{suffix}"
    file.write_text("an earlier one")
    attncheck.save(report, file)
    assert file.read_text(encoding="utf-8") == attncheck.text(report, FORMATS[suffix.lower()])
    assert os.listdir(tmp_path) == [file.name]
    if suffix in (".json", ".sarif"):
        json.loads(file.read_text())
    elif suffix == ".xml":
        ElementTree.parse(file)


def test_what_is_saved_is_what_render_shows(report: Report, tmp_path: Path) -> None:
    attncheck.save(report, str(tmp_path / "found.json"))
    shown = CliRunner().invoke(cli.app, ["render", str(tmp_path / "found.json"), "--format", "markdown"])
    assert (shown.exit_code, shown.stderr) == (report.exit_code, "")
    assert shown.stdout == attncheck.text(report, "markdown")


def test_what_is_personal_is_taken_out(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    told = dataclasses.replace(
        report, arguments={**report.arguments, "batch": f"{os.path.expanduser('~')}/x hf_abcdefghijklmnop"}
    )
    for suffix in FORMATS:
        attncheck.save(told, tmp_path / f"found{suffix}")
        assert "hf_abcdef" not in (tmp_path / f"found{suffix}").read_text(encoding="utf-8")
    assert f"{os.path.expanduser('~')}/x" not in attncheck.text(told, "terminal")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda report, folder: attncheck.save(report, folder / "x.pdf"), r"\.pdf.*\.html \(html\).*\.xml \(junit\)"),
        (lambda report, folder: attncheck.save(report, folder / "x"), "has no suffix"),
        (lambda report, folder: attncheck.save(report, folder / "no" / "x.md"), "cannot be written"),
        (lambda report, folder: attncheck.save(report, "a\0.md"), "cannot be written"),
        (lambda report, folder: attncheck.save(report, 5), "no path"),
        (lambda report, folder: attncheck.save({"a": 1}, folder / "x.md"), "a dict is no report"),
        (lambda report, folder: attncheck.text(report, "pdf"), "expected one of html, json"),
        (lambda report, folder: attncheck.text(report, width=5), "at least 40"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(report: Report, tmp_path: Path, call: Any, says: str) -> None:
    with pytest.raises(attncheck.AttnCheckError, match=says) as raised:
        call(report, tmp_path)
    assert raised.value.exit_code == 2
    assert os.listdir(tmp_path) == []


def test_a_report_prints_as_one_line_that_says_how_to_see_it(report: Report) -> None:
    assert str(report) == (
        "verify llama: no findings; attncheck.text(report) shows the report, "
        "attncheck.save(report, 'report.html') writes it"
    )
    assert repr(report) == "<attncheck.Report verify llama: no findings>"
    silent = dataclasses.replace(report, matrix=())
    assert str(silent).startswith("verify llama: no verdict was reached; ")
    with pytest.raises(attncheck.AttnCheckError) as raised:
        silent.raise_for_findings()
    assert "attncheck.text(report)" in raised.value.hint
