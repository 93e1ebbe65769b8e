"""A custom attention function without a mask function loses windows and padding; the survey sees it."""

from __future__ import annotations

from pathlib import Path

from attncheck.survey.options import SurveyOptions
from attncheck.survey.run import survey
from attncheck.surveyed import State


def test_a_function_registered_without_a_mask_function_is_surveyed_and_found(tmp_path: Path) -> None:
    found = survey(
        SurveyOptions(
            folder=str(tmp_path),
            types=("mistral",),
            impl=("eager", "maskless"),
            scenario=("plain", "left-pad"),
            settings=False,
            plugins=("tests.plugins.maskless",),
        )
    )
    (row,) = found.rows
    assert {cell.state for cell in row.cells if cell.implementation == "eager"} == {State.MEASURED}
    slugs = {entry.slug for entry in row.findings if entry.implementation == "maskless"}
    assert {"window-ignored", "padding-ignored"} <= slugs
