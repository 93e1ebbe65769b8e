"""What the product promises to show, command by command, on the report that the command line writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jsonschema
from typer.testing import CliRunner

from attncheck import cli

CORE = {"plain", "left-pad", "right-pad", "decode", "chunked-prefill"}
MISTRAL = "mistralai/Mistral-7B-v0.1"
SCHEMA = json.loads(files("attncheck.render").joinpath("report.schema.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Run:
    """One `attncheck compare`: its exit code and its JSON report, valid against the schema that ships."""

    code: int
    report: dict[str, Any]

    @classmethod
    def of(cls, code: int, text: str) -> Run:
        report = json.loads(text)
        jsonschema.validate(report, SCHEMA)
        assert report["summary"]["exit_code"] == code
        return cls(code, report)

    def status(self, name: str) -> tuple[str, str | None]:
        """(status, basis) of an implementation."""
        entry = next(entry for entry in self.report["implementations"] if entry["name"] == name)
        return entry["status"], entry["basis"]

    def reasons(self, name: str) -> str:
        entry = next(entry for entry in self.report["implementations"] if entry["name"] == name)
        return " ".join(reason["text"] for reason in entry["reasons"])

    def verdicts(self, name: str, scenarios: set[str]) -> set[tuple[str, str | None]]:
        """(verdict, basis) of the cells of an implementation, where each of the scenarios has at least one."""
        cells = [cell for cell in self.report["matrix"] if cell["implementation"] == name]
        assert {cell["scenario"] for cell in cells} >= scenarios
        return {(cell["verdict"], cell["basis"]) for cell in cells if cell["scenario"] in scenarios}

    def findings(self, **wanted: Any) -> list[dict[str, Any]]:
        """The findings with these fields; a set stands for any of its members."""
        return [
            finding
            for finding in self.report["findings"]
            if all(
                finding[key] in value if isinstance(value, set) else finding[key] == value
                for key, value in wanted.items()
            )
        ]

    def slugs(self, **wanted: Any) -> set[str]:
        return {finding["slug"] for finding in self.findings(**wanted)}


def compare(*arguments: str) -> Run:
    """The command in this process, with the worker that the tests share."""
    result = CliRunner().invoke(cli.app, ["compare", *arguments, "--device", "cpu", "--offline", "--format", "json"])
    assert result.stderr == ""
    return Run.of(result.exit_code, result.stdout)


def test_mistral_is_right_and_its_traps_are_warnings() -> None:
    """In processes of its own, as a user runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "attncheck", "compare", MISTRAL, "--offline", "--device", "cpu", "--format", "json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert done.stderr == ""
    run = Run.of(done.returncode, done.stdout)
    assert run.code == 0
    assert run.report["model"]["source"] == "catalog"
    for name in ("eager", "sdpa", "flex_attention"):
        assert run.status(name) == ("ok", "measured")
        assert run.verdicts(name, CORE) == {("ok", "measured")}
        assert run.slugs(implementation=name, scenario={"packed", "packed-batch", "packed-cache"}) == {"packing-leak"}
    assert run.status("flash_attention_2") == ("ok", "predicted")
    assert run.verdicts("flash_attention_2", CORE) == {("ok", "predicted")}
    assert "window-ignored" in run.slugs(implementation="sdpa", scenario="custom-mask")
    assert {"window-ignored", "mask-dropped"} <= run.slugs(implementation="eager", scenario="custom-mask")
    assert {finding["severity"] for finding in run.findings(basis={"measured", "predicted"})} == {"warning"}
    assert not run.findings(severity="error")
    assert run.report["recommended"]["implementation"]


def test_with_packing_the_same_traps_are_errors(shared_worker: None) -> None:
    run = compare(MISTRAL, "--packing")
    assert run.code == 1
    packed = {"packed", "packed-batch", "packed-cache"}
    errors = run.findings(severity="error")
    assert {finding["slug"] for finding in errors} == {"packing-leak"}
    assert {finding["scenario"] for finding in errors} == packed
    assert {finding["implementation"] for finding in errors} >= {"eager", "sdpa", "flex_attention"}
    assert run.slugs(implementation="flash_attention_2", scenario="packed-batch", basis="predicted") == {"packing-leak"}
    assert run.verdicts("flash_attention_2", {"packed"}) == {("ok", "predicted")}
    assert not run.findings(severity="warning", scenario=packed)


