"""The terminal report: golden pages at 80 and 120 columns, and what must hold whatever the page looks like."""

from __future__ import annotations

import dataclasses

import pytest
from syrupy.assertion import SnapshotAssertion

from attncheck.findings import Evidence, Finding, Severity
from attncheck.render import interface
from attncheck.render.interface import Style
from attncheck.report import Report
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import Part, Window
from attncheck.verdicts import IS_REFERENCE, Cell, Implementation, Status, Verdict
from tests import builders, sample_reports

PAGES = {
    "healthy": sample_reports.healthy_report,
    "faulty": sample_reports.faulty_report,
    "doctor": sample_reports.doctor_report,
}


def page(report: Report, **style: object) -> str:
    return interface.render(report, "terminal", Style(**style))  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_the_one_that_was_looked_at(name: str, width: int, snapshot: SnapshotAssertion) -> None:
    assert page(PAGES[name](), width=width) == snapshot


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("name", PAGES)
def test_only_lines_to_paste_are_wider_than_the_page(name: str, width: int) -> None:
    pasteable = ("from_pretrained", "attncheck compare qwen2_moe")
    for line in page(PAGES[name](), width=width).splitlines():
        assert len(line) <= width or any(words in line for words in pasteable), line


@pytest.mark.parametrize("name", PAGES)
def test_colour_adds_nothing_but_escape_codes_and_half_blocks(name: str) -> None:
    plain, coloured = page(PAGES[name]()), page(PAGES[name](), colour="truecolor")
    assert "\x1b[" not in plain
    assert "\x1b[" in coloured
    assert "▀" not in plain
    assert ("▀" in coloured) == any(finding.evidence.declared_mask for finding in PAGES[name]().findings)


@pytest.mark.parametrize("name", PAGES)
def test_an_encoding_without_symbols_gets_a_page_of_the_same_layout(name: str) -> None:
    text, plain = page(PAGES[name]()), page(PAGES[name](), unicode=False)
    assert plain.isascii()
    assert "?" not in plain or "?" in text
    assert [len(line) for line in plain.splitlines()] == [len(line) for line in text.splitlines()]


def test_what_did_not_run_never_reads_ok() -> None:
    report = sample_reports.healthy_report()
    idle = tuple(
        dataclasses.replace(cell, verdict=Verdict.NOT_RUN, basis=None, difference=None, reason="nobody asked")
        for cell in report.matrix
    )
    text = page(dataclasses.replace(report, matrix=idle, findings=(), recommended=None))
    assert "✓" not in text
    assert " ok" not in text.replace("tokens", "")


def test_a_scenario_without_a_cell_is_not_run() -> None:
    report = sample_reports.faulty_report()
    missing = tuple(cell for cell in report.matrix if (cell.implementation, cell.scenario) != ("sdpa", "decode"))
    line = next(
        line for line in page(dataclasses.replace(report, matrix=missing)).splitlines() if line.startswith("  decode ")
    )
    assert "NOT RUN" in line


def test_predicted_is_marked_in_each_cell_and_explained() -> None:
    text = page(sample_reports.faulty_report())
    assert "~✗ window-ignored" in text
    assert "~ predicted" in text
    measured = [cell for cell in sample_reports.faulty_report().matrix if cell.basis is Basis.MEASURED]
    text = page(dataclasses.replace(sample_reports.faulty_report(), matrix=tuple(measured), findings=()))
    assert "~✓" not in text
    assert "~ predicted" not in text


def test_a_cell_with_variants_that_did_not_run_says_so() -> None:
    report = sample_reports.faulty_report()
    cells = (
        Cell("eager", "plain", "no mask", None, (0,), Verdict.OK, Basis.MEASURED),
        Cell("eager", "plain", "ones", None, (0,), Verdict.NOT_RUN, None, reason="out of time"),
    )
    text = page(dataclasses.replace(report, matrix=cells, findings=()))
    assert "1 ok, 1 NOT RUN" in text
    assert "out of time" in text


def test_a_refused_and_a_broken_implementation_are_named_with_their_reasons() -> None:
    text = page(sample_reports.faulty_report())
    assert "rejected   flex_attention: T5Gemma has no flex_attention support" in text
    assert "broke      my_kernel: the worker died of signal 11" in text


def test_findings_of_a_slug_are_grouped_and_errors_come_first() -> None:
    report = sample_reports.faulty_report()
    text = page(dataclasses.replace(report, findings=report.findings[::-1]))
    assert text.count("error  window-ignored") == 1
    assert text.index("window-off-by-one  ATC") < text.index("config-not-honoured  ATC")
    assert "all core scenarios" in page(report)


