"""The main job on a CUDA device: kernels are measured there, and what only the contract predicted elsewhere is seen.

Each run also reads the kernels at the true sizes of the model, whatever --scenario says: scenarios are what the tiny
model is fed. That costs one process a kernel API, so tests that ask for the same model share a run.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
with_flash_attn = pytest.mark.skipif(find_spec("flash_attn") is None, reason="needs flash-attn")


def compare(*arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "attncheck", "compare", *arguments, "--device", "cuda", "--format", "json"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    return process.returncode, json.loads(process.stdout)


@pytest.fixture(scope="module")
def mistral() -> dict[str, Any]:
    """Its window under the kernels of sdpa and, where it is installed, flash-attention."""
    names = "sdpa" if find_spec("flash_attn") is None else "sdpa,flash_attention_2"
    code, report = compare("mistral", "--set", "sliding_window=4096", "--impl", names, "--scenario", "plain,left-pad")
    assert code == 0
    return report


def test_sdpa_kernels_of_the_gpu_are_read_one_by_one(mistral: dict[str, Any]) -> None:
    cells = [cell for cell in mistral["matrix"] if cell["implementation"] == "sdpa"]
    assert {cell["basis"] for cell in cells} == {"measured"}
    assert {cell["verdict"] for cell in cells} == {"ok"}
    assert {"math", "efficient"} <= {cell["kernel"] for cell in cells}


@with_flash_attn
def test_real_flash_attention_keeps_the_window_of_mistral(mistral: dict[str, Any]) -> None:
    (entry,) = [entry for entry in mistral["implementations"] if entry["name"] == "flash_attention_2"]
    assert (entry["basis"], entry["status"]) == ("measured", "ok")


@with_flash_attn
def test_real_flash_attention_is_never_handed_the_window_of_qwen2_moe() -> None:
    switches = ("--set", "use_sliding_window=true", "--set", "max_window_layers=1")
    code, report = compare("qwen2_moe", *switches, "--impl", "eager,flash_attention_2", "--scenario", "plain")
    assert code == 1
    errors = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert {(e["slug"], e["implementation"], e["basis"]) for e in errors} == {
        ("window-ignored", "flash_attention_2", "measured")
    }


@with_flash_attn
def test_a_mask_that_flash_attention_misreads_costs_neither_the_process_nor_the_next_scenario() -> None:
    """The glue takes a 4D mask for one of padding: indices that a GPU would answer with a device-side assert."""
    _, report = compare("mistral", "--impl", "flash_attention_2", "--scenario", "custom-mask,gradients")
    verdicts = {scenario: set() for scenario in ("custom-mask", "gradients")}
    for cell in report["matrix"]:
        verdicts[cell["scenario"]].add(cell["verdict"])
    assert verdicts == {"custom-mask": {"error"}, "gradients": {"ok"}}, report["implementations"]
    assert "is out of bounds for" in json.dumps(report)
    assert "context is lost" not in json.dumps(report)
