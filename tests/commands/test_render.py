"""`attncheck render`: stored reports in every format, exit codes as measured, bad files in one line."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from attncheck import cli
from attncheck.render import interface
from attncheck.render.interface import Style
from attncheck.report import Report
from tests import sample_benches, sample_machines, sample_reports

LOADED = (
    "import sys; from attncheck.cli import app\ntry: app(sys.argv[1:])\nexcept SystemExit: pass\nprint(*sys.modules)"
)


def call(*arguments: str, text: bytes | None = None) -> Result:
    return CliRunner().invoke(cli.app, ["render", *arguments], input=text)


@pytest.fixture
def store(tmp_path: Path) -> Callable[[Report], str]:
    def write(report: Report) -> str:
        file = tmp_path / "report.json"
        file.write_text(interface.render(report, "json"), encoding="utf-8")
        return str(file)

    return write


@pytest.mark.parametrize("format_name", ["terminal", "markdown", "json"])
@pytest.mark.parametrize(
    "build", [sample_reports.faulty_report, sample_machines.h100_report, sample_benches.standard_report]
)
def test_the_page_is_that_of_the_measurement(
    store: Callable[[Report], str], tmp_path: Path, build: Callable[[], Report], format_name: str
) -> None:
    report, page = build(), tmp_path / "page"
    result = call(store(report), "--format", format_name, "-o", str(page))
    assert (result.exit_code, result.stdout, result.stderr) == (report.exit_code, "", "")
    assert page.read_text(encoding="utf-8") == interface.render(report, format_name, Style(width=100))


def test_without_options_the_page_goes_to_standard_output(store: Callable[[Report], str]) -> None:
    result = call(store(sample_machines.h100_report()))
    assert result.stdout.startswith("attncheck doctor 0.2.0\n")
    assert result.exit_code == 1


@pytest.mark.parametrize("measured", ["error", "warning", "never"])
def test_exit_code_as_measured_or_as_asked(store: Callable[[Report], str], measured: str) -> None:
    report = dataclasses.replace(sample_reports.healthy_report(), fail_on=measured)  # warnings, no error
    file = store(report)
    assert call(file).exit_code == report.exit_code == (measured == "warning")
    assert call(file, "--fail-on", "warning").exit_code == 1
    assert call(file, "--fail-on", "error").exit_code == 0
    assert call(file, "--fail-on", "never").exit_code == 0
    assert json.loads(call(file, "--fail-on", "warning", "--format", "json").stdout)["summary"]["exit_code"] == 1


def test_a_report_without_any_verdict_exits_with_3(store: Callable[[Report], str]) -> None:
    assert call(store(sample_reports.silent_report())).exit_code == 3


def test_a_pipe(store: Callable[[Report], str]) -> None:
    file = store(sample_reports.faulty_report())
    piped = call("-", text=Path(file).read_bytes())
    assert (piped.exit_code, piped.stdout) == (1, call(file).stdout)


def test_formats_are_those_of_the_stored_command(store: Callable[[Report], str]) -> None:
    assert call(store(sample_benches.standard_report()), "--format", "csv").stdout.startswith("level,")
    refused = call(store(sample_reports.faulty_report()), "--format", "csv")
    assert refused.exit_code == 2
    assert "is not a format of compare; there are html, json, junit, markdown, sarif, terminal" in refused.stderr


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "No such file"),
        (b"", "not JSON"),
        (b"\x00\x1b[2J", "no text"),
        (b'{"schema": 1, "tool": {"version": "1"}}', "report.command is missing"),
        (b'{"schema": 99}', "schema is 99"),
        (b'{"schema": "' + b"\x41" * 5000 + b'"}', "..."),
        (b'{"model_type": "mistral"}', "schema is null"),
    ],
)
def test_what_is_no_report_is_one_line(tmp_path: Path, content: bytes | None, word: str) -> None:
    file = tmp_path / "odd\nname.json"
    if content is not None:
        file.write_bytes(content)
    result = call(str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("attncheck: error: ")
    assert word in lines[0]
    assert lines[1].startswith("  hint: attncheck doctor --format json -o report.json")


def test_a_folder_is_no_report(tmp_path: Path) -> None:
    result = call(str(tmp_path))
    assert result.exit_code == 2
    assert "Is a directory" in result.stderr


def test_output_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    result = call(str(tmp_path / "gone.json"), "-o", str(tmp_path / "no" / "page"))
    assert result.exit_code == 2
    assert "there is no folder" in result.stderr


def test_rendering_loads_nothing_that_measures(store: Callable[[Report], str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "render", store(sample_machines.h100_report()), "-o", os.devnull],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    assert not {"torch", "transformers", "numpy", "huggingface_hub", "attncheck.pipeline", "attncheck.doctor"} & set(
        loaded
    )
    assert "attncheck.stored.report" in loaded
