"""Recommendations: which of their settings a page may show alone."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from attncheck.checks.kernels import differing_windows
from attncheck.checks.machine import Machine
from attncheck.findings import Recommendation, Setting
from attncheck.render import findings, interface
from attncheck.render.json import to_wire
from tests import sample_machines
from tests.builders import ENVIRONMENT


def test_the_first_way_to_paste_stands_for_the_others() -> None:
    same = Setting("peft", "deterministic", "True", "deterministic: true")
    assert Recommendation("Do.").paste == ""
    assert Recommendation("Do.", (same, replace(same, framework="trl", paste="deterministic=True"))).paste == same.paste


def test_no_value_stands_for_another() -> None:
    one = Setting("flash-attn-2", "window", "(W-1, 0)", "(W-1, 0)")
    assert Recommendation("Do.", (one, replace(one, framework="cudnn-graph", value="W", paste="W"))).paste == ""


def test_what_to_write_for_each_api_stands_in_the_table_and_in_json_only() -> None:
    (finding,) = differing_windows(Machine(ENVIRONMENT, conventions=sample_machines.CONVENTIONS))
    report = replace(sample_machines.h100_report(), findings=(finding,))
    screen = io.StringIO()
    for part in findings.blocks(report, interface.Style()):
        Console(file=screen, width=100).print(part)
    assert '"for W tokens write"' in " ".join(screen.getvalue().split())
    assert "W-1" not in screen.getvalue()
    assert "for W tokens write" in interface.render(report, "terminal")
    assert interface.render(report, "markdown").count("window_size=(W-1, 0)") == len(
        [row for row in interface.render(report, "markdown").splitlines() if "| `window_size=(W-1, 0)` |" in row]
    )
    entry = to_wire(report)["findings"][0]["recommendations"][0]
    assert entry["paste"]["flash-attn-2"] == ["window_size=(W-1, 0)"]
    assert len(entry["paste"]) > 2
