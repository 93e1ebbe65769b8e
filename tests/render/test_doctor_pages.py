"""The doctor's page in the terminal: golden pages, and what must hold whatever a machine is like."""

from __future__ import annotations

import dataclasses

import pytest
from syrupy.assertion import SnapshotAssertion

from attncheck.findings import Finding, Severity
from attncheck.installed.state import TorchState
from attncheck.render import installed, interface
from attncheck.render.interface import Style
from attncheck.report import Check, Report
from attncheck.semantics.convention import Convention, Outcome
from attncheck.semantics.spec import Alignment
from tests import sample_machines

PAGES = {
    "h100": sample_machines.h100_report,
    "sound": sample_machines.sound_report,
    "cpu": sample_machines.cpu_report,
    "static": sample_machines.static_report,
}
PASTEABLE = ("pip install", "python -c", "memory_efficient_attention(q")


def page(report: Report, **style: object) -> str:
    return interface.render(report, "terminal", Style(**style))  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_the_one_that_was_looked_at(name: str, width: int, snapshot: SnapshotAssertion) -> None:
    assert page(PAGES[name](), width=width) == snapshot


def test_the_ascii_page_is_the_one_that_was_looked_at(snapshot: SnapshotAssertion) -> None:
    assert page(sample_machines.h100_report(), unicode=False) == snapshot


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140])
@pytest.mark.parametrize("name", PAGES)
def test_only_lines_to_paste_are_wider_than_the_page(name: str, width: int) -> None:
    for line in page(PAGES[name](), width=width).splitlines():
        assert len(line) <= width or any(words in line for words in PASTEABLE), line


@pytest.mark.parametrize("name", PAGES)
def test_ascii_keeps_the_layout_and_colour_adds_only_escape_codes(name: str) -> None:
    plain = page(PAGES[name]())
    ascii_only = page(PAGES[name](), unicode=False)
    assert ascii_only.isascii()
    assert "?" not in ascii_only.replace("?", "", plain.count("?"))
    assert [len(line) for line in ascii_only.splitlines()] == [len(line) for line in plain.splitlines()]
    assert "\x1b[" not in plain
    assert "\x1b[" in page(PAGES[name](), colour="truecolor")


def test_several_defects_stand_in_a_line_each() -> None:
    listed = Finding("ATC840", "known-bad-version", Severity.NOTE, "2: one; two", None, headline="2:\n- one\n- two")
    report = dataclasses.replace(sample_machines.sound_report(), findings=(listed,))
    assert "\n  2:\n  - one\n  - two\n" in page(report)
    assert "\n2:\n\n- one\n- two\n" in interface.render(report, "markdown")
    raised = dataclasses.replace(listed, headline="it broke\nwith a page\nof advice")
    assert "it broke ...\n" in page(dataclasses.replace(report, findings=(raised,)))


def second_line(report: Report) -> str:
    return page(report, width=140).splitlines()[1]


def test_the_first_line_says_whether_something_is_broken() -> None:
    assert second_line(sample_machines.h100_report()).startswith(
        "✗ broken: files-clobbered, operators-missing (2 errors)"
    )
    assert second_line(sample_machines.sound_report()) == "✓ nothing found broken, 1 note"


def test_warnings_alone_are_no_breakage() -> None:
    report = sample_machines.sound_report()
    (note,) = report.findings
    warned = dataclasses.replace(report, findings=(dataclasses.replace(note, severity=Severity.WARNING),))
    assert second_line(warned) == "! nothing is broken, but 1 warning: known-bad-version"


def test_checks_that_did_not_run_are_never_praise() -> None:
    report = sample_machines.cpu_report()
    assert second_line(report) == "✓ nothing found broken; 1 of 3 checks NOT RUN"
    idle = tuple(dataclasses.replace(check, status="not_run", reason="no") for check in report.checks)
    text = page(dataclasses.replace(report, checks=idle, implementations=()))
    assert text.splitlines()[1] == "○ no check was run"
    assert "nothing found" not in text


def test_only_a_sound_machine_hears_that_notes_can_be_ignored() -> None:
    advice = "If everything you use works, ignore the notes"
    assert advice in page(sample_machines.sound_report())
    assert advice not in page(sample_machines.h100_report())


def test_the_table_shows_what_people_trip_over() -> None:
    lines = page(sample_machines.h100_report(), width=120).splitlines()

    def line(*words: str) -> str:
        return next(line for line in lines if all(word in line for word in words))

    assert "9 keys" in line("flash-attn-2 ", "window_size=(W-1, 0)", "bottom-right")
    assert "8 keys" in line("cudnn-graph", "sliding_window_length=W")
    zeros = lines.index(line("✗", "causal=True, window_size=(-1, 0)"))
    assert "every output row is 0" in lines[zeros + 1]
    assert "✗" in line("row sum 1.0", "sdpa-cudnn")
    assert "top-left" in line("✓", "is_causal=True", "all")


