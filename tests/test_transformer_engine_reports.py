"""`attncheck compare --framework transformer-engine` from the command line, on a machine without a GPU."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from attncheck import cli

SCHEMA = json.loads(files("attncheck.render").joinpath("report.schema.json").read_text(encoding="utf-8"))
MISTRAL = "mistralai/Mistral-7B-v0.1"


def compare(*arguments: str, model: str = MISTRAL) -> tuple[int, dict[str, Any]]:
    command = ["compare", model, "--offline", "--framework", "transformer-engine", *arguments, "--format", "json"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    report = json.loads(result.stdout)
    jsonschema.validate(report, SCHEMA)
    return result.exit_code, report


def told(*arguments: str) -> tuple[int, str]:
    command = ["compare", MISTRAL, "--offline", "--framework", "transformer-engine", *arguments]
    result = CliRunner().invoke(cli.app, command)
    return result.exit_code, result.output


def test_the_incident_as_megatron_users_meet_it_and_its_fix() -> None:
    code, report = compare("--framework-set", "window_size=4096,0", "--use", "train")
    assert code == 1
    (error,) = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert (error["slug"], error["implementation"], error["basis"]) == (
        "window-off-by-one",
        "transformer-engine",
        "static",
    )
    assert error["layers"] == list(range(32))
    assert "--framework transformer-engine --framework-set window_size=4096,0" in error["reproduction"]
    (paste,) = error["recommendations"][0]["paste"]["transformer-engine"]
    assert paste == 'window_size=(4095, 0), attn_mask_type="causal"'
    code, report = compare("--framework-set", "window_size=4095,0", "--use", "train")
    assert code == 0
    assert [finding["severity"] for finding in report["findings"]] == ["note"]
    cells = {cell["kernel"]: cell for cell in report["matrix"] if cell["scenario"] == "plain"}
    assert {name: cell["verdict"] for name, cell in cells.items()} == {"": "ok", "unfused": "ok"}
    assert {cell["basis"] for cell in cells.values()} == {"static"}


@pytest.mark.parametrize("typed", [True, False])
def test_the_command_repeats_the_variables(typed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without them would select another backend."""
    setting = ("--framework-set", "window_size=4096,0", "--use", "train")
    version = ("--framework-version", "2.20.2")
    if typed:
        setting = ("--framework-set", "NVTE_FUSED_ATTN=0", *setting)
    else:
        monkeypatch.setenv("NVTE_FUSED_ATTN", "0")
    for text in (compare(*version, *setting)[1]["findings"][0]["reproduction"], told(*version, *setting)[1]):
        start = "attncheck" if typed else "NVTE_FUSED_ATTN=0 attncheck"
        assert f"{start} compare {MISTRAL} --framework transformer-engine" in text
        assert ("--framework-set NVTE_FUSED_ATTN=0" in text) is typed
        assert ("NVTE_FUSED_ATTN=0 attncheck" in text) is not typed


def test_an_old_release_by_its_number() -> None:
    code, report = compare("--framework-version", "1.11.0", "--framework-set", "window_size=4095,0", "--use", "train")
    assert code == 1
    (error,) = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert "TransformerEngine#1197" in error["message"]


def test_a_run_that_cannot_start_is_said_so() -> None:
    code, report = compare("--framework-version", "2.5.0", "--framework-set", "softmax_type=learnable")
    assert code == 1
    assert [finding["slug"] for finding in report["findings"] if finding["severity"] == "error"] == ["run-fails"]
    assert report["matrix"] == []


def test_no_transformers_implementation_is_probed_beside_it() -> None:
    _, report = compare("--framework-set", "window_size=4095,0", "--use", "train")
    assert {entry["name"] for entry in report["implementations"]} == {"transformer-engine"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--framework-set", "window_size=many"), "two whole numbers"),
        (("--framework-set", "window=8,0"), "no such setting"),
        (("--framework-set", "window_size"), "is not key=value"),
        (("--framework-version", "newest"), "is no version"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: tuple[str, ...], words: str) -> None:
    code, output = told(*arguments)
    assert code == 2
    assert words in output
    assert "Traceback" not in output
