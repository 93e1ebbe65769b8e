"""Reports of the real TransformerEngine recorded on an H100; the commands stand in recorded/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attncheck import cli

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> dict[str, Any]:
    path = RECORDED / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path.name} was not recorded yet")
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def plain(report: dict[str, Any]) -> dict[str, tuple[str, str | None, str | None]]:
    """kernel -> (verdict, basis, difference); "" is the one that runs."""
    cells = (cell for cell in report["matrix"] if cell["scenario"] == "plain")
    return {cell["kernel"]: (cell["verdict"], cell["basis"], cell["difference"]) for cell in cells}


def errors(report: dict[str, Any]) -> list[str]:
    return [finding["slug"] for finding in report["findings"] if finding["severity"] == "error"]


def asked(report: dict[str, Any]) -> str:
    """What TransformerEngine said of itself."""
    (text,) = [s["does"] for s in report["framework"]["steps"] if s["does"].startswith("asked here, it selects ")]
    return str(text).removeprefix("asked here, it selects ")


def test_the_number_of_the_config_sees_one_key_more_under_every_backend() -> None:
    report = recorded("te_mistral_4096")
    assert set(plain(report)) == {"", "flash", "flash-4", "unfused"}
    assert set(plain(report).values()) == {("mismatch", "measured", "window-off-by-one")}
    assert errors(report) == ["window-off-by-one"]
    assert asked(report).startswith("FusedAttention")


def test_one_less_is_right_under_every_backend() -> None:
    report = recorded("te_mistral_4095")
    assert set(plain(report).values()) == {("ok", "measured", None)}
    assert errors(report) == []


def test_minus_one_and_flash_attn_4_give_zeros() -> None:
    report = recorded("te_llama_flash_4")
    found = plain(report)
    assert found[""] == ("mismatch", "measured", "kernel-output-wrong")
    assert {found[kernel][0] for kernel in ("flash", "fused", "unfused")} == {"ok"}
    assert errors(report) == ["kernel-output-wrong"]
    assert asked(report).startswith("FlashAttention (4.")


def shown(name: str) -> str:
    """The page in the terminal, on one line."""
    recorded(name)
    result = CliRunner().invoke(cli.app, ["render", str(RECORDED / f"{name}.json")])
    assert result.exit_code in (0, 1), result.output
    return " ".join(result.output.split())


def test_flash_attn_2_in_its_place() -> None:
    report = recorded("te_llama_flash_2")
    assert plain(report)[""] == ("ok", "measured", None)
    assert errors(report) == []
    assert asked(report).startswith("FlashAttention (2.")


def test_flash_attn_2_is_right_whatever_flash_attn_4_does() -> None:
    page = shown("te_llama_flash_2")
    assert "right in 1 scenario (measured)" in page
    assert "mind kernel-output-wrong" not in page
    assert "plain ✓ ok, but not flash-4" in page


@pytest.mark.parametrize("name", ["te_llama_flash_2", "te_llama_flash_4", "te_mistral_4096"])
def test_counts_that_do_not_say_of_which_keys_they_are_left_out(name: str) -> None:
    """These reports were written before the number of chosen keys stood beside the counts."""
    assert any(finding["evidence"]["leaked"] + finding["evidence"]["missed"] for finding in recorded(name)["findings"])
    assert " cells " not in shown(name)
