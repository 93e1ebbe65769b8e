"""A bench for people: golden pages, and what must hold whatever the page looks like."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from attncheck.errors import UsageError
from attncheck.findings import Evidence, Recommendation, Setting
from attncheck.render import bench_words, interface
from attncheck.render.bench_changes import differing
from attncheck.render.bench_tables import never_ran, tables
from attncheck.render.interface import Style
from attncheck.report import Report
from attncheck.semantics.convention import Outcome
from attncheck.semantics.growth import growth
from attncheck.semantics.timing import LAUNCH_BOUND, Bench, BenchCell
from attncheck.stored.report import read
from tests import sample_benches, sample_reports
from tests.sample_benches import case, silent, timed

PAGES = {
    "standard": sample_benches.standard_report,
    "swa": sample_benches.swa_report,
    "interrupted": sample_benches.interrupted_report,
    "changed": sample_benches.changed_report,
}


def page(report: Report, **style: object) -> str:
    return interface.render(report, "terminal", Style(**style))  # type: ignore[arg-type]


def with_cells(*cells: BenchCell, **changes: object) -> Report:
    report = sample_benches.swa_report()
    return replace(report, findings=(), bench=Bench(sample_benches.with_ratios(list(cells)), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_the_one_that_was_looked_at(name: str, width: int, snapshot: SnapshotAssertion) -> None:
    assert page(PAGES[name](), width=width) == snapshot


def test_the_ascii_page_is_the_one_that_was_looked_at(snapshot: SnapshotAssertion) -> None:
    assert page(sample_benches.swa_report(), unicode=False) == snapshot


@pytest.mark.parametrize("name", PAGES)
def test_the_markdown_is_the_one_that_was_looked_at(name: str, snapshot: SnapshotAssertion) -> None:
    assert interface.render(PAGES[name](), "markdown") == snapshot


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140])
@pytest.mark.parametrize("name", PAGES)
def test_no_line_is_wider_than_the_page(name: str, width: int) -> None:
    assert max(map(len, page(PAGES[name](), width=width).splitlines())) <= width


@pytest.mark.parametrize("name", PAGES)
def test_an_encoding_without_symbols_gets_a_page_of_the_same_layout(name: str) -> None:
    text, plain = page(PAGES[name]()), page(PAGES[name](), unicode=False)
    assert plain.isascii()
    assert "?" not in plain
    assert [len(line) for line in plain.splitlines()] == [len(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", PAGES)
def test_colour_adds_nothing_but_escape_codes(name: str) -> None:
    coloured = page(PAGES[name](), colour="truecolor")
    assert "\x1b[" in coloured
    stripped = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines()]
    assert stripped == page(PAGES[name]()).splitlines()


def test_bars_grow_with_time_and_the_slowest_is_longest() -> None:
    quick, slow = (timed(case(name, 4096), ms) for name, ms in (("flash-attn-2", 1.0), ("sdpa-flash", 4.0)))
    lines = page(with_cells(slow, quick)).splitlines()
    bars = [line.count("█") for line in lines if line.strip().startswith(("flash-attn-2", "sdpa-flash"))]
    assert bars[0] == pytest.approx(bars[1] / 4, abs=1)
    assert "bars: time" in page(with_cells(slow, quick))
    assert "logarithmic" not in page(with_cells(slow, quick))


def test_bars_of_very_different_times_are_logarithmic_and_say_so() -> None:
    cells = (timed(case(name, 4096), ms) for name, ms in (("flash-attn-2", 0.1), ("eager", 100.0)))
    text = page(with_cells(*cells), width=120)
    assert "bars: time, logarithmic" in text
    bars = [line.count("█") for line in text.splitlines() if line.strip().startswith(("flash-attn-2", "eager"))]
    assert bars[0] == pytest.approx(bars[1] / 4, abs=1)  # one decade of four


def test_what_is_excluded_has_no_speed_and_is_never_the_fastest() -> None:
    wrong = silent(case("flash-attn-3", 4096), Outcome.NOT_RUN, "keeps 1 key more", "window-off-by-one")
    text = page(with_cells(timed(case("eager", 4096), 6.4), wrong))
    (line,) = [line for line in text.splitlines() if "✗ wrong " in line]
    assert line.split(maxsplit=2)[2] == "flash-attn-3: window-off-by-one: keeps 1 key more"
    assert "fastest right one at 4k tokens x batch 4: eager" in " ".join(text.split())


def test_what_is_wrong_but_timed_is_marked_and_not_the_fastest() -> None:
    wrong = timed(case("flash-attn-3", 4096), 0.1, excluded="window-off-by-one")
    text = page(with_cells(timed(case("eager", 4096), 6.4), wrong))
    assert "✗ flash-attn-3" in text
    assert "fastest right one at 4k tokens x batch 4: eager" in " ".join(text.split())
    assert "window-off-by-one; timed all the same, never best" in " ".join(text.split())


def test_only_wrong_ones_are_no_winner() -> None:
    assert "no right implementation was timed" in page(
        with_cells(timed(case("flash-attn-3", 4096), 0.1, excluded="causal-ignored"))
    )


@pytest.mark.parametrize(
    ("outcome", "detail", "said"),
    [
        (Outcome.REFUSED, "head_dim 256 is too large", "– rejected x: head_dim 256 is too large"),
        (Outcome.CRASHED, "the worker died of signal 11", "✗ broke x: the worker died of signal 11"),
        (Outcome.CRASHED, "CUDA out of memory. Tried", "✗ out of memory x: CUDA out of memory. Tried"),
        (Outcome.REFUSED, "", "– rejected x: no reason given"),
    ],
)
def test_what_has_no_time_says_why(outcome: Outcome, detail: str, said: str) -> None:
    text = page(with_cells(timed(case("eager", 4096), 6.4), silent(case("x", 4096), outcome, detail)))
    assert said in [" ".join(line.split()) for line in text.splitlines()]


def test_the_lengths_are_named_where_the_reason_is_not_that_of_all() -> None:
    cells = [timed(case("eager", n), 1.0) for n in (1024, 4096, 8192)]
    silents = [silent(case("x", n), Outcome.CRASHED, "out of memory") for n in (4096, 8192)]
    assert "x: at 4k, 8k: out of memory" in page(with_cells(*cells, timed(case("x", 1024), 1.0), *silents))


def test_one_cell_for_what_cannot_run_here_stands_for_all_of_its_calls() -> None:
    idle = silent(case("xformers", 1024), Outcome.NOT_RUN, "xformers is not installed")
    report = with_cells(timed(case("eager", 1024), 1.0), timed(case("eager", 4096), 1.0), idle)
    assert report.bench is not None
    assert never_ran(report.bench) == {("kernel", "xformers"): "xformers is not installed"}
    text = page(report)
    assert "○ NOT RUN  xformers: xformers is not installed" in text
    assert "at 1k" not in text


def test_other_shapes_and_inputs_get_tables_of_their_own() -> None:
    cells = [timed(case("eager", 1024, **changes), 1.0) for changes in (
        {}, {"head_dim": 64, "num_heads": 32}, {"inputs": "padded"}, {"backward": True}, {"level": "layer"},
        {"softcap": 50.0}, {"sinks": True}, {"chunk": 512},
    )]  # fmt: skip
    report = with_cells(*cells)
    assert report.bench is not None
    assert len(tables(report.bench)) == len(cells)
    assert "softcap 50" in page(report)


def test_a_slow_device_is_measured_in_smaller_units() -> None:
    text = page(sample_benches.interrupted_report(), width=120)
    assert "45.3 GFLOP/s" in text
    assert "GFLOP" in text.split("1k tokens  ")[0]
    assert "TFLOP" not in text


def test_the_legend_explains_the_columns_that_there_are() -> None:
    legend = page(with_cells(timed(case("flash-attn-2", 1024), 1.0))).split("first call")[1]
    assert "to best" in legend
    assert "to eager" not in legend
    assert "of copy" not in legend


@pytest.mark.parametrize("form", ["terminal", "markdown", "html"])
def test_a_memory_that_could_not_be_told_is_no_blank(form: str) -> None:
    why = "–: none to tell, the call freed more than it took"
    known, freed = timed(case("eager", 4096), 6.4), timed(case("sdpa", 4096), 5.0, peak_memory=None)

    def rendered(*cells: BenchCell) -> str:
        return " ".join(interface.render(with_cells(*cells), form).split())

    assert why in rendered(known, freed)
    both = rendered(known, replace(freed, peak_memory=known.peak_memory))
    assert rendered(known, freed).count("–") == both.count("–") + 2, "in its row, and what it means"
    assert why not in rendered(known)
    elsewhere = timed(case("sdpa", 4096, head_dim=64), 5.0, peak_memory=None)
    assert why not in rendered(known, elsewhere), "a table without any has no such column"


def test_changes_of_few_repetitions_say_so() -> None:
    report = sample_benches.changed_report()
    assert report.changes is not None
    few = tuple(replace(change, new=replace(change.new, n=2)) for change in report.changes.changes)
    text = page(replace(report, changes=replace(report.changes, changes=few)))
    assert "slower (n 2)" in text
    assert "(n " not in page(report)


def test_a_device_that_ran_at_another_rate_is_a_difference() -> None:
    report = sample_benches.standard_report()
    assert report.bench is not None
    assert report.bench.rates is not None
    assert differing(report, report) == {}
    slower = replace(report.bench, rates=replace(report.bench.rates, matrix=600e12, copy=2.95e12))
    assert differing(report, replace(report, bench=slower)) == {"matrix product": ("798 TFLOP/s", "600 TFLOP/s")}


def test_a_published_figure_stands_below_the_row_it_belongs_to() -> None:
    lines = page(sample_benches.swa_report()).splitlines()
    place = next(number for number, line in enumerate(lines) if "published: 0.52 ms" in line)
    assert lines[place - 1].strip().startswith("flash-attn-2")
    assert any("flash-attn-3, full, head_dim 256" in line for line in lines)


def test_published_figures_of_other_settings_are_in_every_document() -> None:
    for format_name in ("terminal", "html", "markdown"):
        text = " ".join(interface.render(sample_benches.swa_report(), format_name).split())
        assert "Published, without a time at these settings here" in text
        assert "756 TFLOP/s" in text
    assert "Published, without" not in interface.render(sample_benches.standard_report(), "markdown")


def test_calls_that_differ_in_dtype_alone_are_told_apart() -> None:
    single, half = (timed(case("eager", 1024, dtype=dtype), 1.0) for dtype in ("float32", "bfloat16"))
    rows = page(with_cells(single, half), width=120).partition("Fastest at the longest length")[2].splitlines()[2:4]
    assert [row.strip().split("  ")[0] for row in rows] == [
        "kernel: prefill, forward, causal, float32",
        "kernel: prefill, forward, causal, bfloat16",
    ]


def test_a_drift_is_remarked_upon() -> None:
    text = " ".join(page(sample_benches.standard_report()).split())
    assert "! drift sdpa-cudnn at 16k: the last repetitions were 8% slower than the first" in text
    assert text.count("! drift") == 1


def test_a_throttled_device_and_an_interrupted_run_are_said() -> None:
    text = page(sample_benches.interrupted_report())
    assert "THROTTLED: thermal limit" in text
    assert "! interrupted: " in text


def test_decode_is_measured_by_bandwidth() -> None:
    text = page(sample_benches.standard_report(), width=120).split("Kernel: decode")[1].split("\n\n")[0]
    assert "copy" in text.split("flash-attn-2")[0]
    assert "TFLOP" not in text.split("first call")[0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9.5e-6, "9.50 µs"), (999.6e-6, "1.00 ms"), (1.5549e-3, "1.55 ms"), (0.0256, "25.6 ms"), (10.63, "10.6 s"),
     (123.4, "123 s"), (1.2e-7, "0.120 µs")],
)  # fmt: skip
def test_times_have_three_digits(seconds: float, text: str) -> None:
    assert bench_words.time(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (512 * 1024, "512 KiB"), (64 * 2**20, "64 MiB"), (1280 * 2**20, "1.2 GiB"), (None, "")],
)
def test_sizes(size: int | None, text: str) -> None:
    assert bench_words.memory(size) == text


def test_csv_has_one_line_a_cell(snapshot: SnapshotAssertion) -> None:
    report = sample_benches.standard_report()
    assert report.bench is not None
    text = interface.render(report, "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(report.bench.cells) == len(text.splitlines()) - 1
    for row, cell in zip(rows, report.bench.cells):
        assert row["subject"] == cell.case.subject
        assert row["median"] == ("" if cell.median is None else repr(cell.median))
        assert row["excluded"] == cell.excluded
    assert interface.render(sample_benches.swa_report(), "csv") == snapshot


def test_csv_never_starts_a_formula() -> None:
    text = interface.render(with_cells(silent(case("x", 1024), Outcome.CRASHED, "=cmd()\nmore")), "csv")
    assert next(csv.DictReader(io.StringIO(text)))["detail"] == "'=cmd() more"


def test_csv_is_a_format_of_bench_only() -> None:
    with pytest.raises(UsageError, match=r"not a format of compare; there are html, json, junit, markdown, sarif"):
        interface.render(sample_reports.healthy_report(), "csv")


def dtypes(**changes: object) -> Report:
    """Three lengths of one call in two dtypes, one of them bound by its launch."""
    cells = [
        timed(case("sdpa", n, dtype=dtype, batch=1), n * factor, kernel=kernel, launch_bound=n == 1024 and factor < 1)
        for dtype, factor, kernel in (("float32", 1.0, "efficient"), ("bfloat16", 0.1, "cudnn"))
        for n in (1024, 2048, 4096, 8192)
    ]
    return with_cells(*cells, growth=growth(cells), **changes)


def test_each_dtype_has_its_own_growth() -> None:
    report = dtypes()
    assert report.bench is not None
    found = {table.case.dtype: table.growth for table in tables(report.bench)}
    assert {dtype: len(entries) for dtype, entries in found.items()} == {"float32": 1, "bfloat16": 1}
    assert found["bfloat16"][0].lengths == (2048, 4096, 8192)


def test_a_stored_growth_without_a_dtype_is_shown_anew_from_the_cells(tmp_path: Path) -> None:
    report = dtypes()
    wire = json.loads(interface.render(report, "json"))
    for entry in wire["bench"]["growth"]:
        del entry["dtype"]
    for cell in wire["bench"]["cells"]:
        cell["detail"] = LAUNCH_BOUND if cell.pop("launch_bound") else ""
    (tmp_path / "old.json").write_text(json.dumps(wire))
    again = read(str(tmp_path / "old.json"))
    assert again.bench is not None
    assert report.bench is not None
    assert [table.growth for table in tables(again.bench)] == [table.growth for table in tables(report.bench)]
    assert len(again.bench.growth) == len(report.bench.growth)
    assert [cell.launch_bound for cell in again.bench.cells] == [cell.launch_bound for cell in report.bench.cells]


@pytest.mark.parametrize("format_name", ["terminal", "markdown", "html"])
def test_the_kernel_that_sdpa_took_and_calls_bound_by_their_launch_are_shown(format_name: str) -> None:
    text = re.sub(r"<[^>]+>|\\", " ", interface.render(dtypes(), format_name))
    assert "sdpa [efficient]" in text
    assert "sdpa [cudnn]*" in text
    assert "sdpa at 1k: launching the call from Python takes as long as the call" in " ".join(text.split())
    assert "launching" not in interface.render(sample_benches.standard_report(), format_name)


def test_only_tables_with_somebody_to_compare_with_have_a_fastest() -> None:
    two = [timed(case(name, 4096), ms) for name, ms in (("flash-attn-2", 1.0), ("eager", 4.0))]
    alone = [timed(case("sdpa", 4096, level="layer", backward=backward), 9.0) for backward in (False, True)]
    top = " ".join(page(with_cells(*two, *alone)).split("options")[0].split())
    assert "fastest right one at 4k tokens x batch 4: flash-attn-2, 1.00 ms" in top
    assert top.endswith("; sdpa alone in 2 tables")
    more = [replace(cell, case=replace(cell.case, backward=True)) for cell in two]
    top = " ".join(page(with_cells(*two, *more, *alone)).split("options")[0].split())
    assert top.endswith("flash-attn-2 (in 2 of 2 tables); sdpa alone in 2 tables")
    top = " ".join(page(with_cells(*alone)).split("options")[0].split())
    assert top.endswith("nothing to compare with another: sdpa alone in 2 tables")


def test_the_same_fix_for_another_pass_is_shared_and_each_figure_has_its_line() -> None:
    report = sample_benches.swa_report()
    (first,) = report.findings
    setting = (Setting("transformers", "attn_implementation", "flash", 'attn_implementation="flash"'),)

    def told(*advice: Recommendation) -> str:
        evidence = Evidence("1.00 ms (flash)", "", "7.90 ms at 4096 tokens")
        found = tuple(
            replace(first, headline=f"slow {number}", recommendations=(entry,), evidence=evidence)
            for number, entry in enumerate(advice)
        )
        return page(replace(report, findings=found))

    forward, both = (Recommendation(f"use flash ({what})", setting) for what in ("forward", "forward and backward"))
    text = told(forward, both)
    for number in range(2):
        assert f"  slow {number}\n    advised 1.00 ms (flash) · this 7.90 ms at 4096 tokens\n" in text
    assert "  fix    use flash (forward)\n" in text
    assert "forward and backward" not in text.split("Findings")[1]
    assert "  or     use another" in told(forward, Recommendation("use another"))
    assert "  ... and 2 more like it" in told(*[forward] * 12)


@pytest.mark.parametrize("format_name", ["markdown", "html", "sarif", "junit"])
def test_a_time_is_not_called_declared(format_name: str) -> None:
    report = sample_benches.swa_report()
    found = tuple(replace(finding, evidence=Evidence("1.00 ms", "", "7.90 ms")) for finding in report.findings)
    findings = interface.render(replace(report, findings=found), format_name)
    findings = findings[findings.index("sdpa-efficient takes 15.2") :]
    assert "advised" in findings
    assert "declared" not in findings.split("</details>")[0].split("Environment")[0]


def launched() -> Report:
    """Three tables; a call that is bound by its launch is first in one and second in another."""
    cells = []
    for backward, flash in ((False, 0.1), (True, 0.3)):
        cells.append(timed(case("flash-attn-4", 1024, backward=backward), flash, launch_bound=not backward))
        cells.append(timed(case("eager", 1024, backward=backward), 0.2, launch_bound=False))
    cells.append(timed(case("sdpa", 1024, level="layer"), 1.0))
    return with_cells(*cells, timed(case("eager", 1024, backward=True), 0.4, launch_bound=True))


@pytest.mark.parametrize("format_name", ["terminal", "markdown", "html"])
def test_a_winner_that_is_bound_by_its_launch_is_marked(format_name: str) -> None:
    text = " ".join(re.sub(r"<[^>]+>|\\", "", interface.render(launched(), format_name, Style(width=120))).split())
    top = text[text.index("fastest right ones") :]
    assert top.startswith(
        "fastest right ones at the longest length: flash-attn-4* (in 1 of 2 tables), eager (in 1 of 2 tables); "
        "sdpa alone in 1 table (* launching it from Python takes as long)"
    )
    assert "takes as long)" not in interface.render(sample_benches.standard_report(), format_name)


def test_the_summary_marks_them_too_and_says_once_what_the_mark_is() -> None:
    summary = page(launched(), width=120).split("Fastest at the longest length")[1].split("\n\n")[0]
    assert re.search(r"flash-attn-4\*  +100 µs  eager 2.00x\n", summary)
    assert re.search(r"eager  +200 µs  flash-attn-4 1.50x\n", summary)
    assert summary.count("* launching it from Python takes as long") == 1
    assert "launching" not in page(sample_benches.standard_report())
