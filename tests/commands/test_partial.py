"""The stored bench of `--compare`: comes back as it was, and what is broken is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from attncheck.commands.partial import earlier
from attncheck.errors import UsageError
from attncheck.render import bench_changes, interface
from attncheck.render.json import schema
from attncheck.report import Report
from tests import sample_benches, sample_reports

BENCHES = [
    sample_benches.standard_report,
    sample_benches.swa_report,
    sample_benches.interrupted_report,
    sample_benches.changed_report,
]
#: What every report has, and then the bench.
REPORT = (
    '{"schema": 1, "tool": {"name": "attncheck", "version": "0"}, "command": "bench", '
    '"environment": {"python": "3.12", "platform": "Linux", "libraries": []}, "bench": %s}'
)


def written(report: Report) -> dict[str, Any]:
    return json.loads(interface.render(report, "json"))  # type: ignore[no-any-return]


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        earlier(str(path))
    assert caught.value.message.startswith(f"--compare {path} ")
    assert "\n" not in caught.value.message
    assert caught.value.hint == "attncheck bench -o old.json --format json writes one"
    return caught.value.message


@pytest.mark.parametrize("build", BENCHES)
def test_a_bench_comes_back_as_it_was(build: Callable[[], Report], tmp_path: Path) -> None:
    report = build()
    (tmp_path / "old.json").write_text(interface.render(report, "json"), encoding="utf-8")
    found = earlier(str(tmp_path / "old.json"))
    assert report.bench is not None
    assert found.source == str(tmp_path / "old.json")
    assert replace(found.bench, published=report.bench.published) == report.bench
    assert bench_changes.differing(found.report, report) == {}


def test_fields_of_later_releases_do_no_harm(tmp_path: Path) -> None:
    report = written(sample_benches.swa_report())
    report["new"] = report["bench"]["new"] = report["bench"]["cells"][0]["new"] = {"any": 1}
    (tmp_path / "old.json").write_text(json.dumps(report), encoding="utf-8")
    assert len(earlier(str(tmp_path / "old.json")).bench.cells) == 9


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("cells", 0, "outcome"), "fine", 'bench.cells[0].outcome is "fine", not one of read, refused'),
        (("cells", 0, "median"), -1.0, "bench.cells[0].median is -1, not a time"),
        (("cells", 0, "n"), -1, "bench.cells[0].n is -1, not a count"),
        (("cells", 0, "case", "window"), [1], "bench.cells[0].case.window has 1 entries, not 2"),
        (("cells", 0, "case", "q_len"), "4096", 'bench.cells[0].case.q_len is "4096", not a whole number'),
        (("cells", 0, "case", "kv_len"), -4096, "bench.cells[0].case.kv_len is -4096, not at least 1"),
        (("cells", 0, "case", "num_kv_heads"), 0, "bench.cells[0].case.num_kv_heads is 0, not at least 1"),
        (("complete",), "yes", 'bench.complete is "yes", not true or false'),
    ],
)
def test_the_schema_and_the_reader_refuse_the_same(
    path: tuple[Any, ...], value: Any, said: str, tmp_path: Path
) -> None:
    report = written(sample_benches.swa_report())
    node = report["bench"]
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(report)
    file = tmp_path / "old.json"
    file.write_text(json.dumps(report), encoding="utf-8")
    assert said in refusal(file)


def test_a_spread_the_wrong_way_round_is_refused(tmp_path: Path) -> None:
    report = written(sample_benches.swa_report())
    report["bench"]["cells"][1].update(p20=2e-3, p80=1e-3)
    file = tmp_path / "old.json"
    file.write_text(json.dumps(report), encoding="utf-8")
    assert "bench.cells[1].p20 is 0.002, above its p80 of 0.001" in refusal(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "is no report of attncheck that can be read"),
        ("[]", "the whole file is [], not an object"),
        ('{"schema": 2}', "its schema is 2; this attncheck reads 1"),
        ('{"schema": true, "bench": {}}', "its schema is true"),
        (REPORT % '{"wall": NaN}', "it is not JSON: NaN is no number"),
        (REPORT % "null", "is a report of 'bench' without a bench"),
        (REPORT % "{}", "bench.cells is missing"),
        (REPORT % '{"cells": [1]}', "bench.cells[0] is 1, not an object"),
        (REPORT % '{"cells": [], "growth": 3}', "bench.growth is 3, not a list"),
        (REPORT % '{"cells": [], "rates": {"name": "x", "clock_mhz": 3}}', "bench.rates.clock_mhz is 3, not a list"),
    ],
)
def test_what_is_no_stored_bench_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(text, encoding="utf-8")
    assert said in refusal(path)


def test_a_report_of_another_command_is_named(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(interface.render(sample_reports.healthy_report(), "json"), encoding="utf-8")
    assert refusal(path).endswith("is a report of 'compare' without a bench")


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / name)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(b"\xff\xfe\x00{")
    assert "is no report of attncheck that can be read: it is no" in refusal(path)
