"""A bench as JSON: obeys the schema, which documents all of it, and says how it ended."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from attncheck.render import interface
from attncheck.render.json import schema
from attncheck.report import Report
from tests import sample_benches

BENCHES = [
    sample_benches.standard_report,
    sample_benches.swa_report,
    sample_benches.interrupted_report,
    sample_benches.changed_report,
]


def written(report: Report) -> dict[str, Any]:
    return json.loads(interface.render(report, "json"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("build", BENCHES)
def test_reports_obey_the_schema(build: Any) -> None:
    jsonschema.Draft202012Validator(schema()).validate(written(build()))


def test_every_property_that_is_written_is_documented() -> None:
    definitions, report = schema()["$defs"], written(sample_benches.changed_report())
    bench, changes = report["bench"], report["bench_changes"]
    samples = {
        "bench": bench,
        "bench_cell": bench["cells"][0],
        "bench_case": bench["cells"][0]["case"],
        "bench_growth": bench["growth"][0],
        "bench_rates": bench["rates"],
        "bench_changes": changes,
    }
    for name, sample in samples.items():
        assert set(sample) == set(definitions[name]["properties"]), name
    change = definitions["bench_changes"]["properties"]["changes"]["items"]["properties"]
    assert set(changes["changes"][0]) == set(change)
    assert set(report) <= set(schema()["properties"])


def test_the_exit_code_of_an_interrupted_bench() -> None:
    assert written(sample_benches.interrupted_report())["summary"]["exit_code"] == 130
    report = sample_benches.standard_report()
    assert report.exit_code == 0
    assert report.bench is not None
    silent = tuple(cell for cell in report.bench.cells if cell.median is None)
    assert replace(report, bench=replace(report.bench, cells=silent)).exit_code == 3
