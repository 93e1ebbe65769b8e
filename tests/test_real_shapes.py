"""`compare` on a machine without a GPU: true sizes that documented limits exclude are told, ordinary ones are quiet."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from attncheck import cli


def report(*arguments: str) -> dict[str, Any]:
    flags = ("--device", "cpu", "--offline", "--scenario", "plain", "--format", "json")
    result = CliRunner().invoke(cli.app, ["compare", *arguments, *flags])
    loaded: dict[str, Any] = json.loads(result.stdout)
    return loaded


def test_head_dim_512_is_a_warning_under_flash_attention(shared_worker: None) -> None:
    found = report("gemma4_text", "--impl", "sdpa,flash_attention_2")
    (finding,) = [entry for entry in found["findings"] if entry["slug"] == "shape-unsupported"]
    assert (finding["severity"], finding["basis"], finding["implementation"]) == (
        "warning",
        "static",
        "flash_attention_2",
    )
    wide = next(group for group in found["model"]["groups"] if group["declared"]["head_dim"] == 512)
    assert finding["layers"] == wide["layers"]
    assert finding["recommendations"][0]["text"].startswith("use sdpa")
    (reading,) = found["shapes"]
    assert (reading["outcome"], reading["basis"], reading["shape"]["head_dim"]) == ("refused", "static", 512)
    assert found["recommended"]["implementation"] == "sdpa"
    assert found["summary"]["exit_code"] == 0


def test_latent_heads_are_a_note_because_transformers_pads_them(shared_worker: None) -> None:
    found = report("deepseek_v3", "--impl", "sdpa,flash_attention_2")
    (finding,) = [entry for entry in found["findings"] if entry["slug"] == "shape-unsupported"]
    assert finding["severity"] == "note"
    assert "pads the values to 192" in finding["message"]


@pytest.mark.parametrize("target", ["llama", "mistralai/Mistral-7B-v0.1", "gemma2"])
def test_ordinary_models_are_quiet_without_a_gpu(target: str, shared_worker: None) -> None:
    found = report(target)
    assert "shapes" not in found
    assert not [entry for entry in found["findings"] if entry["variant"] == "real shape"]
