"""Annotations and the summary of a step: where GitHub runs, escaped as GitHub reads them, never in another's way."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import typer

from attncheck.commands import github, output
from attncheck.findings import Severity
from attncheck.options import FailOn
from attncheck.render import redact
from attncheck.render.redact import Person
from attncheck.report import Report
from tests import sample_reports
from tests.render.test_sarif import of_file, told


@pytest.fixture
def workflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As in a step of a workflow: the file of its summary."""
    summary = tmp_path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    return summary


def finish(report: Report, format_name: str = "terminal", file: str | None = None) -> None:
    with pytest.raises(typer.Exit):
        output.finish(report, format_name, file, FailOn.ERROR)


def commands(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("::")]


def test_errors_and_warnings_are_annotated(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(sample_reports.faulty_report())
    text = capsys.readouterr().out
    assert text.startswith("attncheck compare")
    kinds = [line.split(" ")[0] for line in commands(text)]
    assert kinds == ["::error", "::error"]
    assert "title=window-ignored ATC101::The window of 4096 tokens" in commands(text)[0]
    assert "%0Aflash_attention_2; plain, left-pad" in commands(text)[0]


def test_the_summary_of_the_step_is_appended(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(sample_reports.faulty_report())
    text = workflow.read_text(encoding="utf-8")
    assert text.startswith("before\n## attncheck compare")


def test_json_stays_json(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(sample_reports.faulty_report(), "json")
    assert json.loads(capsys.readouterr().out)["command"] == "compare"
    assert "## attncheck compare" in workflow.read_text(encoding="utf-8")


def test_a_report_in_a_file_leaves_standard_output_for_annotations(
    workflow: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    finish(sample_reports.faulty_report(), "json", str(tmp_path / "report.json"))
    assert len(commands(capsys.readouterr().out)) == 2
    json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))


def test_elsewhere_nothing_is_added(capsys: pytest.CaptureFixture[str]) -> None:
    finish(sample_reports.faulty_report())
    assert commands(capsys.readouterr().out) == []


def test_the_summary_itself_as_output_is_not_doubled(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(sample_reports.faulty_report(), "markdown", str(workflow))
    assert workflow.read_text(encoding="utf-8").count("## attncheck compare") == 1


def test_a_summary_that_cannot_be_written_is_a_line_and_no_failure(
    workflow: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    with pytest.raises(typer.Exit) as ended:
        output.finish(sample_reports.healthy_report(), "terminal", None, FailOn.ERROR)
    assert ended.value.exit_code == 0
    assert "GITHUB_STEP_SUMMARY cannot be written" in capsys.readouterr().err


def test_a_full_summary_gets_nothing_more(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workflow.write_bytes(b"x" * (github.LARGEST_SUMMARY - 10))
    finish(sample_reports.faulty_report())
    assert workflow.stat().st_size == github.LARGEST_SUMMARY - 10


def test_file_and_line_are_those_of_the_key() -> None:
    report = dataclasses.replace(of_file({"sliding_window": 7}), findings=(told("window-ignored"),))
    (line,) = github.annotated(report)
    assert line.startswith("::error file=models/config.json,line=7,title=window-ignored ATC101::")


@pytest.mark.parametrize("file", ["/data/config.json", "~/config.json", "../config.json", "C:\\config.json"])
def test_a_file_outside_of_the_checkout_is_not_named(file: str) -> None:
    report = dataclasses.replace(of_file({"sliding_window": 7}, file), findings=(told("window-ignored"),))
    (line,) = github.annotated(report)
    assert line.startswith("::error title=")


def test_texts_are_escaped() -> None:
    line = github.command("error", "100 %\r\n::error::x", {"file": "a:b,c%\n", "line": 3, "title": "", "col": None})
    assert line == "::error file=a%3Ab%2Cc%25%0A,line=3::100 %25%0D%0A::error::x"


def test_no_text_of_a_report_starts_a_command() -> None:
    finding = told("window-ignored", "bad\n::add-mask::x", implementation="sd\npa", scenario="a,b:c")
    report = dataclasses.replace(sample_reports.faulty_report(), findings=(finding,))
    (line,) = github.annotated(report)
    assert "\n" not in line
    assert line.count("::add-mask") == 1


def test_at_most_ten_of_a_type() -> None:
    slugs = [f"slug-{number}" for number in range(12)]
    findings = tuple(
        dataclasses.replace(told("window-ignored"), slug=slug, severity=severity)
        for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE)
        for slug in slugs
    )
    lines = list(github.annotated(dataclasses.replace(sample_reports.faulty_report(), findings=findings)))
    assert [line.split(" ")[0] for line in lines] == ["::error"] * 10 + ["::warning"] * 10


def test_known_findings_are_not_annotated() -> None:
    from attncheck.baseline import Baseline

    report = sample_reports.faulty_report()
    known = tuple(dataclasses.replace(finding, known=True) for finding in report.findings)
    assert not list(github.annotated(dataclasses.replace(report, findings=known, baseline=Baseline("known.json", 7))))


def test_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "current_person", lambda: Person("/home/jane", "jane", "jane-laptop"))
    finding = told("window-ignored", "in /home/jane/models")
    lines = github.annotated(dataclasses.replace(sample_reports.faulty_report(), findings=(finding,)))
    assert "jane" not in "".join(lines)
