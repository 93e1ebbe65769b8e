"""`--baseline` on the command line: read before the work, exit codes, one line for what is none."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from attncheck import cli, pipeline
from attncheck.render import interface
from tests import sample_machines, sample_reports


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every compare finds what the sample report holds."""
    calls: list[Any] = []

    def compare(options: Any, _: Any) -> Any:
        calls.append(options)
        return sample_reports.faulty_report()

    monkeypatch.setattr(pipeline, "compare", compare)
    return calls


def stored(report: Any, folder: Path) -> str:
    file = folder / "known.json"
    file.write_text(interface.render(report, "json"), encoding="utf-8")
    return str(file)


def test_known_findings_end_well_and_new_ones_do_not(asked: list[Any], tmp_path: Path) -> None:
    report = sample_reports.faulty_report()
    assert call("compare", "m").exit_code == 1
    known = call("compare", "m", "--baseline", stored(report, tmp_path))
    assert known.exit_code == 0
    assert "known: 7 findings of " in " ".join(known.stdout.split())
    fewer = stored(dataclasses.replace(report, findings=report.findings[1:]), tmp_path)
    assert call("compare", "m", "--baseline", fewer).exit_code == 1


def test_a_baseline_of_another_command_fails_before_the_work(asked: list[Any], tmp_path: Path) -> None:
    file = stored(sample_machines.h100_report(), tmp_path)
    result = call("compare", "m", "--baseline", file)
    assert (result.exit_code, asked) == (2, [])
    assert "is a report of attncheck doctor, expected one of compare" in result.stderr
    assert "-o FILE writes one" in result.stderr, "the file that lies there is the user's"
    absent = call("compare", "m", "--baseline", str(tmp_path / "absent.json"))
    assert f"-o {tmp_path / 'absent.json'} writes one" in absent.stderr.replace("\n", " ")


def test_a_baseline_of_another_target_is_2(asked: list[Any], tmp_path: Path) -> None:
    result = call("compare", "m", "--baseline", stored(sample_reports.healthy_report(), tmp_path))
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert "is about mistralai/Mistral-7B-v0.1, expected one about ~/models/odd" in result.stderr


def test_what_is_no_report_is_2(asked: list[Any], tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text("[]", encoding="utf-8")
    for file in (tmp_path / "odd.json", tmp_path / "none.json"):
        result = call("doctor", "--static", "--baseline", str(file))
        assert result.exit_code == 2
        assert "--baseline" in result.stderr
    assert asked == []


def test_doctor_knows_its_own_findings(tmp_path: Path) -> None:
    file = str(tmp_path / "doctor.json")
    call("doctor", "--static", "--format", "json", "-o", file)
    again = call("doctor", "--static", "--baseline", file, "--fail-on", "warning")
    assert again.exit_code == 0
    assert "; new: none" in " ".join(again.stdout.split())