def test_each_api_that_never_ran_says_why() -> None:
    text = page(sample_machines.h100_report(), width=120)
    assert "○ NOT RUN  flash-attn-3: flash-attn-3 is not installed" in text
    assert text.count("flash-attn-3 is not installed") == 2  # once for its calls, once for the implementation
    cpu = page(sample_machines.cpu_report(), width=120)
    assert "○ NOT RUN  flash-attn-2, sdpa-cudnn: no GPU" in cpu


def test_what_static_leaves_out_is_not_run_with_the_reason() -> None:
    text = page(sample_machines.static_report(), width=120)
    for part in ("convention table", "abilities", "torch"):
        assert part in text
    assert text.count("--static: nothing is imported, no kernel is run") == 4
    assert "measured" not in text.replace("attncheck compare measures", "")


def test_each_fact_has_its_source() -> None:
    text = " ".join(page(sample_machines.h100_report(), width=140).split())
    for source in ("NVML (nvidia-ml-py)", "package metadata", "torch/version.py", "wheel tag and ELF sections"):
        assert source in text
    assert "built for torch 2.10.0+cu128, CUDA 12.8, cp39; GPU code for 8.0, 9.0a" in text


def test_a_warning_of_doctor_has_the_command_that_mends_it() -> None:
    report = sample_machines.h100_report()
    warned = tuple(dataclasses.replace(finding, severity=Severity.WARNING) for finding in report.findings)
    assert "pip install --force-reinstall --no-deps flash-attn-4" in page(dataclasses.replace(report, findings=warned))


def found(code: str) -> Check:
    return Check(code, "finding")


def test_checks_are_listed_by_what_became_of_them() -> None:
    checks = (Check("ATC801", "ok"), *map(found, ("ATC803", "ATC840")), Check("ATC802", "not_run", "no GPU"))
    text = page(dataclasses.replace(sample_machines.h100_report(), checks=checks)).split("\nChecks\n")[1]
    assert "✗ error          ATC803 files-clobbered" in text
    assert "i note           ATC840 known-bad-version" in text
    assert "✓ nothing found  ATC801 install-broken" in text
    assert "○ NOT RUN        no GPU: ATC802 gpu-not-used" in text


def test_only_switches_that_differ_from_the_default_are_listed() -> None:
    usual = {"torch.backends.cudnn.benchmark": "False", "torch.get_default_dtype()": "torch.float32"}
    state = TorchState("2.13.0", flags=usual)
    assert ("switches", "all at torch's defaults", "", "") in installed.torch_facts(state)
    changed = TorchState("2.13.0", flags={**usual, "torch.backends.cudnn.benchmark": "True"})
    (fact,) = [fact for fact in installed.torch_facts(changed) if fact[0].startswith("switch")]
    assert fact[1:3] == ("torch.backends.cudnn.benchmark = True", "not torch's default")


def test_sdpa_kernels_that_are_off_are_named() -> None:
    flags = {f"torch.backends.cuda.{name}_sdp_enabled()": str(name != "cudnn") for name in ("flash", "math", "cudnn")}
    (fact,) = [f for f in installed.torch_facts(TorchState("2.13.0", flags=flags)) if f[0] == "SDPA kernels"]
    assert fact[1] == "flash, math on; cudnn off"
    assert ("other switches", "all at torch's defaults", "", "") in installed.torch_facts(TorchState("", flags=flags))


def test_no_blank_line_stands_where_nothing_was_read() -> None:
    idle = Convention("flex_attention", "", "window", 64, 64, Outcome.NOT_RUN, None, detail="compiles for 10 s")
    report = dataclasses.replace(sample_machines.cpu_report(), conventions=(idle,), abilities=())
    lines = page(report).splitlines()
    assert lines[lines.index("What the numbers mean") + 1] == "  ○ NOT RUN  flex_attention: compiles for 10 s"


def test_headings_of_short_numbers_are_whole() -> None:
    """Where no word such as `refused` widens the column of keys, its heading does."""
    call = "score_mod=where((q >= kv) & (q - kv < 8), score, -inf)"
    rows = sample_machines.aligned("flex_attention", call, 7, Alignment.TOP_LEFT, 25)
    report = dataclasses.replace(sample_machines.cpu_report(), conventions=rows, abilities=())
    heading = next(line for line in page(report, width=80).splitlines() if "keys  " in line)
    assert heading.split() == ["flex_attention", "keys", "back", "ahead", "32x64", "/", "64x32"]
