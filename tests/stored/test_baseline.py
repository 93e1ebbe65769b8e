"""`--baseline`: known findings do not fail, new ones do, gone ones are told, and only what was looked at is gone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from attncheck.errors import FindingsError, UsageError
from attncheck.findings import Severity
from attncheck.render import interface
from attncheck.render.json import schema
from attncheck.report import Report
from attncheck.stored import baseline
from attncheck.stored import report as stored
from attncheck.verdicts import Verdict
from tests import sample_machines, sample_reports, sample_watches


def held(report: Report, before: Report, folder: Path) -> Report:
    """As the command does it: the earlier report through its file."""
    file = folder / "known.json"
    file.write_text(interface.render(before, "json"), encoding="utf-8")
    return baseline.held_against(report, baseline.read(str(file), report.command), "known.json")


@pytest.mark.parametrize(
    "build",
    [
        sample_reports.faulty_report,
        sample_reports.healthy_report,
        sample_machines.h100_report,
        sample_watches.watch_report,
    ],
)
def test_its_own_report_knows_everything(build: Callable[[], Report], tmp_path: Path) -> None:
    report = held(build(), build(), tmp_path)
    assert all(finding.known for finding in report.findings)
    assert report.baseline is not None
    assert (report.baseline.known, report.baseline.new, report.baseline.gone) == (len(report.findings), 0, ())
    assert dataclasses.replace(report, fail_on="warning").exit_code == 0


def test_a_new_finding_fails(tmp_path: Path) -> None:
    now = sample_reports.faulty_report()
    report = held(now, dataclasses.replace(now, findings=now.findings[1:]), tmp_path)
    assert [finding.known for finding in report.findings] == [False, *[True] * (len(now.findings) - 1)]
    assert report.exit_code == 1
    with pytest.raises(FindingsError) as caught:
        report.raise_for_findings()
    assert str(caught.value).count("ATC101") == 1


def test_what_became_worse_is_new(tmp_path: Path) -> None:
    now = sample_reports.faulty_report()
    mild = dataclasses.replace(now.findings[0], severity=Severity.WARNING)
    report = held(now, dataclasses.replace(now, findings=(mild, *now.findings[1:])), tmp_path)
    assert not report.findings[0].known
    assert report.baseline is not None
    assert report.baseline.gone == ()
    milder = held(dataclasses.replace(now, findings=(mild,)), now, tmp_path)
    assert milder.findings[0].known


def test_one_known_finding_stands_for_one(tmp_path: Path) -> None:
    now = sample_reports.faulty_report()
    twice = dataclasses.replace(now, findings=(now.findings[0], now.findings[0]))
    report = held(twice, dataclasses.replace(now, findings=now.findings[:1]), tmp_path)
    assert [finding.known for finding in report.findings] == [True, False]


def test_gone_is_what_was_looked_for_again(tmp_path: Path) -> None:
    before = sample_reports.faulty_report()
    lost = before.findings[0]
    idle = tuple(
        dataclasses.replace(cell, verdict=Verdict.NOT_RUN) if cell.scenario == "decode" else cell
        for cell in before.matrix
    )
    found = held(dataclasses.replace(before, findings=(), matrix=idle), before, tmp_path).baseline
    assert found is not None
    assert (lost.slug, lost.implementation, lost.scenario) in {
        (g.slug, g.implementation, g.scenario) for g in found.gone
    }
    assert "decode" not in {gone.scenario for gone in found.gone}
    assert found.unseen == sum(finding.scenario == "decode" for finding in before.findings) > 0


def test_a_check_of_doctor_that_did_not_run_mends_nothing(tmp_path: Path) -> None:
    before = sample_machines.h100_report()
    checks = tuple(dataclasses.replace(check, status="not_run") for check in before.checks)
    found = held(dataclasses.replace(before, findings=(), checks=checks), before, tmp_path).baseline
    assert found is not None
    assert (found.gone, found.unseen) == ((), len(before.findings))


def test_another_command_or_target_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "doctor.json"
    file.write_text(interface.render(sample_machines.h100_report(), "json"), encoding="utf-8")
    with pytest.raises(UsageError, match="is a report of attncheck doctor, expected one of compare"):
        baseline.read(str(file), "compare")
    with pytest.raises(UsageError, match=r"known.json is about ~/models/odd, expected one about mistralai/"):
        held(sample_reports.healthy_report(), sample_reports.faulty_report(), tmp_path)
    with pytest.raises(UsageError, match="--baseline"):
        baseline.read(str(tmp_path / "nothing.json"), "compare")


def test_the_json_report_says_which_are_known_and_is_read_back(tmp_path: Path) -> None:
    now = sample_reports.faulty_report()
    report = held(
        dataclasses.replace(now, findings=now.findings[1:]),
        dataclasses.replace(now, findings=now.findings[:3]),
        tmp_path,
    )
    file = tmp_path / "new.json"
    file.write_text(interface.render(report, "json"), encoding="utf-8")
    written = json.loads(file.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema()).validate(written)
    assert [finding["known"] for finding in written["findings"]][:3] == [True, True, False]
    assert written["baseline"]["known"] == 2
    assert [gone["slug"] for gone in written["baseline"]["gone"]] == ["window-ignored"]
    again = stored.read(str(file))
    assert again.baseline == report.baseline
    assert [f.fingerprint for f in again.findings] == [f.fingerprint for f in report.findings]
    assert again.exit_code == report.exit_code


@pytest.mark.parametrize("format_name", ["terminal", "markdown", "html"])
def test_pages_tell_known_findings_in_one_line(tmp_path: Path, format_name: str) -> None:
    now = sample_reports.faulty_report()
    page = interface.render(held(now, now, tmp_path), format_name)
    assert "known: 7 findings of known.json" in " ".join(page.replace("\\", "").split())
    assert "declared   8 keys" not in page
    assert "24 keys: own token and 23 back" not in page
    gone = interface.render(held(dataclasses.replace(now, findings=()), now, tmp_path), format_name)
    assert "gone: " in gone


def test_without_a_baseline_nothing_is_said() -> None:
    assert "known:" not in interface.render(sample_reports.faulty_report(), "terminal")
