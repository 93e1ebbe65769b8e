"""What a stored bench says for the recommendation: in each format, with its label, and not as a time of this run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from attncheck.render import interface
from attncheck.render.interface import Style
from attncheck.render.json import schema
from attncheck.report import Report
from tests import sample_benches, sample_reports


def words(report: Report, format_name: str) -> str:
    return " ".join(interface.render(report, format_name, Style(100)).split())


@pytest.mark.parametrize("format_name", ["terminal", "html", "markdown"])
def test_times_stand_with_their_device_and_their_file(format_name: str) -> None:
    text = words(sample_benches.speeds_report(), format_name)
    assert "Times of a bench" in text
    for said in ("measured by bench on NVIDIA H100 80GB HBM3", "bench.json", "1.01 s", "32 layers together"):
        assert said in text.replace("\\_", "_").replace("\\.", ".").replace("\\(", "(")
    assert "predicted right only" in text
    assert "Times of a bench" not in words(sample_reports.healthy_report(), format_name)


@pytest.mark.parametrize("format_name", ["terminal", "html", "markdown"])
def test_a_bench_that_is_not_used_says_why(format_name: str) -> None:
    text = words(sample_benches.unused_speeds_report(), format_name)
    assert "not used: it has no time of what this model declares" in text


@pytest.mark.parametrize("width", [72, 100])
def test_names_are_whole_and_no_line_is_wider_than_the_page(width: int) -> None:
    text = interface.render(sample_benches.speeds_report(), "terminal", Style(width))
    below = text.partition("Times of a bench")[2].partition("Recommended")[0]
    assert "flash_attention_2" in below
    assert max(map(len, below.splitlines())) <= width


@pytest.mark.parametrize("build", [sample_benches.speeds_report, sample_benches.unused_speeds_report])
def test_json_obeys_the_schema_which_documents_all_of_it(build: Any) -> None:
    written = json.loads(interface.render(build(), "json"))
    jsonschema.Draft202012Validator(schema()).validate(written)
    known = schema()["$defs"]["speeds"]["properties"]
    assert set(written["speeds"]) == set(known)
    for row in written["speeds"]["rows"]:
        assert set(row) == set(known["rows"]["items"]["properties"])
    assert "speeds" not in json.loads(interface.render(sample_reports.healthy_report(), "json"))


@pytest.mark.parametrize("name", ["median", "p20", "p80"])
def test_a_time_that_is_no_number_is_null_in_json_and_does_not_end_the_report(name: str) -> None:
    report = sample_benches.speeds_report()
    assert report.speeds is not None
    first, *rest = report.speeds.rows
    spoiled = replace(report, speeds=replace(report.speeds, rows=(replace(first, **{name: math.nan}), *rest)))
    written = json.loads(interface.render(spoiled, "json"))
    jsonschema.Draft202012Validator(schema()).validate(written)
    assert written["speeds"]["rows"][0][name] is None
    for format_name in ("terminal", "html", "markdown"):
        assert "Times of a bench" in words(spoiled, format_name)
