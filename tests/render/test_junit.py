"""JUnit XML: one case a cell, nothing unjudged looks passed, readable by the library's own parser."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import junitparser
import pytest

from attncheck.errors import UsageError
from attncheck.findings import Severity
from attncheck.render import interface
from attncheck.report import Report
from attncheck.stored import report as stored
from attncheck.verdicts import Verdict
from tests import sample_machines, sample_reports
from tests.render.test_sarif import BUILT, STORED


def suite(report: Report) -> junitparser.TestSuite:
    (found,) = junitparser.JUnitXml.fromstring(interface.render(report, "junit").encode())
    return found


def outcome(case: junitparser.TestCase) -> str:
    return "failed" if case.is_failure else "skipped" if case.is_skipped else "passed"


@pytest.mark.parametrize("build", BUILT)
def test_reports_of_every_command_are_written(build: Callable[[], Report]) -> None:
    report = build()
    found = suite(report)
    assert found.tests == len(list(found)) >= 1
    assert (found.failures > 0) == (report.exit_code == 1)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_recorded_reports_fail_as_the_command_did(path: Any) -> None:
    report = stored.read(str(path))
    assert (suite(report).failures > 0) == (report.exit_code == 1)


def test_one_case_a_cell() -> None:
    report = sample_reports.faulty_report()
    named = [case for case in suite(report) if str(case.classname).startswith("attncheck.compare.")]
    assert len(named) == len(report.matrix)
    judged = [outcome(case) for case in named]
    expected = {Verdict.OK: "passed", Verdict.MISMATCH: "failed"}
    assert judged == [expected.get(cell.verdict, "skipped") for cell in report.matrix]


def test_nothing_that_was_not_judged_looks_passed() -> None:
    assert {outcome(case) for case in suite(sample_reports.silent_report())} == {"skipped"}


def test_a_warning_is_no_failure_and_no_success() -> None:
    report = sample_reports.healthy_report()
    leaks = [case for case in suite(report) if case.result and "packing-leak (warning" in str(case.result[0].message)]
    assert leaks
    assert {outcome(case) for case in leaks} == {"skipped"}
    strict = suite(dataclasses.replace(report, fail_on="warning"))
    assert strict.failures > 0


def test_known_findings_do_not_fail() -> None:
    report = sample_reports.faulty_report()
    known = dataclasses.replace(report, findings=tuple(dataclasses.replace(f, known=True) for f in report.findings))
    assert suite(known).failures == 0


def test_the_evidence_stands_in_the_failure() -> None:
    report = sample_reports.faulty_report()
    text = next(case.result[0].text for case in suite(report) if case.is_failure)
    assert "declared: 8 keys: own token and 7 back" in text
    assert "fix: Use sdpa" in text
    assert "attncheck explain window-ignored" in text


def test_no_finding_is_lost() -> None:
    report = sample_machines.h100_report()
    told = interface.render(report, "junit")
    assert all(ElementTree.Element("a", {"b": f.code}).attrib["b"] in told for f in report.findings)


def test_characters_that_xml_cannot_hold() -> None:
    report = sample_reports.faulty_report()
    odd = dataclasses.replace(report.findings[0], message="<b>&\x01\ufffe]]>", severity=Severity.ERROR, scenario="none")
    found = suite(dataclasses.replace(report, findings=(odd,)))
    assert any("<b>&" in str(case.result[0].message) for case in found if case.is_failure)


def test_without_the_library_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "junitparser" else real(name, *rest)
    )
    with pytest.raises(UsageError, match="needs the package junitparser") as caught:
        interface.find("junit", "compare")
    assert "attncheck[junit]" in caught.value.hint
