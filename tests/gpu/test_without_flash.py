"""`--without flash` on a CUDA device: the profiler's kernel names, by default and with each way out."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
SWITCHED = ("--plugin", "tests.plugins.without_flash")


def compare(target: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "attncheck", "compare", target, "--without", "flash", "--scenario", "plain"]
    command += [*arguments, "--device", "cuda", "--offline", "--format", "json"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600, check=False)
    assert process.returncode in (0, 1), process.stderr
    return process.returncode, json.loads(process.stdout)


@pytest.fixture(scope="module")
def by_default() -> dict[str, Any]:
    code, report = compare("llava-hf/llava-1.5-7b-hf", "--impl", "sdpa")
    assert code == 1
    return report


def kernels(run: dict[str, Any]) -> set[str]:
    return {name for sub in run["sub_models"] for phase in sub["phases"] for name in phase["flash"]}


def test_sdpa_runs_flash_kernels_in_both_sub_models(by_default: dict[str, Any]) -> None:
    found = {(finding["slug"], finding["part"]) for finding in by_default["findings"]}
    assert {("flash-not-off", "vision"), ("flash-not-off", "decoder")} <= found
    (asked,) = by_default["without"]["asked"]
    assert any("flash" in name and not name.startswith("aten::") for name in kernels(asked)), "no CUDA kernel was named"


def test_every_call_was_seen_by_the_profiler(by_default: dict[str, Any]) -> None:
    for run in (*by_default["without"]["asked"], *by_default["without"]["ways"]):
        for sub in run["sub_models"]:
            assert [phase["name"] for phase in sub["phases"] if not phase["kernels"]] == [], run["asked"]["name"]
            assert [phase["failure"] for phase in sub["phases"] if phase["failure"]] == [], run["asked"]["name"]


def test_the_ways_out(by_default: dict[str, Any]) -> None:
    ways = {way["asked"]["name"]: way for way in by_default["without"]["ways"]}
    for name in ("eager", "sdpa, flash and cuDNN off", "sdpa, efficient or math only"):
        assert ways[name]["flash"] is False, (name, kernels(ways[name]))
    alone = ways["sdpa, flash off"]  # where cuDNN takes over, its kernel is flash attention too
    assert alone["flash"] is any("cudnn" in name for name in kernels(alone))
    assert ways["a key that is no sub-config"]["flash"] is True


def test_what_doing_without_it_costs(by_default: dict[str, Any]) -> None:
    measured = {cost["name"].partition(" ")[0] for cost in by_default["without"]["costs"] if cost["seconds"]}
    assert {"sdpa", "sdpa-efficient", "sdpa-math", "eager"} <= measured
    assert all(cost["memory"] is not None for cost in by_default["without"]["costs"] if cost["seconds"])
    for way in by_default["without"]["ways"]:
        for sub in way["sub_models"]:
            assert sub["deviation"]["largest"] < 0.1 * max(1.0, sub["deviation"]["spread"])


@pytest.mark.parametrize("arguments", [("--impl", "eager"), ("--impl", "sdpa", *SWITCHED)])
def test_none_runs_with_the_switches(arguments: tuple[str, ...]) -> None:
    code, report = compare("llava-hf/llava-1.5-7b-hf", *arguments)
    assert [finding for finding in report["findings"] if finding["slug"].startswith("flash-not")] == []
    assert code == 0
    assert [run["flash"] for run in report["without"]["asked"]] == [False]


@pytest.mark.skipif(find_spec("flash_attn") is None, reason="needs flash-attn")
def test_the_real_flash_attn_is_seen_and_the_tower_of_the_original_repository_is_not_reached_by_eager() -> None:
    code, report = compare("liuhaotian/llava-v1.5-7b", "--impl", "flash_attention_2,eager")
    assert code == 1
    flash, eager = report["without"]["asked"]
    text = {sub["title"]: sub for sub in flash["sub_models"]}["language model"]
    assert any("flash_fwd" in name for phase in text["phases"] for name in phase["flash"])
    tower, text = eager["sub_models"]
    assert (tower["reached"], text["reached"]) == (["sdpa"], ["eager"])
    assert not any(phase["flash"] for phase in text["phases"])
    assert any(phase["flash"] for phase in tower["phases"])
