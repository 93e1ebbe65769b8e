"""Benches recorded on an H100: published settings reach what was measured before; a window costs what it must."""

import json
from pathlib import Path
from typing import Any

import pytest

RECORDED = Path(__file__).parent / "recorded"


def bench(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RECORDED / f"bench_{name}.json").read_text())
    return loaded


def cell(found: dict[str, Any], subject: str, mask: str, length: int, head_dim: int = 128) -> dict[str, Any]:
    (only,) = [
        entry
        for entry in found["bench"]["cells"]
        if (entry["case"]["subject"], entry["case"]["mask"]) == (subject, mask)
        and (entry["case"]["kv_len"], entry["case"]["head_dim"]) == (length, head_dim)
    ]
    cell: dict[str, Any] = only
    return cell


@pytest.mark.parametrize(
    ("subject", "causal", "full"),
    [("flash-attn-4", 600, 690), ("cudnn-graph", 540, 600), ("sdpa-cudnn", 540, 600), ("flash-attn-2", 340, 365)],
)
def test_headline_figures(subject: str, causal: float, full: float) -> None:
    found = bench("headline")
    assert cell(found, subject, "causal", 8192)["tflops"] >= causal
    assert cell(found, subject, "full", 8192)["tflops"] >= full
    assert 0.4 < cell(found, subject, "full", 8192)["matrix_share"] < 1.05


def test_a_window_through_a_mask_grows_with_the_square_and_in_the_kernel_with_the_length() -> None:
    found = bench("swa")
    exponents = {
        entry["subject"]: entry["exponent"] for entry in found["bench"]["growth"] if entry["mask"] == "window 1024"
    }
    for subject in ("sdpa", "sdpa-cudnn", "sdpa-efficient"):
        assert exponents[subject] == pytest.approx(2, abs=0.1)
    for subject in ("flash-attn-2", "flash-attn-4", "cudnn-graph", "flex_attention"):
        assert exponents[subject] == pytest.approx(1, abs=0.1)


def test_the_window_through_a_mask_is_a_slow_path() -> None:
    found = bench("swa")
    masked, kernel = (cell(found, subject, "window 1024", 16384)["median"] for subject in ("sdpa", "flash-attn-2"))
    assert 14 < masked / kernel < 17
    assert masked > 4 * cell(found, "sdpa", "causal", 16384)["median"]
    slow = [finding["message"] for finding in found["findings"] if finding["slug"] == "slow-path"]
    assert any(message.startswith("sdpa takes") and "window 1024" in message for message in slow)


@pytest.mark.parametrize("name", ["headline", "swa"])
def test_little_time_goes_to_the_tool_itself_and_no_figure_is_negative(name: str) -> None:
    found = bench(name)["bench"]
    assert found["complete"]
    assert 1 - found["timed"] / found["wall"] < 0.15
    assert all((entry["peak_memory_bytes"] or 0) >= 0 for entry in found["cells"])
