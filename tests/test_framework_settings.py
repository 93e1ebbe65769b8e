"""LLaMA-Factory's settings file on the command line: from the setting to the verdict, the fix, and what it mends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from attncheck import cli, pipeline
from attncheck.environment import read_environment
from attncheck.render import interface
from attncheck.stored import report as stored

SCHEMA = json.loads(files("attncheck.render").joinpath("report.schema.json").read_text(encoding="utf-8"))
CONFIG = {
    "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
    "max_position_embeddings": 32768, "sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 2,
}  # fmt: skip
SETTINGS = """\
model_name_or_path: model
stage: sft
do_train: true
flash_attn: fa2  # what the thread says
dataset: identity
template: qwen
cutoff_len: 8192
packing: true
neat_packing: true
bf16: true
output_dir: saves
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model whose window binds, and a settings file; no GPU and no flash-attn."""
    here = read_environment()
    kept = tuple(entry for entry in here.libraries if entry.name not in ("flash-attn", "llamafactory", "kernels"))
    monkeypatch.setattr(pipeline, "read_environment", lambda: replace(here, libraries=kept, gpus=()))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "train.yaml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON report, valid against the schema that ships."""
    done = CliRunner().invoke(cli.app, ["compare", *arguments, "--offline", "--device", "cpu", "--format", "json"])
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    assert report["summary"]["exit_code"] == done.exit_code
    return done.exit_code, report


def refused(*arguments: str) -> str:
    """The words of a command that ends with exit code 2."""
    done = CliRunner().invoke(cli.app, ["compare", *arguments, "--offline", "--device", "cpu"])
    assert done.exit_code == 2, done.stdout
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("attncheck: error: ")
    return done.stderr


def findings(report: dict[str, Any], slug: str) -> list[dict[str, Any]]:
    return [finding for finding in report["findings"] if finding["slug"] == slug]


@pytest.mark.usefixtures("shared_worker")
def test_neat_packing_loses_the_window_and_the_diff_mends_it(folder: Path) -> None:
    code, report = compare("train.yaml", "--framework-version", "0.9.5")
    assert code == 1
    section = report["framework"]
    assert (section["name"], section["version"], section["kind"]) == ("llama-factory", "0.9.5", "runs")
    assert section["implementation"] == "sdpa"
    assert section["lines"]["flash_attn"] == 4
    assert section["steps"][0]["line"] == 4
    assert [line["truth"] for line in section["warnings"]] == ["stale"]
    (lost,) = findings(report, "window-ignored")
    assert (lost["severity"], lost["basis"], lost["scenario"]) == ("error", "measured", "neat-packing")
    assert (lost["implementation"], lost["layers"]) == ("sdpa", [2, 3])
    cells = {(cell["implementation"], cell["scenario"]): cell for cell in report["matrix"] if cell["layers"] == [2, 3]}
    flash = cells["flash_attention_2", "neat-packing"]
    assert (flash["verdict"], flash["basis"]) == ("ok", "predicted")
    assert findings(report, "silent-fallback")[0]["severity"] == "warning"

    diff = lost["recommendations"][0]["paste"]["llama-factory"][0]
    if shutil.which("patch") is None:
        pytest.skip("needs the program `patch`")
    subprocess.run(["patch", "-p0"], input=diff + "\n", text=True, cwd=folder, check=True, capture_output=True)
    code, mended = compare("train.yaml", "--framework-version", "0.9.5")
    assert code == 0
    assert findings(mended, "window-ignored") == []


@pytest.mark.usefixtures("shared_worker", "folder")
def test_the_index_mask_of_0_9_4_does_not_survive_a_newer_transformers() -> None:
    code, report = compare(
        "train.yaml", "--framework-version", "0.9.4", "--impl", "flash_attention_2", "--scenario", "neat-packing-index"
    )
    assert code == 1
    variants = {cell["variant"]: cell["verdict"] for cell in report["matrix"] if cell["layers"]}
    assert variants == {"full-row": "ok", "padded-row": "mismatch", "two-rows": "mismatch"}


@pytest.mark.usefixtures("shared_worker", "folder")
def test_packing_alone_mixes_documents_and_is_a_warning() -> None:
    code, report = compare("train.yaml", "neat_packing=false", "--framework-version", "0.9.5")
    assert code == 0
    (leak,) = findings(report, "packing-leak")
    assert (leak["severity"], leak["scenario"], leak["implementation"]) == ("warning", "plain-packing", "sdpa")
    assert "neat_packing" in leak["recommendations"][0]["settings"]["llama-factory"]


@pytest.mark.usefixtures("shared_worker", "folder")
def test_a_value_that_yaml_makes_false_ends_the_run() -> None:
    Path("train.yaml").write_text(
        SETTINGS.replace("fa2  # what the thread says", "off").replace("true\nneat", "false\nneat")
    )
    code, report = compare("train.yaml", "neat_packing=false", "--framework-version", "0.9.5", "--scenario", "plain")
    assert code == 1
    (failing,) = findings(report, "run-fails")
    assert "flash_attn: off" in failing["message"]
    assert "-flash_attn: off\n+flash_attn: sdpa" in failing["recommendations"][0]["paste"]["llama-factory"][0]
    assert report["framework"]["kind"] == "fails"


@pytest.mark.usefixtures("shared_worker", "folder")
def test_without_a_file_settings_come_from_the_command_line() -> None:
    options = ("--framework", "llama-factory", "--framework-version", "0.9.3", "--scenario", "plain")
    code, report = compare("model", *options, "--framework-set", "flash_attn=disabled")
    assert code == 0
    assert report["framework"]["implementation"] == "eager"
    assert report["framework"]["version_from"] == "asked"


