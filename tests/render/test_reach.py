"""The reach of layers that do not declare it: told apart by implementation on every page, kept in stored reports."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jsonschema
import pytest

from attncheck.render import interface
from attncheck.render.interface import Style
from attncheck.render.json import schema
from attncheck.report import Report
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import AttentionSpec, MaskSpec, Part, Window
from attncheck.stored.report import parse
from attncheck.verdicts import Cell, LayerGroup, Verdict
from tests import sample_reports

LAYERS = (0, 2, 4, 6, 8)
UNKNOWN = AttentionSpec(Part.DECODER, 0, mask=MaskSpec(Window(None, None)), head_dim=64, unknown=frozenset({"window"}))


def cell(implementation: str, reach: Window | None, **fields: Any) -> Cell:
    given = {"verdict": Verdict.UNKNOWN, "basis": Basis.MEASURED, "scenario": "plain", "variant": "no-mask", **fields}
    return Cell(implementation=implementation, part=Part.DECODER, layers=LAYERS, reach=reach, **given)


def gemma2(*cells: Cell, probed: AttentionSpec | None = None) -> Report:
    report = sample_reports.healthy_report()
    assert report.model is not None
    model = dataclasses.replace(report.model, groups=(LayerGroup(Part.DECODER, LAYERS, UNKNOWN, probed),))
    return dataclasses.replace(report, model=model, matrix=cells)


TWO = (
    cell("eager", Window(7, 0), verdict=Verdict.MISMATCH, difference="causal-unexpected"),
    cell("sdpa", Window(7, 0), verdict=Verdict.MISMATCH, difference="causal-unexpected"),
    cell("flash_attention_2", Window(7, 7), basis=Basis.PREDICTED),
)


def page(report: Report, name: str) -> str:
    text = interface.render(report, name, Style(width=80)) if name == "terminal" else interface.render(report, name)
    return " ".join(text.replace(r"\_", "_").split())


@pytest.mark.parametrize("name", ["terminal", "markdown", "html"])
def test_implementations_that_see_different_keys_are_told_apart(name: str) -> None:
    told = page(gemma2(*TWO), name)
    assert "layers 0-8 step 2, window unknown; read: 7 back and 0 ahead (eager, sdpa in plain, measured)" in told
    assert "; 7 back and 7 ahead (flash_attention_2 in plain, predicted)" in told


def test_of_a_tiny_model_it_says_so() -> None:
    probed = dataclasses.replace(UNKNOWN, head_dim=16)
    assert "read on a tiny model, whose windows are smaller: 7 back" in page(gemma2(*TWO, probed=probed), "terminal")


def test_the_first_scenario_speaks_and_names_the_variants_that_differ() -> None:
    told = page(
        gemma2(
            cell("sdpa", Window(7, 7)),
            cell("sdpa", Window(None, 0), variant="ones-mask"),
            cell("sdpa", Window(None, None), scenario="decode"),
            cell("sdpa", Window(3, 3), kernel="math"),
        ),
        "terminal",
    )
    assert "7 back and 7 ahead (sdpa in plain no-mask, measured); all back and 0 ahead (sdpa in plain ones-mask" in told
    assert "all ahead" not in told
    assert "3 back" not in told


def test_nothing_is_said_where_nothing_was_read() -> None:
    """As in reports of older releases."""
    assert "reach " not in page(gemma2(cell("sdpa", None)), "terminal")


def test_it_is_stored_in_the_form_of_a_declared_window_and_left_out_elsewhere() -> None:
    report = gemma2(*TWO, cell("flex_attention", Window(None, 0)), cell("flash_attention_3", None))
    written = json.loads(interface.render(report, "json"))
    jsonschema.validate(written, schema())
    assert [entry.get("reach", "absent") for entry in written["matrix"]] == [
        [7, 0],
        [7, 0],
        [7, 7],
        [None, 0],
        "absent",
    ]
    assert parse(written).matrix == report.matrix
    written["matrix"][0]["reach"] = [7]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, schema())
