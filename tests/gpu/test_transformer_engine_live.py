"""The real TransformerEngine on a CUDA device: its settings as written, under each of its backends.

One run takes one to two minutes: every backend has a process of its own, and flash-attn-4 compiles its kernels.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from attncheck.environment import read_library

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        read_library("transformer-engine", "transformer_engine").version is None, reason="needs transformer-engine"
    ),
]

ROOT = Path(__file__).parents[2]
MISTRAL = "mistralai/Mistral-7B-v0.1"
with_flash_attn_4 = pytest.mark.skipif(
    read_library("flash-attn-4", "flash_attn.cute").version is None, reason="needs flash-attn-4"
)


@cache
def compare(model: str, *settings: str, **variables: str) -> dict[str, Any]:
    """The report; settings: key=value texts of --framework-set. variables: of the environment."""
    typed = [part for text in settings for part in ("--framework-set", text)]
    command = [sys.executable, "-m", "attncheck", "compare", model, "--offline", "--framework", "transformer-engine"]
    command += [*typed, "--use", "train", "--fail-on", "never", "--format", "json"]
    process = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=500, check=False, env={**os.environ, **variables}
    )
    report: dict[str, Any] = json.loads(process.stdout)
    return report


def plain(report: dict[str, Any]) -> dict[str, tuple[str, str | None, str | None]]:
    """kernel -> (verdict, basis, difference); "" is the one that runs."""
    cells = (cell for cell in report["matrix"] if cell["scenario"] == "plain")
    return {cell["kernel"]: (cell["verdict"], cell["basis"], cell["difference"]) for cell in cells}


def slugs(report: dict[str, Any], severity: str) -> set[str]:
    return {finding["slug"] for finding in report["findings"] if finding["severity"] == severity}


def test_one_key_more_is_measured_under_every_backend() -> None:
    report = compare(MISTRAL, "window_size=4096,0")
    found = plain(report)
    assert {"", "unfused"} <= set(found)
    assert set(found.values()) == {("mismatch", "measured", "window-off-by-one")}
    (error,) = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert "measured right with" in error["recommendations"][0]["text"]


def test_the_fix_is_measured_right() -> None:
    report = compare(MISTRAL, "window_size=4095,0")
    assert set(plain(report).values()) == {("ok", "measured", None)}
    assert slugs(report, "error") == set()


def test_what_it_selects_is_asked_of_itself() -> None:
    """And it is what its source was read to select: the two steps name the same backend."""
    steps = [step["does"] for step in compare(MISTRAL, "window_size=4095,0")["framework"]["steps"]]
    (read,) = [text for text in steps if " is selected (" in text]
    (asked,) = [text for text in steps if text.startswith("asked here, it selects ")]
    assert asked.removeprefix("asked here, it selects ").startswith(read.partition(" ")[0])


@with_flash_attn_4
def test_flash_attn_4_gets_minus_one_and_gives_nothing_but_zeros() -> None:
    report = compare("llama", NVTE_FUSED_ATTN="0")
    found = plain(report)
    assert found[""] == ("mismatch", "measured", "kernel-output-wrong")
    assert "kernel-output-wrong" in slugs(report, "error")
    assert found["flash"][0] == "ok"


@with_flash_attn_4
def test_flash_attn_2_in_its_place_is_right() -> None:
    report = compare("llama", NVTE_FUSED_ATTN="0", NVTE_FLASH_ATTN_V4="0")
    assert plain(report)[""] == ("ok", "measured", None)
    assert slugs(report, "error") == set()


def test_top_left_and_bottom_right() -> None:
    def short(report: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
        cells = (cell for cell in report["matrix"] if cell["scenario"] == "chunked-prefill")
        return {cell["kernel"]: (cell["verdict"], cell["difference"]) for cell in cells}

    top = short(compare(MISTRAL, "window_size=4095,0"))
    assert top["unfused"] == ("mismatch", "causal-misaligned")
    bottom = short(compare(MISTRAL, "window_size=4095,0", "attn_mask_type=causal_bottom_right"))
    assert bottom[""] == bottom["unfused"] == ("ok", None)
