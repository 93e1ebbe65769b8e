"""Why a table of a bench has no exponent of growth, in every document."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from attncheck.render import interface
from attncheck.semantics.growth import growth
from attncheck.semantics.spec import Window
from attncheck.semantics.timing import Bench, BenchCell
from tests.sample_benches import case, standard_report, timed


@pytest.mark.parametrize("format_name", ["terminal", "markdown", "html"])
def test_why_there_is_no_growth_stands_where_it_would(format_name: str) -> None:
    def told(*cells: BenchCell) -> str:
        report = replace(standard_report(), bench=Bench(cells, growth(cells)))
        return " ".join(re.sub(r"<[^>]+>|\\", "", interface.render(report, format_name)).split())

    window = {"window": Window(4095, 0), "mask": "window 4096", "batch": 1}
    swa = [timed(case("flash-attn-2", n, **window), n / 1024) for n in (1024, 4096, 16384, 32768)]
    assert "not fitted: 2 lengths of at least twice the window, 3 are needed; --seq-lens 8k,16k,32k,64k" in told(*swa)
    assert "not fitted" not in told(swa[0])
    full = [timed(case("eager", n, batch=1), n / 1024) for n in (1024, 4096, 16384)]
    assert "not fitted" not in told(*full)
    quick = [timed(case("flash-attn-4", n, batch=1), 0.1, launch_bound=n < 16384) for n in (1024, 4096, 16384)]
    text = told(*full, *quick)
    assert "eager n^1.00 over 1k, 4k, 16k" in text
    assert "not fitted (flash-attn-4): 1 length not bound by launching, 3 are needed" in text
    assert "--seq-lens" not in text
