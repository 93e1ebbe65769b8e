"""A bench against a stored one on the page: what never goes for want of room, and what gets no verdict."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from attncheck.render import bench_words, interface
from attncheck.render.interface import Style
from attncheck.report import Report
from attncheck.semantics.timing import Bench
from attncheck.semantics.timing_changes import compare
from attncheck.stored.report import read
from tests.sample_benches import case, changed_report, scaled, standard_report, timed

#: Subjects whose names leave little room on 80 columns.
LONG = ("flash-attn-4-varlen", "flex_attention-uncompiled", "flash-attn-2")


def compared(*names: str) -> Report:
    """Calls that got slower, faster, stayed, and one that is bound by its launch; with twice the memory."""
    old = [timed(case(name, n), 1.234, n=5) for name in names for n in (1024, 16384)]
    factors = (1.5, 0.6, 1.0)
    new = [scaled(cell, factors[number % 3], memory=2) for number, cell in enumerate(old)]
    new[-1] = replace(new[-1], launch_bound=True)
    bench = Bench(tuple(new))
    return replace(standard_report(), bench=bench, changes=compare(Bench(tuple(old)), bench, "old.json", {}))


@pytest.mark.parametrize("width", [60, 80, 90, 100, 140])
def test_the_ratio_its_noise_and_the_verdict_are_never_cut(width: int) -> None:
    report = compared(*LONG)
    assert report.changes is not None
    text = interface.render(report, "terminal", Style(width=width)).split("Against old.json")[1]
    assert "…" not in text
    rows = [line for line in text.splitlines() if re.search(r" (1k|16k) .*\d\.\d\d\.\.", line)]
    assert len(rows) == len(report.changes.changes) == 6
    words = {(True, True): "slower (n 5)", (True, False): "faster (n 5)"}
    for row, change in zip(rows, report.changes.changes):
        assert f"{bench_words.ratio(change.ratio)}  {change.low:.2f}..{change.high:.2f}" in row
        said = "bound by its" if change.launch_bound else words.get((change.beyond_noise, change.ratio > 1), "")
        assert said in row
    assert max(map(len, text.splitlines())) <= width
    assert "ratio  noise" in text
    assert ("flex_attention-uncompiled" in text) == (width > 60)
    assert ("  old  " in text) == (width > 100)


def test_short_names_leave_room_for_all_columns_on_80() -> None:
    heading = next(
        line for line in interface.render(changed_report(), "terminal").splitlines() if "ratio  noise" in line
    )
    assert heading.split() == ["length", "old", "new", "ratio", "noise", "memory"]


@pytest.mark.parametrize("format_name", ["terminal", "markdown", "html"])
def test_no_verdict_on_what_is_bound_by_its_launch(format_name: str, tmp_path: Path) -> None:
    report = compared("a", "b", "c")
    text = interface.render(report, format_name, Style(width=120))
    assert text.count("bound by its launch") == 1
    (tmp_path / "new.json").write_text(interface.render(report, "json"), encoding="utf-8")
    again = read(str(tmp_path / "new.json"))
    assert again.changes is not None
    assert [change.launch_bound for change in again.changes.changes] == [False] * 5 + [True]
    assert interface.render(again, format_name, Style(width=120)).count("bound by its launch") == 1