def test_settings_to_paste_stay_on_one_line() -> None:
    paste = builders.setting("sdpa").paste
    assert f"    {paste}\n" in page(sample_reports.faulty_report(), width=60)


def test_the_summary_counts_and_gives_the_exit_code() -> None:
    *_, last, readings, more = page(sample_reports.faulty_report(), width=120).strip().splitlines()
    assert last == "6 errors, 0 warnings, 1 note · exit 1"
    assert readings.startswith("35 readings: 25 right, 6 wrong")
    assert more == "more: attncheck explain window-ignored"


def test_the_verdict_stands_below_the_title() -> None:
    _, verdict, count, empty, *_ = page(sample_reports.healthy_report(), width=120).splitlines()
    assert verdict == "✓ core: all 6 implementations right (3 measured, 3 predicted)"
    assert count == "! 0 errors, 8 warnings (2 kinds) in opt-in features"
    assert not empty
    _, verdict, count, *_ = page(sample_reports.faulty_report(), width=200).splitlines()
    assert verdict.startswith(
        "✗ core: flash_attention_2 wrong: window-ignored, window-off-by-one (predicted); my_kernel broke"
    )
    assert verdict.endswith("eager, sdpa right (measured); flex_attention rejected")
    assert count == "✗ 6 errors (2 kinds), 0 warnings, 1 note"


def test_the_verdict_of_what_never_ran_is_no_praise() -> None:
    _, verdict, *_ = page(sample_reports.silent_report(), width=120).splitlines()
    assert verdict == "? core: all 6 implementations without a verdict"


def test_an_opt_in_scenario_with_errors_gets_a_verdict_of_its_own() -> None:
    report = sample_reports.healthy_report()
    asked = tuple(dataclasses.replace(f, severity=Severity.ERROR) for f in report.findings if f.scenario == "packed")
    text = page(dataclasses.replace(report, findings=asked), width=120)
    assert "✗ packed: eager, sdpa wrong: packing-leak (measured); flex_attention" in text
    assert "✓ core: all 6 implementations right" in text


def test_part_of_an_implementation_without_a_verdict_is_not_right() -> None:
    report = sample_reports.faulty_report()
    cells = (
        Cell("eager", "plain", "", Part.DECODER, (0,), Verdict.OK, Basis.MEASURED),
        Cell("eager", "plain", "", Part.CROSS, (0,), Verdict.UNKNOWN, Basis.MEASURED, reason="window unknown"),
    )
    eager = report.implementations[:1]
    text = page(dataclasses.replace(report, matrix=cells, findings=(), implementations=eager))
    assert "✓ plain: eager right as far as it could be read (measured)" in text


def test_warnings_are_short_and_only_the_first_has_a_picture() -> None:
    text = page(sample_reports.healthy_report())
    assert text.count("leaked: seen, not declared") == 1
    short = text.split("! warning  mask-dropped")[1].split("Recommended")[0]
    assert "declared query 12 sees 5 keys · effective query 12 sees 8 keys" in short
    assert "attn_implementation" not in short
    assert len(short.strip().splitlines()) <= 7


def broken(implementation: str, scenario: str, why: str) -> Finding:
    effective = f"exception: {why}"
    evidence = Evidence(declared="a result", effective=effective)
    return Finding(
        "ATC601",
        "backend-unusable",
        Severity.WARNING,
        f"It broke (exception): {why}",
        Basis.MEASURED,
        implementation,
        scenario=scenario,
        evidence=evidence,
        headline="It broke (exception)",
    )


def short_of(*findings: Finding) -> list[str]:
    text = page(dataclasses.replace(sample_reports.healthy_report(), findings=findings), width=120)
    return [
        " ".join(line.split())
        for line in text.split("backend-unusable  ATC601")[1].split("Recommended")[0].splitlines()
    ]


def test_each_reason_of_a_warning_stands_below_the_places_that_it_has() -> None:
    found = [broken("eager", "custom-mask", "IndexError: 1127"), broken("sdpa", "custom-mask", "IndexError: 1127")]
    found += [broken("sdpa", name, "ValueError: got 13") for name in ("packed", "packed-cache")]
    assert short_of(*found)[2:6] == [
        "measured: eager, sdpa · custom-mask",
        "declared a result · effective exception: IndexError: 1127",
        "measured: sdpa · packed, packed-cache",
        "declared a result · effective exception: ValueError: got 13",
    ]