def test_qwen2_moe_loses_its_window_under_flash(shared_worker: None) -> None:
    switched = ("--set", "use_sliding_window=true", "--set", "max_window_layers=1")
    run = compare("qwen2_moe", *switched, "--impl", "eager,sdpa,flash_attention_2")
    assert run.code == 1
    for name in ("eager", "sdpa"):
        assert run.status(name) == ("ok", "measured")
        assert run.verdicts(name, CORE) == {("ok", "measured")}
    assert run.status("flash_attention_2") == ("mismatch", "predicted")
    assert run.slugs(severity="error") == {"window-ignored"}
    errors = run.findings(severity="error")
    assert {finding["implementation"] for finding in errors} == {"flash_attention_2"}
    assert {finding["scenario"] for finding in errors} == CORE
    # Only the layers that declare a window are blamed for ignoring one.
    windowed = [
        group["layers"] for group in run.report["model"]["groups"] if group["declared"]["window"][0] is not None
    ]
    assert windowed == [[0]]
    assert {tuple(finding["layers"]) for finding in errors} == {(0,)}


def test_t5gemma_encoder_is_off_by_one_under_flash(shared_worker: None) -> None:
    run = compare("t5gemma", "--impl", "eager,sdpa,flash_attention_2")
    assert run.code == 1
    errors = run.findings(severity="error")
    assert {(finding["slug"], finding["part"], finding["implementation"], finding["basis"]) for finding in errors} == {
        ("window-off-by-one", "encoder", "flash_attention_2", "predicted")
    }
    plain = next(finding for finding in errors if finding["scenario"] == "plain")
    assert plain["evidence"]["declared"] == "reach 8 back and 8 ahead"
    assert plain["evidence"]["effective"] == "reach 7 back and 7 ahead"
    assert run.status("eager") == ("ok", "measured")
    assert run.status("sdpa") == ("rejected", None)
    assert "T5GemmaForConditionalGeneration" in run.reasons("sdpa")


def test_doge_ignores_causality_and_padding_under_flex(shared_worker: None) -> None:
    run = compare("doge", "--impl", "flex_attention")
    assert run.code == 1
    assert run.status("flex_attention") == ("mismatch", "measured")
    assert run.slugs(severity="error", scenario="plain", basis="measured") == {"causal-ignored"}
    assert run.slugs(severity="error", scenario="left-pad", basis="measured") == {"causal-ignored", "padding-ignored"}


def test_moshi_ignores_a_window_that_binds(shared_worker: None) -> None:
    run = compare("moshi", "--set", "sliding_window=1000", "--impl", "eager,sdpa")
    assert run.code == 1
    for name in ("eager", "sdpa"):
        assert run.status(name) == ("mismatch", "measured")
        assert run.slugs(implementation=name, severity="error") == {"window-ignored"}
    shared = run.findings(slug="config-not-honoured", scenario="plain")
    assert [(finding["severity"], finding["implementation"]) for finding in shared] == [("note", None)]
    assert "sliding_window" in shared[0]["message"]


def test_moshi_as_it_is_has_a_window_that_never_binds(shared_worker: None) -> None:
    run = compare("moshi", "--impl", "eager,sdpa")
    assert run.code == 0
    ignored = run.findings(slug="window-ignored", scenario=CORE)
    assert {finding["implementation"] for finding in ignored} == {"eager", "sdpa"}
    assert {finding["severity"] for finding in ignored} == {"note"}
    inert = run.findings(slug="window-inert")
    assert [finding["severity"] for finding in inert] == ["note"]
    assert "3000" in inert[0]["message"]


def test_qwen25_says_that_its_window_is_off_and_why(shared_worker: None) -> None:
    run = compare("Qwen/Qwen2.5-7B-Instruct")
    assert run.code == 0
    notes = run.findings(slug="window-inert", severity="note")
    assert len(notes) == 1
    assert "use_sliding_window is false" in notes[0]["message"]
    assert {tuple(group["declared"]["window"]) for group in run.report["model"]["groups"]} == {(None, 0)}


def test_a_window_longer_than_what_is_run_is_a_note(shared_worker: None) -> None:
    run = compare(MISTRAL, "--seq-len", "2048")
    assert run.code == 0
    notes = run.findings(slug="window-inert", severity="note")
    assert len(notes) == 1
    assert "4096" in notes[0]["message"]
    assert "2048" in notes[0]["message"]
    assert not run.findings(severity="error")
    assert not run.findings(severity="warning", slug="window-ignored")
