"""SARIF: valid by the official schema for every report, rules with their texts, lines of keys, stable fingerprints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from attncheck import checks
from attncheck.baseline import Baseline
from attncheck.findings import Finding, Severity
from attncheck.frameworks.section import FrameworkSection, Kind
from attncheck.render import interface, redact
from attncheck.render.interface import Style
from attncheck.render.redact import Person
from attncheck.report import Report
from attncheck.semantics.observation import Basis
from attncheck.stored import report as stored
from tests import sample_benches, sample_machines, sample_reports, sample_watches

TESTS = Path(__file__).parents[1]
SCHEMA = json.loads((TESTS / "render" / "schemas" / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))
BUILT = [
    sample_reports.healthy_report,
    sample_reports.faulty_report,
    sample_reports.silent_report,
    sample_reports.doctor_report,
    sample_machines.h100_report,
    sample_machines.static_report,
    sample_machines.incident_report,
    sample_benches.standard_report,
    sample_benches.swa_report,
    sample_benches.interrupted_report,
    sample_watches.watch_report,
]
STORED = sorted((TESTS / "gpu" / "recorded").rglob("*.json"))


def sarif(report: Report) -> dict[str, Any]:
    return json.loads(interface.render(report, "sarif"))  # type: ignore[no-any-return]


def run_of(report: Report) -> dict[str, Any]:
    return sarif(report)["runs"][0]  # type: ignore[no-any-return]


def check(log: dict[str, Any]) -> None:
    jsonschema.Draft4Validator(SCHEMA).validate(log)


def at(report: Report, finding: Finding) -> dict[str, Any]:
    """The physical location of one finding in that report."""
    found = run_of(dataclasses.replace(report, findings=(finding,)))["results"][0]["locations"][0]
    return found.get("physicalLocation", {})  # type: ignore[no-any-return]


def of_file(lines: dict[str, int], file: str = "models/config.json") -> Report:
    report = sample_reports.faulty_report()
    assert report.model is not None
    model = dataclasses.replace(report.model, file=file, lines=lines, sources={"window": "config: sliding_window"})
    return dataclasses.replace(report, model=model)


def told(slug: str, message: str = "Something is wrong", **more: Any) -> Finding:
    rule = checks.rule(slug)
    assert rule is not None
    return Finding(rule.code, slug, Severity.ERROR, message, Basis.MEASURED, **more)


@pytest.mark.parametrize("build", BUILT)
def test_reports_of_every_command_are_valid(build: Callable[[], Report]) -> None:
    log = sarif(build())
    check(log)
    assert len(log["runs"][0]["results"]) == len(build().findings)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_recorded_reports_are_valid(path: Path) -> None:
    check(sarif(stored.read(str(path))))


def test_the_schema_refuses_what_is_no_sarif() -> None:
    log = sarif(sample_reports.faulty_report())
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        check(log)


def test_rules_come_with_their_documentation() -> None:
    run = run_of(dataclasses.replace(sample_reports.faulty_report(), findings=(told("window-ignored"),)))
    rule = checks.rule("window-ignored")
    assert rule is not None
    (described,) = run["tool"]["driver"]["rules"]
    assert (described["id"], described["shortDescription"]["text"]) == (rule.code, rule.title)
    for text in (rule.finds, rule.why, rule.measured, rule.fix):
        assert text in described["help"]["text"]
        assert text in described["help"]["markdown"]
    assert run["results"][0]["ruleId"] == run["tool"]["driver"]["rules"][run["results"][0]["ruleIndex"]]["id"]


def test_levels_are_severities() -> None:
    levels = {result["level"] for result in run_of(sample_reports.faulty_report())["results"]}
    assert levels == {"error", "note"}
    assert {result["level"] for result in run_of(sample_reports.healthy_report())["results"]} == {"warning"}


def test_the_line_is_that_of_the_key_that_declares_it() -> None:
    report = of_file({"model_type": 2, "sliding_window": 7})
    place = at(report, told("window-ignored"))
    assert place == {"artifactLocation": {"uri": "models/config.json"}, "region": {"startLine": 7}}


def test_the_line_is_that_of_the_key_that_is_named() -> None:
    report = of_file({"sliding_window": 7, "text_config.max_window_layers": 9})
    assert at(report, told("config-remark", "max_window_layers selects no layer"))["region"] == {"startLine": 9}


def test_without_a_key_there_is_a_file_and_no_line() -> None:
    assert "region" not in at(of_file({"sliding_window": 7}), told("backend-unusable"))


def test_a_hub_target_has_a_logical_location_only() -> None:
    result = run_of(sample_reports.healthy_report())["results"][0]
    assert "physicalLocation" not in result["locations"][0]
    name = result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]
    assert name == "mistralai/Mistral-7B-v0.1/decoder/layers 0-31"


def test_a_settings_file_has_its_lines() -> None:
    section = FrameworkSection(
        "llama-factory", "LLaMA-Factory", "0.9.5", "", Kind.RUNS, "sdpa", file="train.yaml", lines={"flash_attn": 4}
    )
    report = dataclasses.replace(sample_reports.healthy_report(), framework=section)
    place = at(report, told("setting-ignored", "flash_attn: fa2 is not what runs"))
    assert place == {"artifactLocation": {"uri": "train.yaml"}, "region": {"startLine": 4}}


@pytest.mark.parametrize(
    ("file", "uri", "base"),
    [
        ("./a b/config.json", "a%20b/config.json", None),
        ("/data/config.json", "file:///data/config.json", None),
        ("C:\\data\\config.json", "file:///C:/data/config.json", None),
        ("~/models/config.json", "models/config.json", "HOME"),
    ],
)
def test_files_are_uris(file: str, uri: str, base: str | None) -> None:
    report = of_file({"sliding_window": 7}, file)
    check(sarif(report))
    artifact = at(report, told("window-ignored"))["artifactLocation"]
    assert (artifact["uri"], artifact.get("uriBaseId")) == (uri, base)


def test_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "current_person", lambda: Person("/home/jane", "jane", "jane-laptop"))
    report = of_file({"sliding_window": 7}, "/home/jane/models/config.json")
    finding = told("window-ignored", "in /home/jane/models of jane-laptop", reproduction="cd /home/jane")
    text = interface.render(dataclasses.replace(report, findings=(finding,)), "sarif")
    check(json.loads(text))
    assert "jane" not in text


def test_fingerprints_tell_places_apart_and_last() -> None:
    one = told("window-ignored", implementation="sdpa", scenario="plain", layers=(1, 2))
    assert one.fingerprint == dataclasses.replace(one, message="other words", severity=Severity.NOTE).fingerprint
    others = [
        dataclasses.replace(one, implementation="eager"),
        dataclasses.replace(one, scenario="decode"),
        dataclasses.replace(one, layers=(1,)),
        dataclasses.replace(one, code="ATC102"),
        dataclasses.replace(one, variant="no mask"),
    ]
    assert len({finding.fingerprint for finding in (one, *others)}) == 6
    result = run_of(dataclasses.replace(sample_reports.faulty_report(), findings=(one,)))["results"][0]
    assert result["partialFingerprints"]["attncheck/v1"] == one.fingerprint


def test_fingerprints_of_the_installation_are_its_words_without_figures_and_folders() -> None:
    one = told("install-broken", "flash-attn-4 4.0.0b36 cannot be imported (in /opt/venv/lib/flash_attn/utils.py)")
    same = told("install-broken", "flash-attn-4 4.0.1 cannot be imported (in ~/x/lib/flash_attn/utils.py)")
    other = told("install-broken", "flash-attn-3 4.0.0b36 cannot be imported (in /opt/venv/lib/flash_attn/utils.py)")
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_two_defects_of_one_implementation_are_two() -> None:
    one = told("known-bad-version", "transformers 5.23.0 drops the window of Qwen2-MoE", implementation="sdpa")
    other = told("known-bad-version", "transformers 5.23.0 drops the softcap of Gemma2", implementation="sdpa")
    assert one.fingerprint != other.fingerprint


def test_a_baseline_gives_states() -> None:
    report = sample_reports.faulty_report()
    assert "baselineState" not in run_of(report)["results"][0]
    known = (dataclasses.replace(report.findings[0], known=True), *report.findings[1:])
    log = sarif(dataclasses.replace(report, findings=known, baseline=Baseline("known.json", 1, len(known) - 1)))
    check(log)
    assert [result["baselineState"] for result in log["runs"][0]["results"][:2]] == ["unchanged", "new"]


def test_an_output_that_holds_ascii_only_gets_escapes() -> None:
    report = dataclasses.replace(sample_reports.faulty_report(), arguments={"word": "naïve"})
    assert interface.render(report, "sarif", Style(unicode=False)).isascii()
