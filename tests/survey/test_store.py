"""The results of a survey survive a kill at any byte, and never mix with another survey's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from attncheck.errors import UsageError
from attncheck.survey.store import Store, load
from attncheck.surveyed import SurveyCell
from tests.survey.rows import PLAN, finding, row, vision

ROWS = [row("llama"), row("mistral", finding(), setting="window", assignments=("sliding_window=64",)), vision()]


def written(path: Path) -> Path:
    file = path / "results.jsonl"
    with Store(str(file), PLAN) as store:
        for entry in ROWS:
            store.append(entry)
    return file


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    plan, rows = load(str(written(tmp_path)))
    assert plan == PLAN
    assert rows == ROWS


def test_a_seed_of_zero_and_other_empty_values_survive(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    plain = replace(PLAN, seed=7, settings=False, versions={}, asked=True)
    with Store(str(file), plain) as store:
        store.append(replace(ROWS[0], cells=(replace(ROWS[0].cells[0], open="cross: declared window: unknown"),)))
    plan, rows = load(str(file))
    assert plan == plain
    assert isinstance(rows[0].cells[0], SurveyCell)
    assert rows[0].cells[0].open == "cross: declared window: unknown"


@pytest.mark.parametrize("cut", [1, 2, 17, 100, 400])
def test_a_line_that_a_kill_left_unfinished_is_cut_off_and_written_again(tmp_path: Path, cut: int) -> None:
    file = written(tmp_path)
    data = file.read_bytes()
    file.write_bytes(data[: -cut - 1])
    whole = sum(line.endswith(b"\n") for line in file.read_bytes().splitlines(keepends=True)) - 1
    with Store(str(file), PLAN) as store:
        assert store.rows == ROWS[:whole]
        for entry in ROWS[whole:]:
            store.append(entry)
    assert file.read_bytes() == data


def test_a_kill_while_the_first_line_is_written_loses_nothing(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0][:10])
    with Store(str(file), PLAN) as store:
        assert store.rows == []
    assert load(str(file)) == (PLAN, [])


def test_a_damaged_line_in_the_middle_is_an_error_and_not_cut(tmp_path: Path) -> None:
    file = written(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    damaged = lines[0] + lines[1][:20] + b"\n" + lines[2]
    file.write_bytes(damaged)
    with pytest.raises(UsageError, match="line 2"):
        Store(str(file), PLAN)
    assert file.read_bytes() == damaged


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed 0"),
        ({"versions": {"transformers": "4.57.1"}}, "5.23.0"),
        ({"implementations": ("eager",)}, "eager,sdpa"),
        ({"settings": False}, "several settings of each type, and this one has the class defaults alone"),
        ({"asked": True}, "not counted as used, and this one has scenarios counted as used"),
    ],
)
def test_results_of_another_plan_are_refused_with_what_differs(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    file = written(tmp_path)
    with pytest.raises(UsageError, match=words):
        Store(str(file), replace(PLAN, **change))


def test_a_second_survey_into_the_same_file_is_refused_while_the_first_one_runs(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    with Store(str(file), PLAN), pytest.raises(UsageError, match="another survey"):
        Store(str(file), PLAN)
    with Store(str(file), PLAN):
        pass


def test_what_is_no_file_of_results_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(json.dumps({"schema": 1}) + "\n")
    with pytest.raises(UsageError, match="survey 1"):
        Store(str(file), PLAN)
    with pytest.raises(UsageError, match="cannot be written"):
        Store(str(tmp_path / "none" / "results.jsonl"), PLAN)
    with pytest.raises(UsageError, match="cannot be read"):
        load(str(tmp_path / "other.jsonl"))