def test_reasons_beyond_a_few_are_counted_and_their_places_named() -> None:
    lines = short_of(*(broken("sdpa", f"scenario-{number}", f"ValueError: {number}") for number in range(6)))
    assert sum(line.startswith("declared a result") for line in lines) == 4
    place = lines.index("measured: sdpa · scenario-4, scenario-5")
    assert lines[place + 1] == "for 2 other reasons; --format json lists them all"


def test_a_warning_that_repeats_an_error_is_one_line_of_it() -> None:
    report = sample_reports.faulty_report()
    again = dataclasses.replace(report.findings[0], severity=Severity.WARNING, scenario="packed")
    text = page(dataclasses.replace(report, findings=(*report.findings, again)), width=120)
    assert "! warning" not in text
    assert "the same in opt-in features: predicted: flash_attention_2 · packed" in text


def test_the_evidence_is_not_said_twice() -> None:
    report = sample_reports.faulty_report()
    words = "The window is not applied: declared 8 keys: own token and 7 back, effective 24 keys"
    finding = dataclasses.replace(report.findings[0], message=words, headline="The window is not applied")
    text = page(dataclasses.replace(report, findings=(finding,)), width=120)
    assert text.count("8 keys: own token and 7 back") == 1


def test_sizes_that_the_probe_shrank_are_said_once() -> None:
    report = sample_reports.healthy_report()
    assert report.model is not None
    (group,) = report.model.groups
    probed = dataclasses.replace(group, probed=builders.spec(window=Window(7, 0)))
    text = page(dataclasses.replace(report, model=dataclasses.replace(report.model, groups=(probed,))))
    assert text.count("window 4096 as 8") == 1


def test_the_reference_of_the_others_is_no_unknown() -> None:
    report = sample_reports.faulty_report()
    cells = (
        Cell("eager", "position-jump", "", None, (0,), Verdict.UNKNOWN, Basis.MEASURED, reason=IS_REFERENCE),
        Cell("sdpa", "position-jump", "", None, (0,), Verdict.OK, Basis.MEASURED),
    )
    text = page(dataclasses.replace(report, matrix=cells, findings=(), implementations=report.implementations[:2]))
    assert "– reference" in text
    assert "unknown" not in text.split("Declared against effective")[1]


def test_an_implementation_without_any_cell_is_not_forgotten() -> None:
    report = sample_reports.faulty_report()
    extra = Implementation("paged", False, None, Status.NOT_RUN)
    text = page(dataclasses.replace(report, implementations=(*report.implementations, extra)))
    assert "○ NOT RUN    paged" in text


def test_a_part_without_a_verdict_does_not_hide_the_parts_that_are_right() -> None:
    report = sample_reports.faulty_report()
    cells = (
        Cell("eager", "plain", "", Part.DECODER, (0,), Verdict.OK, Basis.MEASURED),
        Cell("eager", "plain", "", Part.CROSS, (0,), Verdict.UNKNOWN, Basis.MEASURED, reason="window unknown"),
    )
    assert "✓ ok, cross unknown" in page(dataclasses.replace(report, matrix=cells, findings=()))


def test_equal_columns_are_shared_only_where_the_page_is_too_narrow() -> None:
    report = sample_reports.healthy_report()
    wide, narrow = page(report, width=140), page(report, width=80)
    assert "flash_attention_2  flash_attention_3  flash_attention_4" in wide
    assert "flash_attention_2  flash_attention_3" not in narrow
    for name in ("eager", "flash_attention_2", "flash_attention_3", "flash_attention_4"):
        assert name in narrow.split("Findings")[0]


def test_one_picture_for_findings_about_the_same_masks() -> None:
    report = sample_reports.faulty_report()
    again = dataclasses.replace(report.findings[0], slug="mask-dropped", code="ATC109")
    both = page(dataclasses.replace(report, findings=(report.findings[0], again)))
    assert both.count("leaked: seen, not declared") == 1
    assert both.count("query 8 sees key 0") == 2


def test_of_a_long_exception_only_the_first_line_is_shown() -> None:
    report = sample_reports.faulty_report()
    long = "CUDA error: device-side assert triggered\nFor debugging consider\nCUDA_LAUNCH_BLOCKING=1"
    cell = Cell("eager", "plain", "", None, (0,), Verdict.ERROR, None, reason=long)
    finding = dataclasses.replace(report.findings[0], message=long)
    text = page(dataclasses.replace(report, matrix=(*report.matrix, cell), findings=(finding,)))
    assert text.count("device-side assert triggered ...") == 2
    assert "LAUNCH_BLOCKING" not in text
