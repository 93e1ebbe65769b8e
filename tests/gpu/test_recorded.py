"""Reports recorded on a real GPU: they stay readable, name the GPU, hold what was measured, and are judged the same."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from attncheck.checks import kernel_numbers, registry
from attncheck.checks.kernels import broken_contracts
from attncheck.checks.machine import Machine
from attncheck.render import interface
from attncheck.render.json import schema, to_wire
from attncheck.semantics.convention import Ability, Outcome
from attncheck.semantics.observation import Basis
from attncheck.stored.report import read
from tests.gpu.reports import RECORDED, stored, wire

PATHS = sorted(RECORDED.glob("*.json"))
CORE = ("plain", "left-pad", "right-pad", "decode", "chunked-prefill")
FLASH = ("flash_attention_2", "flash_attention_4")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_recorded_reports_parse_forever(path: Path) -> None:
    found = json.loads(path.read_text())
    jsonschema.validate(found, schema())
    assert "H100" in json.dumps(found["environment"])
    again = to_wire(read(str(path)))
    assert again["summary"] == found["summary"]
    assert len(again["findings"]) == len(found["findings"])
    for now, then in zip(again["findings"], found["findings"]):  # findings have gained fields since
        assert {key: now[key] for key in then} == then


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", ["terminal", "markdown"])
def test_recorded_reports_are_shown_as_pages(path: Path, name: str) -> None:
    report = read(str(path))
    page = interface.render(report, name, interface.Style(width=80, unicode=False))
    assert "H100" in page
    for finding in report.findings:
        assert finding.code in page


def listed() -> dict[str, int]:
    """File -> exit code, as the table of recorded/README.md has them."""
    table = (RECORDED / "README.md").read_text(encoding="utf-8")
    return {name: int(code) for name, code in re.findall(r"^\| `([\w-]+)\.json` \|.*\| (\d) \|$", table, re.M)}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_table_names_every_report_and_its_exit_code(path: Path) -> None:
    if path.stem.startswith("unsloth_"):  # not written by a command: one row names them all
        assert path.stem not in listed()
        return
    assert listed()[path.stem] == wire(path.stem)["summary"]["exit_code"]


def errors(found: dict[str, Any]) -> set[tuple[str, str, str, str]]:
    return {
        (finding["slug"], finding["implementation"], finding["part"], finding["basis"])
        for finding in found["findings"]
        if finding["severity"] == "error"
    }


def test_mistral_is_right_in_every_core_scenario_on_real_kernels() -> None:
    found = wire("mistral")
    names = {entry["name"]: entry for entry in found["implementations"]}
    assert {entry["basis"] for entry in names.values()} == {"measured"}
    assert set(names) == {"eager", "sdpa", *FLASH}
    core = [cell for cell in found["matrix"] if cell["scenario"] in CORE and not cell["kernel"]]
    assert {cell["verdict"] for cell in core} == {"ok"}
    assert not errors(found)


@pytest.mark.parametrize("name", ["mistral", "qwen2_moe", "t5gemma", "gemma2"])
def test_the_profiler_names_the_kernels_that_ran(name: str) -> None:
    marks = {"flash_attention_2": "flash::flash_fwd", "flash_attention_4": "flash_attncuteflash_fwd"}
    entries = {entry["name"]: entry for entry in wire(name)["implementations"]}
    for implementation, mark in marks.items():
        launched = entries[implementation]["launched"]
        assert launched
        assert all(mark in kernel["name"] for kernel in launched)
    assert {kernel["kernel"] for kernel in entries["sdpa"]["launched"]} >= {"", "math", "efficient", "cudnn"}


def test_real_flash_attention_loses_what_was_predicted_without_a_gpu() -> None:
    window_lost = {("window-ignored", name, "decoder", "measured") for name in FLASH}
    assert errors(wire("qwen2_moe")) == window_lost
    assert errors(wire("t5gemma")) >= {("window-off-by-one", name, "encoder", "measured") for name in FLASH}


def test_gemma2_told_to_look_ahead_does_so_under_flash_attention_and_not_under_eager() -> None:
    found = wire("gemma2")
    full_layers = {
        cell["implementation"]: (cell["verdict"], cell["difference"])
        for cell in found["matrix"]
        if cell["layers"][0] == 1 and cell["variant"] == "no-mask" and not cell["kernel"]
    }
    assert {name: full_layers[name] for name in ("eager", *FLASH)} == {
        "eager": ("mismatch", "causal-unexpected"),
        "flash_attention_2": ("ok", None),
        "flash_attention_4": ("ok", None),
    }


def test_windowed_layers_of_gemma2_that_should_look_ahead_stay_causal_under_eager_and_sdpa() -> None:
    found = wire("gemma2")
    windowed = {
        (cell["implementation"], cell["variant"]): (cell["verdict"], cell["difference"])
        for cell in found["matrix"]
        if cell["layers"][0] == 0 and not cell["kernel"]
    }
    wrong, unknown = ("mismatch", "causal-unexpected"), ("unknown", None)
    assert windowed == {
        **{(name, variant): wrong for name in ("eager", "sdpa") for variant in ("no-mask", "ones-mask")},
        **{(name, variant): unknown for name in FLASH for variant in ("no-mask", "ones-mask")},
    }
    reach = {cell["implementation"]: cell["reach"] for cell in found["matrix"] if "reach" in cell}
    assert reach == {"eager": [7, 0], "sdpa": [7, 0], "flash_attention_2": [7, 7], "flash_attention_4": [7, 7]}
    assert errors(found) == {
        ("causal-unexpected", "eager", "decoder", "measured"),
        ("causal-unexpected", "sdpa", "decoder", "measured"),
        ("softcap-dropped", "sdpa", "decoder", "measured"),
    }


def test_heads_of_512_are_refused_by_flash_attention_and_measured_right_under_sdpa() -> None:
    found = wire("gemma3_head_dim_512")
    assert errors(found) == {("shape-unsupported", "flash_attention_2", "decoder", "measured")}
    outcomes: dict[str, set[str]] = {}
    for shape in found["shapes"]:
        assert shape["shape"]["head_dim"] == 512
        outcomes.setdefault(shape["api"], set()).add(shape["outcome"])
        assert shape["outcome"] == "refused" or (shape["mask_ok"] and shape["backward"] == "read")
    refused = {"flash-attn-2", "flash-attn-2-varlen", "sdpa-flash", "sdpa-cudnn"}
    assert {api for api, seen in outcomes.items() if seen == {"refused"}} == refused
    assert outcomes["sdpa-math"] == {"read"}
    assert found["recommended"]["implementation"] == "sdpa"
    said = {finding["implementation"]: finding for finding in found["findings"]}
    assert "at most 256" in said["flash_attention_2"]["evidence"]["effective"]
    assert (said["sdpa"]["severity"], said["sdpa"]["kernel"]) == ("warning", "sdpa-math")  # without a mask


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("unsloth_qwen2_4bit_train", "window-ignored"),
        ("unsloth_llama_4bit_train_block", "mask-dropped"),
        ("unsloth_llama_kept_train_block", None),
    ],
)
def test_unsloth_does_the_same_in_4_bit_and_keeps_the_mask_when_told_to(name: str, slug: str | None) -> None:
    found = wire(name)
    (cell,) = found["matrix"]
    assert (cell["difference"], cell["basis"]) == (slug, "measured")
    assert {entry[0] for entry in errors(found)} == ({slug} if slug else set())
    assert found["framework"]["version"] == "2026.10.9"


def unsloth_rows(name: str, case: str) -> dict[tuple[str, str], list[str]]:
    """(mode, batch) -> the other columns of one case in a summary of the Unsloth campaign."""
    lines = (RECORDED / f"{name}.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith(f"| {case} |")]
    return {(row[1], row[2]): row[3:] for row in cells if row[2] != "one step"}


@pytest.mark.parametrize("case", ["llama", "mistral", "qwen2"])
def test_two_runs_of_the_unsloth_campaign_say_the_same_and_so_do_weights_of_4_bit(case: str) -> None:
    first = unsloth_rows("unsloth_summary", f"{case}-lora")
    assert len(first) >= 20
    assert unsloth_rows("unsloth_summary_4bit", f"{case}-lora") == first
    assert unsloth_rows("unsloth_summary_4bit", f"{case}-4bit-lora") == first


def test_true_sizes_of_mistral_are_right_on_real_kernels() -> None:
    shapes = wire("mistral")["shapes"]
    read_there = [shape for shape in shapes if shape["outcome"] == "read"]
    assert {shape["api"] for shape in read_there} >= {"flash-attn-2", "flash-attn-4", "sdpa-cudnn", "sdpa-efficient"}
    assert all(shape["mask_ok"] and shape["heads_ok"] and shape["backward"] == "read" for shape in read_there)
    assert {shape["shape"]["window"][0] for shape in read_there} == {4095}


def rows(api: str, call: str) -> list[dict[str, Any]]:
    found = [row for row in wire("doctor")["conventions"] if (row["api"], row["call"]) == (api, call)]
    assert found, f"{api} {call}"
    return found


@pytest.mark.parametrize(
    ("api", "call", "keys"),
    [
        ("flash-attn-2", "window_size=(8, 0)", 9),
        ("flash-attn-4", "window_size=(8, 0)", 9),
        ("cudnn-graph", "use_causal_mask=True, sliding_window_length=8", 8),
        ("te-fused", 'attn_mask_type="causal", window_size=(8, 0)', 9),
    ],
)
def test_what_eight_means(api: str, call: str, keys: int) -> None:
    row = rows(api, call)[0]
    assert (row["keys"], row["left"], row["right"], row["basis"]) == (keys, keys - 1, 0, "measured")


def test_flash_attention_4_and_what_hands_it_minus_one_give_nothing_but_zeros() -> None:
    for api, call in (
        ("flash-attn-4", "causal=True, window_size=(-1, 0)"),
        ("te-flash-4", 'attn_mask_type="causal", window_size=(-1, 0)'),
    ):
        row = rows(api, call)[0]
        assert row["agrees"] is False
        assert "all 64 output rows are exactly 0" in row["detail"]


def test_diagonals() -> None:
    (torch_row,) = [row for row in rows("sdpa-math", "is_causal=True") if (row["q_len"], row["kv_len"]) == (32, 64)]
    (flash_row,) = [row for row in rows("flash-attn-2", "causal=True") if (row["q_len"], row["kv_len"]) == (32, 64)]
    assert (torch_row["alignment"], flash_row["alignment"]) == ("top-left", "bottom-right")


def test_rows_without_keys() -> None:
    values = {row["api"]: row["value"] for row in wire("doctor")["abilities"] if row["feature"] == "empty-rows"}
    assert values["sdpa-cudnn"].startswith("bool: row sum 1")
    assert values["sdpa-math"].startswith("bool: 0")
    assert values["sdpa-efficient"].startswith("bool: 0")


def doctors_machine() -> Machine:
    """The machine of the recorded doctor, as far as it is stored."""
    report = stored("doctor")
    return Machine(report.environment, torch=report.torch, conventions=report.conventions, abilities=report.abilities)


def test_a_workaround_that_is_known_is_the_one_fix_of_an_api_with_wrong_numbers() -> None:
    machine = doctors_machine()
    fixes = {
        finding.headline.partition(":")[0]: finding.recommendations for finding in kernel_numbers.wrong_outputs(machine)
    }
    assert [advice.settings[0].paste for advice in fixes["te-flash-4"]] == ["export NVTE_FLASH_ATTN_V4=0"]
    assert [advice.settings[0].paste for advice in fixes["sdpa-cudnn"]] == [
        "torch.backends.cuda.enable_cudnn_sdp(False)",
        "attn_mask = attn_mask.to(query.dtype)",
    ]
    (broken,) = [f for f in broken_contracts(machine) if f.message.startswith("te-flash-4")]
    assert [advice.settings[0].paste for advice in broken.recommendations] == ["export NVTE_FLASH_ATTN_V4=0"]


def test_what_no_known_workaround_mends_is_told_to_be_done_with_another_kernel() -> None:
    machine = doctors_machine()
    more = [
        Ability(api, "softcap", "ignored", Outcome.READ, Basis.MEASURED, agrees)
        for api, agrees in (("sdpa-cudnn", False), ("sdpa-math", True))
    ]
    machine = replace(machine, abilities=(*(machine.abilities or ()), *more))
    fixes = {f.headline.partition(":")[0]: f.recommendations for f in kernel_numbers.wrong_outputs(machine)}
    *known, last = fixes["sdpa-cudnn"]
    assert len(known) == 2
    assert last.text.startswith("Instead of sdpa-cudnn use one that was right here: ")
    assert "sdpa-math" in last.text
    elsewhere = replace(machine, environment=replace(machine.environment, libraries=()), torch=None)
    fixes = {f.headline.partition(":")[0]: f.recommendations for f in kernel_numbers.wrong_outputs(elsewhere)}
    (other,) = fixes["te-flash-4"]
    assert other.text.startswith("Instead of te-flash-4 use one that was right here: ")


def test_the_same_facts_give_the_same_findings_today() -> None:
    """What the rules said on the GPU machine, they say again of its stored facts."""
    report, machine = stored("doctor"), doctors_machine()
    kernels = {"kernel-contract-broken", "empty-rows-differ", "window-conventions-differ", "kernel-output-wrong"}
    again = {
        (finding.slug, finding.severity)
        for group in registry.groups()
        for check in group.machine
        if check.rule.slug in kernels
        for finding in check.judge(machine)
        if finding.slug in kernels
    }
    assert again == {(finding.slug, finding.severity) for finding in report.findings if finding.slug in kernels}
    assert {slug for slug, _ in again} == kernels


@pytest.mark.parametrize(("name", "window"), [("te_window", 1024), ("te_window_512", 512)])
def test_the_incident_of_transformer_engine(name: str, window: int) -> None:
    incident = stored(name).incident
    assert incident is not None
    assert incident.before > 1
    assert incident.after < 0.05
    seen = (incident.window, incident.distance, incident.first_query, incident.cells_after)
    assert seen == (window, window, window, 0)
    assert incident.cells == 2048 - window


def test_flash_attn_over_flash_attn_4_and_xformers_without_operators() -> None:
    found = {finding["slug"]: finding for finding in wire("clobbered_doctor")["findings"]}
    assert {found[slug]["severity"] for slug in ("files-clobbered", "operators-missing", "install-broken")} == {"error"}
    assert "ThrMma" in found["files-clobbered"]["message"]
    (fix,) = found["files-clobbered"]["recommendations"]
    assert fix["paste"]["pip"] == ["pip install --force-reinstall --no-deps flash-attn-4==4.0.0b36"]
    assert "xformers 0.0.35" in found["operators-missing"]["message"]
