"""Benches recorded on an H100: published settings reach what was measured before; a window costs what it must."""

import re
from pathlib import Path
from typing import Any

import pytest

from attncheck.render import interface
from attncheck.semantics.growth import growth
from tests.gpu.reports import stored, wire

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PASSES = ((4096, False), (8192, False), (4096, True), (8192, True))


def bench(name: str) -> dict[str, Any]:
    return wire(f"bench_{name}")


def cell(
    found: dict[str, Any],
    subject: str,
    mask: str,
    length: int,
    *,
    head_dim: int = 128,
    backward: bool = False,
    level: str = "kernel",
    dtype: str = "bfloat16",
) -> dict[str, Any]:
    wanted = {
        "subject": subject,
        "mask": mask,
        "kv_len": length,
        "head_dim": head_dim,
        "backward": backward,
        "level": level,
        "dtype": dtype,
    }
    (only,) = [entry for entry in found["bench"]["cells"] if wanted.items() <= entry["case"].items()]
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
    """As the run fitted it, and as pages of it fit it today, without calls marked as bound by their launch."""
    found = stored("bench_swa").bench
    assert found is not None
    ran, today = (
        {entry.subject: entry.exponent for entry in entries if entry.mask == "window 1024"}
        for entries in (found.growth, growth(found.cells))
    )
    for exponents, marked in ((ran, ("flash-attn-4", "cudnn-graph")), (today, ())):
        for subject in ("sdpa", "sdpa-cudnn", "sdpa-efficient"):
            assert exponents[subject] == pytest.approx(2, abs=0.1)
        for subject in ("flash-attn-2", "flex_attention", *marked):
            assert exponents[subject] == pytest.approx(1, abs=0.1)


def test_the_window_through_a_mask_is_a_slow_path() -> None:
    found = bench("swa")
    masked, kernel = (cell(found, subject, "window 1024", 16384)["median"] for subject in ("sdpa", "flash-attn-2"))
    assert 14 < masked / kernel < 17
    assert masked > 4 * cell(found, "sdpa", "causal", 16384)["median"]
    slow = [finding["message"] for finding in found["findings"] if finding["slug"] == "slow-path"]
    assert any(message.startswith("sdpa takes") and "window 1024" in message for message in slow)


def beside(found: dict[str, Any], subject: str, other: str, mask: str, length: int, backward: bool) -> float:
    """The subject's time by the other's."""
    mine, its = (cell(found, name, mask, length, backward=backward)["median"] for name in (subject, other))
    return float(mine / its)


def test_sdpa_without_a_mask_takes_cudnn_and_less_time_than_flash_attn_2() -> None:
    found = bench("noncausal")
    for length, backward in PASSES:
        assert cell(found, "sdpa", "full", length, backward=backward)["kernel"] == "cudnn"
        assert beside(found, "sdpa", "flash-attn-2", "full", length, backward) < 0.7
        assert 1 < beside(found, "sdpa", "flash-attn-4", "full", length, backward) < 1.2
        assert 1 < beside(found, "sdpa-flash", "flash-attn-2", "full", length, backward) < 1.12
        assert beside(found, "sdpa-efficient", "flash-attn-2", "full", length, backward) > 2


def test_what_is_not_installed_is_not_run_and_the_articles_figures_are_no_measurements() -> None:
    found = bench("noncausal")
    xformers = cell(found, "xformers", "full", 2048)
    assert (xformers["outcome"], xformers["median"], xformers["detail"]) == (
        "not_run",
        None,
        "xformers is not installed",
    )
    (said,) = found["bench"]["published"].values()
    assert "12 %" in said
    assert "not verified" in said


def test_a_layer_in_float32_leaves_cudnn_and_takes_several_times_as_long() -> None:
    found = bench("noncausal")
    for backward in (False, True):
        single, half = (
            cell(found, "sdpa", "causal", 8192, backward=backward, level="layer", dtype=dtype)
            for dtype in ("float32", "bfloat16")
        )
        assert (single["kernel"], half["kernel"]) == ("efficient", "cudnn")
        assert 5 < single["median"] / half["median"] < 9


def test_switching_flash_off_costs_time_first_and_memory_only_without_any_fused_kernel() -> None:
    found = bench("no_flash")
    for backward in (False, True):
        assert 1.8 < beside(found, "sdpa-efficient", "sdpa-flash", "causal", 8192, backward) < 2.3
        assert beside(found, "eager", "sdpa-flash", "causal", 8192, backward) > 5
        assert beside(found, "sdpa-math", "eager", "causal", 8192, backward) > 2.5
        memory = {
            name: cell(found, name, "causal", 8192, backward=backward)["peak_memory_bytes"]
            for name in ("sdpa-flash", "sdpa-efficient", "eager", "sdpa-math")
        }
        assert memory["sdpa-efficient"] < memory["sdpa-flash"] < memory["eager"] / 30 < memory["sdpa-math"] / 30


def readme_rows() -> list[str]:
    """The rows that the README has of two presets, written from the recorded figures."""
    full, off = bench("noncausal"), bench("no_flash")
    rows = []
    for words, name in (
        ("`sdpa` as torch runs it here: cuDNN's kernel", "sdpa"),
        ("`sdpa-flash`: torch's own flash kernel", "sdpa-flash"),
        ("`sdpa-efficient`", "sdpa-efficient"),
        ("`flash-attn-4`", "flash-attn-4"),
    ):
        figures = (beside(full, name, "flash-attn-2", "full", *one) for one in PASSES)
        rows.append(f"| {words} | " + " | ".join(f"{ratio - 1:+.0%}".replace("%", " %") for ratio in figures) + " |")
    for name in ("sdpa", "sdpa-flash", "sdpa-efficient", "eager", "sdpa-math"):
        cells = []
        for backward in (False, True):
            found = cell(off, name, "causal", 8192, backward=backward)
            milliseconds = found["median"] * 1e3
            cells += [
                f"{milliseconds:.{2 if milliseconds < 10 else 1}f} ms",
                f"{beside(off, name, 'sdpa-flash', 'causal', 8192, backward):.1f}x",
                f"{found['peak_memory_bytes'] / 2**20:,.0f} MiB",
            ]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return rows


@pytest.mark.parametrize("row", readme_rows(), ids=lambda row: str(row).split("|")[1].strip())
def test_the_readme_has_the_figures_of_the_recorded_presets(row: str) -> None:
    assert row in README.splitlines()


@pytest.mark.parametrize(("name", "above"), [("headline", True), ("noncausal", False)])
def test_a_share_above_all_is_explained(name: str, above: bool) -> None:
    """The matrix product was read once, at the power limit; some calls held a higher clock."""
    text = " ".join(interface.render(stored(f"bench_{name}"), "terminal").split())
    assert ("above 100%: the device held another clock" in text) is above
    assert (re.search(r" 1[01]\d% ", text) is not None) is above


@pytest.mark.parametrize("name", ["headline", "swa", "noncausal", "no_flash", "mistral"])
def test_little_time_goes_to_the_tool_itself_and_no_figure_is_negative(name: str) -> None:
    found = bench(name)["bench"]
    assert found["complete"]
    assert 1 - found["timed"] / found["wall"] < 0.15
    assert all((entry["peak_memory_bytes"] or 0) >= 0 for entry in found["cells"])


def test_a_whole_model_takes_at_most_90_seconds_beside_first_calls_with_little_of_them_the_tools() -> None:
    found = bench("mistral")["bench"]
    rest = found["wall"] - sum(entry["first_call"] or 0 for entry in found["cells"])
    assert rest < 90
    assert (found["wall"] - found["timed"]) / rest < 0.15
