"""Real defects of old transformers releases are found there, and not found where they are mended."""

from __future__ import annotations

import pytest
from environments import compare, slugs

pytestmark = pytest.mark.legacy

QWEN2 = (
    "qwen2",
    "--set",
    "use_sliding_window=true",
    "--set",
    "sliding_window=4096",
    "--set",
    "max_window_layers=0",
    "--impl",
    "sdpa",
)
MISTRAL = ("mistral", "--set", "sliding_window=4096", "--impl", "flash_attention_2")


def version_of(report):
    return next(entry["version"] for entry in report["environment"]["libraries"] if entry["name"] == "transformers")


def errors(report, implementation):
    return [
        finding
        for finding in report["findings"]
        if finding["implementation"] == implementation and finding["severity"] == "error"
    ]


def ok_scenarios(report, implementation, basis):
    """The scenarios whose cells were all right, on that basis."""
    cells = [cell for cell in report["matrix"] if cell["implementation"] == implementation and cell["basis"] == basis]
    wrong = {cell["scenario"] for cell in cells if cell["verdict"] == "mismatch"}
    return {cell["scenario"] for cell in cells if cell["verdict"] == "ok"} - wrong


def test_qwen2_window_is_ignored_by_sdpa_in_4_48_3(release):
    """huggingface/transformers#35924."""
    code, report = compare(*QWEN2, path=release("4.48.3"))
    assert version_of(report) == "4.48.3"
    assert ("window-ignored", "measured") in slugs(report, "sdpa", "plain")
    assert code == 1


def test_qwen2_window_is_kept_by_the_installed_release():
    code, report = compare(*QWEN2)
    assert version_of(report).startswith("5.")
    assert not errors(report, "sdpa")
    assert "plain" in ok_scenarios(report, "sdpa", "measured")
    assert code == 0


def test_mistral_flash_window_is_one_too_long_in_4_55_4(release):
    """huggingface/transformers#39408, mended in 4.56.0."""
    code, report = compare(*MISTRAL, path=release("4.55.4"))
    assert version_of(report) == "4.55.4"
    assert ("window-off-by-one", "predicted") in slugs(report, "flash_attention_2", "plain")
    assert code == 1


def test_mistral_flash_window_is_right_in_the_installed_release():
    code, report = compare(*MISTRAL)
    assert not errors(report, "flash_attention_2")
    assert {"plain", "decode"} <= ok_scenarios(report, "flash_attention_2", "predicted")
    assert code == 0


def test_healthy_pairs_of_the_old_releases_stay_quiet(release):
    """The same releases with what they treat well: eager and sdpa of a windowed Mistral, in the core scenarios."""
    core = "plain,left-pad,right-pad,decode,chunked-prefill"
    for version in ("4.48.3", "4.55.4"):
        code, report = compare(*MISTRAL[:3], "--impl", "eager,sdpa", "--scenario", core, path=release(version))
        assert not slugs(report, "eager") | slugs(report, "sdpa"), version
        assert code == 0, version
