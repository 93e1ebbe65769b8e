"""A prediction beside its own kernel is no replacement of one implementation by another."""

from __future__ import annotations

import pytest

from attncheck.semantics.observation import Basis, Crashed, Observed, ScenarioRun
from attncheck.survey.examine import _in_column
from attncheck.survey.options import predicted_name

NAME = "flash_attention_2"


@pytest.mark.parametrize(("used", "told"), [(NAME, predicted_name(NAME)), ("eager", "eager"), ("", "")])
def test_the_column_of_a_prediction_runs_what_it_asks_for_unless_something_else_ran(used: str, told: str) -> None:
    run = ScenarioRun(NAME, "plain", "", Basis.PREDICTED, Observed((), used_implementation=used), core=True)
    placed = _in_column(run, NAME, predicted_name(NAME))
    assert placed.implementation == predicted_name(NAME)
    assert isinstance(placed.outcome, Observed)
    assert placed.outcome.used_implementation == told


def test_a_crash_is_put_into_its_column_too() -> None:
    run = ScenarioRun(NAME, "plain", "", Basis.PREDICTED, Crashed("exception", "it broke"), core=True)
    assert _in_column(run, NAME, "other").implementation == "other"
