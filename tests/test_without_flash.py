"""`compare --without flash` and the sub-models of LLaVA from the command line, with towers that are wrong or die."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from attncheck.render import interface
from attncheck.render.interface import Style
from attncheck.render.json import schema
from attncheck.stored import report as stored_report

ROOT = Path(__file__).parents[1]
FAULTY = ("--plugin", "tests.plugins.broken_attention")


def compare(*arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "attncheck", "compare", *arguments, "--offline", "--format", "json"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert process.returncode in (0, 1), process.stderr
    return process.returncode, json.loads(process.stdout)


def slugs(report: dict[str, Any]) -> set[tuple[str, str | None]]:
    return {(finding["slug"], finding["part"]) for finding in report["findings"]}


@pytest.fixture(scope="module")
def by_default() -> dict[str, Any]:
    code, report = compare("llava-hf/llava-1.5-7b-hf", "--without", "flash", "--scenario", "plain", "--impl", "sdpa")
    assert code == 1
    return report


def test_sdpa_runs_its_own_flash_kernel_in_both_sub_models(by_default: dict[str, Any]) -> None:
    assert slugs(by_default) == {("flash-not-off", "vision"), ("flash-not-off", "decoder")}
    (asked,) = by_default["without"]["asked"]
    assert asked["flash"] is True
    assert {sub["title"] for sub in asked["sub_models"]} == {"vision tower", "language model"}


def test_the_ways_out_were_run_with_heads_of_the_true_width(by_default: dict[str, Any]) -> None:
    answer = by_default["without"]
    assert answer["head_dims"] == [["text_config", 128], ["vision_config", 64]]
    free = {way["asked"]["name"]: way["flash"] for way in answer["ways"]}
    assert free == {
        "eager": False,
        "sdpa, flash off": False,
        "sdpa, efficient or math only": False,
        "language model eager": True,
        "vision tower eager": True,
        "a key that is no sub-config": True,
    }
    for way in answer["ways"]:
        for sub in way["sub_models"]:
            assert sub["deviation"]["largest"] < 1e-4


def test_costs_are_measured_at_the_models_own_heads(by_default: dict[str, Any]) -> None:
    answer = by_default["without"]
    assert answer["heads"] == "32 heads of 128"
    measured = {(cost["name"].partition(" ")[0], cost["length"]) for cost in answer["costs"] if cost["seconds"]}
    assert {(name, length) for name in ("sdpa", "sdpa-math", "eager") for length in (256, 512, 1024)} <= measured


def test_the_vision_tower_is_declared_and_read(by_default: dict[str, Any]) -> None:
    (group,) = [group for group in by_default["model"]["groups"] if group["part"] == "vision"]
    assert group["layers"] == list(range(24))
    assert group["declared"]["direction"] == "bidirectional"
    cells = [cell for cell in by_default["matrix"] if cell["part"] == "vision"]
    assert {(cell["scenario"], cell["variant"], cell["verdict"]) for cell in cells} == {("plain", "image", "ok")}


def test_the_report_obeys_the_schema_and_reads_back_the_same(by_default: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema()).validate(by_default)
    again = stored_report.parse(by_default)
    assert json.loads(interface.render(again, "json")) == by_default
    for name in ("terminal", "markdown", "html"):
        page = interface.render(again, name, Style(100, None, True))
        assert "sdpa, flash off" in page
        assert "vision tower" in page
        assert "llava-no-flash" in page
    assert "changed nothing and raised nothing" in interface.render(again, "terminal", Style(400, None, True))


SWITCHED = ("--impl", "sdpa", "--plugin", "tests.plugins.without_flash")


@pytest.mark.parametrize("arguments", [("--impl", "eager"), pytest.param(SWITCHED, marks=pytest.mark.slow)])
def test_quiet_with_the_switches(arguments: tuple[str, ...]) -> None:
    code, report = compare("llava", "--without", "flash", "--scenario", "plain", *arguments)
    assert code == 0
    assert report["findings"] == []
    assert report["without"]["costs"] == []
    assert [run["flash"] for run in report["without"]["asked"]] == [False]


@pytest.mark.slow
def test_eager_does_not_reach_the_tower_of_the_original_repository() -> None:
    target = "liuhaotian/llava-v1.5-7b"
    code, report = compare(target, "--without", "flash", "--scenario", "plain", "--impl", "eager")
    assert code == 1
    assert ("flash-not-off", "vision") in slugs(report)
    assert ("flash-not-off", "decoder") not in slugs(report)
    assert any("train_mem.py" in line for line in report["without"]["notes"])
    rows = {run["asked"]["name"]: run["sub_models"] for run in report["sub_models"]}
    assert [sub["effective"] for sub in rows["eager"]] == ["sdpa", "eager"]
    assert report["recommended"]["implementation"] == "eager"
    assert report["recommended"]["paste"] == {"torch": ["torch.backends.cuda.enable_flash_sdp(False)"]}


def test_a_wrong_tower_is_found_and_the_right_language_model_is_not_blamed() -> None:
    code, report = compare("llava", "--impl", "eager,blind", "--scenario", "plain", *FAULTY)
    assert code == 1
    assert slugs(report) == {("keys-missing", "vision")}
    (finding,) = report["findings"]
    assert finding["implementation"] == "blind"
    good = [cell for cell in report["matrix"] if cell["implementation"] == "blind" and cell["part"] == "decoder"]
    assert {cell["verdict"] for cell in good} == {"ok"}


@pytest.mark.slow
def test_a_tower_that_kills_its_process_is_a_result() -> None:
    code, report = compare("llava", "--impl", "dying", "--scenario", "plain", "--without", "flash", *FAULTY)
    assert code == 1
    assert {slug for slug, _ in slugs(report)} == {"backend-unusable", "flash-not-proven"}
    verdicts = {cell["part"]: cell["verdict"] for cell in report["matrix"]}
    assert verdicts == {"decoder": "ok", None: "error"}
    (run,) = report["without"]["asked"]
    assert "SIGSEGV" in run["failure"]
    assert run["flash"] is None


@pytest.mark.slow
def test_models_without_towers_are_answered_too() -> None:
    code, report = compare("qwen2", "--without", "flash", "--scenario", "plain", "--impl", "sdpa")
    assert code == 1
    assert slugs(report) == {("flash-not-off", "decoder")}
    assert "sub_models" not in report


@pytest.mark.parametrize(("value", "message"), [("cudnn", "there is no such thing"), ("", "names nothing")])
def test_what_cannot_be_left_out_is_one_line(value: str, message: str) -> None:
    command = [sys.executable, "-m", "attncheck", "compare", "llava", "--without", value]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert process.returncode == 2
    assert message in process.stderr
    assert "Traceback" not in process.stderr
