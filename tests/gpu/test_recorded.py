"""Reports recorded on a real GPU: they stay valid, name the GPU, and hold what was measured there."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from attncheck.render.json import schema

RECORDED = Path(__file__).parent / "recorded"
CORE = ("plain", "left-pad", "right-pad", "decode", "chunked-prefill")


def report(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return loaded


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_recorded_reports_parse_forever(path: Path) -> None:
    found = json.loads(path.read_text())
    jsonschema.validate(found, schema())
    assert "H100" in json.dumps(found["environment"])


def errors(found: dict[str, Any]) -> set[tuple[str, str, str, str]]:
    return {
        (finding["slug"], finding["implementation"], finding["part"], finding["basis"])
        for finding in found["findings"]
        if finding["severity"] == "error"
    }


def test_mistral_is_right_in_every_core_scenario_on_real_kernels() -> None:
    found = report("mistral")
    names = {entry["name"]: entry for entry in found["implementations"]}
    assert {entry["basis"] for entry in names.values()} == {"measured"}
    assert set(names) == {"eager", "sdpa", "flex_attention", "flash_attention_2"}
    core = [cell for cell in found["matrix"] if cell["scenario"] in CORE and not cell["kernel"]]
    assert {cell["verdict"] for cell in core} == {"ok"}
    assert not errors(found)


def test_real_flash_attention_loses_what_was_predicted_without_a_gpu() -> None:
    assert errors(report("qwen2_moe")) == {("window-ignored", "flash_attention_2", "decoder", "measured")}
    assert ("window-off-by-one", "flash_attention_2", "encoder", "measured") in errors(report("t5gemma"))
