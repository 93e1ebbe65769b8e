"""The JSON contract: sample reports obey the shipped schema, old reports stay valid, and JSON is strict."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from attncheck.findings import Evidence
from attncheck.render import interface
from attncheck.render.interface import Style
from attncheck.render.json import schema
from attncheck.report import Report
from tests import sample_machines, sample_reports

REPORTS = [
    sample_reports.healthy_report,
    sample_reports.faulty_report,
    sample_reports.doctor_report,
    sample_machines.h100_report,
    sample_machines.cpu_report,
    sample_machines.static_report,
    sample_machines.incident_report,
]
_TESTS = Path(__file__).parents[1]
STORED = [
    *sorted((_TESTS / "render" / "stored").glob("*.json")),
    *sorted((_TESTS / "gpu" / "recorded").rglob("*.json")),
]


def wire(report: Report) -> dict[str, Any]:
    return json.loads(interface.render(report, "json"))  # type: ignore[no-any-return]


def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("build", REPORTS)
def test_reports_obey_the_schema(build: Any) -> None:
    validator().validate(wire(build()))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_reports_of_older_releases_stay_valid(path: Path) -> None:
    """Never edit a stored report: add one when a release adds fields."""
    validator().validate(json.loads(path.read_text(encoding="utf-8")))


def test_there_are_stored_reports() -> None:
    assert STORED


def test_fields_of_later_releases_are_no_error_for_this_schema() -> None:
    later = wire(sample_reports.faulty_report())
    later["new"] = 1
    for entry in (later["model"], later["findings"][0], later["matrix"][0], later["environment"], later["summary"]):
        entry["new"] = {"anything": True}
    validator().validate(later)


def test_no_object_of_the_schema_is_closed() -> None:
    def closed(node: Any) -> bool:
        if isinstance(node, dict):
            return node.get("additionalProperties") is False or any(closed(value) for value in node.values())
        return isinstance(node, list) and any(closed(value) for value in node)

    assert not closed(schema())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 2),
        (("summary", "exit_code"), 7),
        (("matrix", 0, "verdict"), "fine"),
        (("matrix", 0, "basis"), "guessed"),
        (("findings", 0, "code"), "X1"),
        (("findings", 0, "slug"), "Window Ignored"),
        (("findings", 0, "severity"), "fatal"),
        (("implementations", 0, "status"), "great"),
        (("model", "source"), "dream"),
        (("model", "groups", 0, "declared", "window"), [4095]),
        (("model", "groups", 0, "declared", "window"), [-1, 0]),
    ],
)
def test_the_schema_refuses_what_the_contract_forbids(path: tuple[Any, ...], value: Any) -> None:
    report = wire(sample_reports.healthy_report())
    node = report
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(report)


def test_every_property_that_is_written_is_documented() -> None:
    definitions = schema()["$defs"]
    report = wire(sample_reports.faulty_report())
    samples = {
        "environment": report["environment"],
        "model": report["model"],
        "declared": report["model"]["groups"][0]["declared"],
        "implementation": report["implementations"][0],
        "cell": report["matrix"][0],
        "finding": report["findings"][0],
        "evidence": report["findings"][0]["evidence"],
        "recommended": report["recommended"],
    }
    for name, sample in samples.items():
        assert set(sample) <= set(definitions[name]["properties"]), name
    assert set(report) <= set(schema()["properties"])


def test_window_sides_and_unknown_fields() -> None:
    groups = wire(sample_reports.faulty_report())["model"]["groups"]
    full, windowed, encoder, cross = (group["declared"] for group in groups)
    assert full["window"] == [None, 0]
    assert windowed["window"] == [4095, 0]
    assert windowed["softcap"] == 50.0
    assert (encoder["direction"], encoder["window"]) == ("bidirectional", [8, 8])
    assert (cross["scale"], cross["unknown"]) == (None, ["scale"])


def test_parts_a_command_does_not_produce_are_left_out() -> None:
    doctor = wire(sample_reports.doctor_report())
    assert not {"model", "matrix", "recommended", "scenarios"} & set(doctor)
    assert doctor["checks"][1] == {"code": "ATC605", "status": "not_run", "reason": "comes with the full doctor"}


def test_doctor_parts_are_written_and_documented() -> None:
    definitions = schema()["$defs"]
    report = wire(sample_machines.h100_report())
    assert set(report) <= set(schema()["properties"])
    incident = wire(sample_machines.incident_report())["incident"]
    samples = {
        "convention": report["conventions"][0],
        "ability": report["abilities"][0],
        "inventory": report["inventory"],
        "torch": report["torch"],
        "incident": incident,
    }
    for name, sample in samples.items():
        assert set(sample) == set(definitions[name]["properties"]), name
    build = definitions["inventory"]["properties"]["builds"]["additionalProperties"]["properties"]
    assert set(report["inventory"]["builds"]["xformers"]) == set(build)
    assert report["inventory"]["clobbered"][0]["owners"][1] == {"name": "flash-attn-4", "version": "4.0.0b36"}
    assert report["torch"]["devices"] == [{"name": "NVIDIA H100 80GB HBM3", "capability": "9.0"}]


def test_a_convention_tells_unbounded_from_not_known() -> None:
    found = {(c["api"], c["call"], c["q_len"]): c for c in wire(sample_machines.h100_report())["conventions"]}
    causal = found["flash-attn-2", "causal=True", 64]
    assert (causal["left"], causal["right"], causal["unknown"]) == (None, 0, [])
    zeros = found["flash-attn-4", "causal=True, window_size=(-1, 0)", 64]
    assert (zeros["left"], zeros["right"], zeros["unknown"]) == (None, None, ["left", "right"])
    assert (zeros["empty_rows"], zeros["agrees"]) == (64, False)
    refused = found["sdpa-flash", "attn_mask=(j <= i) & (i - j < 8)", 64]
    assert (refused["outcome"], refused["basis"], refused["unknown"]) == ("refused", None, ["left", "right"])
    short = found["sdpa-math", "is_causal=True", 32]
    assert (short["alignment"], short["kv_len"]) == ("top-left", 64)


def test_what_nobody_looked_at_is_left_out_and_named() -> None:
    report = wire(sample_machines.static_report())
    assert not {"conventions", "abilities", "torch", "incident"} & set(report)
    assert report["missing"]["conventions"].startswith("--static")
    assert "missing" not in wire(sample_machines.h100_report())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("conventions", 0, "outcome"), "fine"),
        (("conventions", 0, "basis"), "guessed"),
        (("conventions", 0, "left"), -1),
        (("conventions", 0, "alignment"), "middle"),
        (("abilities", 0, "agrees"), "yes"),
        (("inventory", "clobbered", 0, "owners"), [{"name": "one", "version": "1"}]),
        (("torch", "cuda_available"), None),
        (("missing",), {"torch": 1}),
    ],
)
def test_the_schema_refuses_odd_machines(path: tuple[Any, ...], value: Any) -> None:
    report = wire(sample_machines.h100_report())
    node = report
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(report)


def test_masks_and_first_difference_are_written_out() -> None:
    evidence = wire(sample_reports.faulty_report())["findings"][0]["evidence"]
    assert evidence["first_difference"] == {"row": 0, "query": 8, "key": 0}
    assert evidence["masks"]["declared"][8] == "0" + "1" * 8 + "0" * 15
    assert evidence["masks"]["effective"][8] == "1" * 9 + "0" * 15


def test_the_requested_mask_is_written_where_there_was_one() -> None:
    report = sample_reports.faulty_report()
    finding = report.findings[0]
    assert "requested" not in wire(report)["findings"][0]["evidence"]["masks"]
    evidence = dataclasses.replace(finding.evidence, requested_mask=finding.evidence.declared_mask)
    report = dataclasses.replace(report, findings=(dataclasses.replace(finding, evidence=evidence),))
    written = wire(report)
    validator().validate(written)
    masks = written["findings"][0]["evidence"]["masks"]
    assert masks["requested"] == masks["declared"]


def test_nan_and_infinity_become_null() -> None:
    report = sample_reports.faulty_report()
    figures = Evidence(figures={"scale": float("nan"), "cap": float("inf"), "cells": 3, "head": "all"})
    finding = dataclasses.replace(report.findings[0], evidence=figures)
    text = interface.render(dataclasses.replace(report, findings=(finding,)), "json")
    written = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert written["findings"][0]["evidence"]["figures"] == {"scale": None, "cap": None, "cells": 3, "head": "all"}


def test_recommended_settings_by_framework() -> None:
    recommended = wire(sample_reports.faulty_report())["recommended"]
    assert recommended["settings"] == {"transformers": {"attn_implementation": "sdpa"}}
    assert recommended["paste"]["transformers"][0].startswith("AutoModelForCausalLM")


def test_the_summary_follows_fail_on() -> None:
    report = sample_reports.healthy_report()
    assert wire(report)["summary"] == {"errors": 0, "warnings": 8, "notes": 0, "exit_code": 0}
    assert wire(dataclasses.replace(report, fail_on="warning"))["summary"]["exit_code"] == 1
    faulty = dataclasses.replace(sample_reports.faulty_report(), fail_on="never")
    assert wire(faulty)["summary"]["exit_code"] == 0


def test_an_output_that_holds_ascii_only_gets_escapes() -> None:
    report = dataclasses.replace(sample_reports.faulty_report(), arguments={"word": "naïve"})
    text = interface.render(report, "json", Style(unicode=False))
    assert text.isascii()
    assert json.loads(text)["arguments"]["word"] == "naïve"