@pytest.mark.usefixtures("shared_worker")
def test_a_json_file_works_alike_and_a_config_stays_a_config(folder: Path) -> None:
    settings = {"model_name_or_path": "model", "stage": "sft", "do_train": True, "flash_attn": "sdpa"}
    (folder / "train.json").write_text(json.dumps(settings, indent=1))
    _, report = compare("train.json", "--scenario", "plain")
    assert report["framework"]["settings"]["flash_attn"] == "sdpa"
    _, plain = compare("model/config.json", "--scenario", "plain")
    assert "framework" not in plain
    (folder / "other.json").write_text(json.dumps(CONFIG))
    _, other = compare("other.json", "--scenario", "plain")
    assert "framework" not in other


@pytest.mark.usefixtures("shared_worker", "folder")
def test_every_format_shows_the_chain_and_the_stored_report_keeps_it(tmp_path: Path) -> None:
    _, report = compare("train.yaml", "--framework-version", "0.9.5", "--scenario", "plain")
    (tmp_path / "report.json").write_text(json.dumps(report))
    kept = stored.read(str(tmp_path / "report.json"))
    assert json.loads(interface.render(kept, "json"))["framework"] == report["framework"]
    for name in ("terminal", "markdown", "html"):
        text = " ".join(interface.render(kept, name).split())
        for words in ("LLaMA-Factory 0.9.5", "flash_attn: fa2", "line 4", "STALE", "sdpa"):
            assert words in text, (name, words)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flash_atn: fa2\n", "train.yaml, line 12: 'flash_atn' is no key of LLaMA-Factory"),
        ("shift_attn: 'yes'\n", "train.yaml, line 12: shift_attn is 'yes', a text, expected true or false"),
        ("\tshift_attn: true\n", "line 12 is not YAML: a tab"),
        ("x: !!python/object/apply:os.system ['touch executed']\n", "would construct an object; nothing was executed"),
        ("x: &x [*x, *x]\ny: {<<: *x}\n", "'x' is no key of LLaMA-Factory"),
        ("x: " + "y" * (10 << 20), "train.yaml is larger than 64 kB"),
    ],
)
def test_files_that_are_wrong_end_with_one_clear_line(text: str, words: str) -> None:
    Path("train.yaml").write_text(SETTINGS + text)
    said = refused("train.yaml")
    assert words in said.splitlines()[0]
    assert not Path("executed").exists()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.yaml",), "none.yaml: there is no such file"),
        (("train.yaml", "flash_attn"), "'flash_attn' is not key=value"),
        (("train.yaml", "cutoff_len=[1]"), "cutoff_len=[1]: it is a list, expected one value"),
        (("train.yaml", "hf_hub_token=[geheim]"), "hf_hub_token=<hidden>: it is a list, expected one value"),
        (("train.yaml", "--framework-version", "newest"), "--framework-version 'newest' is no version"),
        (
            ("model", "--framework", "llava", "--framework-set", "attn_implementation=fast"),
            "attn_implementation=fast: there is no such implementation",
        ),
        (("model", "flash_attn=sdpa"), "only one TARGET"),
        (("model", "--framework-set", "flash_attn=sdpa"), "no framework is named"),
        (("model", "--framework-version", "0.9.5"), "no framework is named"),
        (("train.yaml", "--framework", "nothing"), "there is no such framework"),
        (
            ("model", "--framework", "llama-factory", "--framework-set", "flash=1"),
            "the command line: 'flash' is no key",
        ),
    ],
)
def test_arguments_that_are_wrong_end_with_one_clear_line(arguments: tuple[str, ...], words: str) -> None:
    assert words in refused(*arguments)


@pytest.mark.usefixtures("folder")
def test_a_yaml_of_nobody_names_the_frameworks() -> None:
    Path("other.yaml").write_text("base_model: x\nsequence_len: 12\n")
    assert "no framework is known by these settings" in refused("other.yaml")


@pytest.mark.usefixtures("folder")
def test_a_named_pipe_is_not_waited_for() -> None:
    os.mkfifo("pipe.yaml")
    assert "pipe.yaml: it is no ordinary file" in refused("pipe.yaml")


@pytest.mark.usefixtures("shared_worker", "folder")
def test_tokens_stay_out_of_reports_and_a_folder_needs_no_revision() -> None:
    Path("train.yaml").write_text(SETTINGS + "hf_hub_token: geheim1\nmodel_revision: main\n")
    arguments = ("train.yaml", "ms_hub_token=geheim2", "--framework-version", "0.9.5", "--scenario", "plain")
    code, report = compare(*arguments, "--impl", "sdpa")
    assert code == 0
    assert "geheim" not in json.dumps(report)
    assert "ms_hub_token=<hidden>" in json.dumps(report)


@pytest.mark.usefixtures("shared_worker", "folder")
def test_what_runs_and_was_not_measured_is_no_verdict() -> None:
    code, report = compare(
        "gpt_oss", "--framework", "llama-factory", "--scenario", "plain", "--framework-version", "0.9.5"
    )
    assert code == 3
    assert report["framework"]["implementation"] == "kernels-community/vllm-flash-attn3"
    assert report["recommended"] is None


@pytest.mark.usefixtures("shared_worker", "folder")
def test_a_hub_kernel_is_not_proven_to_be_free_of_flash() -> None:
    options = ("--framework", "llama-factory", "--framework-version", "0.9.5", "--scenario", "plain")
    code, report = compare("gpt_oss", *options, "--without", "flash", "--fail-on", "never")
    assert code in (0, 3)
    (doubt,) = findings(report, "flash-not-proven")
    assert (doubt["basis"], doubt["implementation"]) == ("static", None)
    assert "kernels-community/vllm-flash-attn3" in doubt["message"]
