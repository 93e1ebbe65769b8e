"""The accuracy report says what was missed, invented or not run, and its exit code with it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from attncheck.surveyed import Plan, Row, State, SurveyCell, SurveyFinding
from tests.campaigns import accuracy, planted
from tests.legacy.table import cases
from tests.survey.ledger import Entry

LEAK = Entry("leak", "limitation", "leaks", ("packing-leak",), ("eager",), ("packed",), ("llama",), variants=("ones",))


def fault(**changes: object) -> dict[str, object]:
    row = {"type": "llama", "dtype": "float32", "scenario": "plain", "fault": "NaN rows", "found": ["nan"]}
    return {**row, "flagged": True, "right": True, **changes}


def control(*alarms: str, **changes: object) -> dict[str, object]:
    row = {"type": "llama", "dtype": "float32", "scenario": "packed", "read": 4, "why": "", "control": list(alarms)}
    return {**row, **changes}


def reading(case: str, bad: bool, verdict: str) -> dict[str, object]:
    return {
        "case": case, "package": "transformers", "version": "4.40.2", "bad": bad, "implementation": "sdpa",
        "verdict": verdict,
    }  # fmt: skip


def whole() -> list[dict[str, object]]:
    rows = []
    for case in cases():
        rows += [reading(case.id, True, "found")] if case.bad else []
        rows += [reading(case.id, False, "clean")] if case.fixed else []
    return rows


def wrong(lines: list[accuracy.Line]) -> str:
    return " | ".join(f"{line.label}: {line.text}" for line in lines if line.wrong)


def test_a_clean_campaign_has_nothing_wrong() -> None:
    rows = [fault(), control("ones: packing-leak"), control(scenario="plain")]
    lines = accuracy.planted(rows, [LEAK])
    assert wrong(lines) == ""
    assert [line.text for line in lines] == [
        "1 of 1 found, 1 under their own name, in 1 model types",
        "0 in 2 controls, beside 1 mismatches of the ledger",
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (fault(flagged=False, right=False, found=[]), "1 of 2 found, 1 under their own name, in 1 model types; missed"),
        (
            fault(right=False),
            "2 of 2 found, 1 under their own name, in 1 model types; wrongly named: NaN rows in llama",
        ),
        (control("none: packing-leak"), "alarms on healthy controls: 1 in 1 controls: llama float32 packed none"),
        (control("ones: packing-leak", type="opt"), "alarms on healthy controls: 1 in 1 controls: opt"),
        ({"type": "opt", "skipped": "longer than 240 s", "lost": True}, "NOT RUN: opt: longer than 240 s"),
    ],
)
def test_what_the_planted_faults_show(row: dict[str, object], said: str) -> None:
    assert said in wrong(accuracy.planted([fault(), row], [LEAK]))


def test_no_faults_at_all_is_not_run() -> None:
    assert wrong(accuracy.planted([], [])) == "planted faults: NOT RUN"


def test_types_without_a_fault_are_named() -> None:
    rows = [fault(), {"type": "moshi", "skipped": "a reason"}, control(type="mpt", read=0)]
    assert accuracy.planted(rows, [])[-1].text == "2: moshi, mpt"


def test_a_whole_bank_has_nothing_wrong() -> None:
    lines = accuracy.bank(whole())
    assert wrong(lines) == ""
    bad = sum(bool(case.bad) for case in cases())
    assert lines[0].text == f"{bad} of {bad} found"


@pytest.mark.parametrize(
    ("case", "bad", "verdict", "said"),
    [
        ("F01", True, "MISSED", "found; not: F01 transformers 4.40.2 sdpa"),
        ("F01", True, "refused", "found; not: F01 nowhere"),
        ("F01", False, "NOT CLEAN", "alarms in releases that mended them: 1 in"),
        ("F01", True, "NOT RUN", "bank readings NOT RUN: 1: F01 transformers 4.40.2 sdpa"),
        ("F01", False, "NOT RUN", "bank readings NOT RUN: 1: F01 transformers 4.40.2 sdpa"),
    ],
)
def test_what_the_bank_shows(case: str, bad: bool, verdict: str, said: str) -> None:
    rows = [
        {**row, "verdict": verdict} if (row["case"], row["bad"]) == (case, bad) else row
        for row in whole()
    ]  # fmt: skip
    assert said in wrong(accuracy.bank(rows))


def test_a_case_without_a_row_is_not_run() -> None:
    rows = [row for row in whole() if row["case"] != "F02"]
    assert wrong(accuracy.bank(rows)) == "bank readings NOT RUN: 1: F02, no row"


def test_known_good_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy.confirm, "pairs", lambda: [("llama", "", "sdpa", ("plain",))])
    good = Row("llama", cells=(SurveyCell("sdpa", "plain", State.MEASURED),))
    assert wrong(accuracy.known_good([good])) == ""
    bad = replace(good, cells=(SurveyCell("sdpa", "plain", State.MISMATCH),))
    assert wrong(accuracy.known_good([bad])) == (
        "alarms on known-good pairs: 1 on 1 pairs of 1 model types: llama x sdpa plain"
    )
    assert wrong(accuracy.known_good([])) == "known-good places NOT RUN: 1: llama x sdpa plain"


def test_mismatches_that_the_ledger_does_not_know() -> None:
    found = SurveyFinding("packing-leak", "ATC201", "error", "eager", "packed", "decoder", (0,), ("ones",), "", "leaks")
    row = Row("opt", findings=(found,))
    line = accuracy.mismatches([row], [LEAK], "5.23.0")
    assert line.wrong
    assert line.text.startswith("1, of which 0 explained")
    assert line.text.endswith("; not: opt x eager packed packing-leak")
    assert not accuracy.mismatches([replace(row, model_type="llama")], [LEAK], "5.23.0").wrong


def test_names_are_cut() -> None:
    names = [f"type{number}" for number in range(accuracy.NAMED + 3)]
    assert accuracy.listed("; not", names).endswith("and 3 more")
    assert accuracy.listed("; not", []) == ""


def test_a_campaign_that_fails_is_not_ignored() -> None:
    rows, lines = accuracy.stored(None, "tests.campaigns.no_such_campaign")
    assert rows == []
    assert wrong(lines) == "python -m tests.campaigns.no_such_campaign ended with: exit code 1"


def test_a_file_that_is_not_there() -> None:
    command = [sys.executable, "-m", "tests.campaigns.accuracy", "--planted", "no-such.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("no-such.json: no such file\n")


@pytest.mark.parametrize(
    ("rows", "missed"),
    [
        ([fault()], False),
        ([fault(), {"type": "moshi", "skipped": "a reason"}], False),
        ([fault(), fault(right=False)], True),
        ([fault(), fault(flagged=False, right=False)], True),
        ([fault(), {"type": "opt", "skipped": "died", "lost": True}], True),
        ([control()], True),
    ],
)
def test_the_planted_campaign_fails_on_what_it_missed(rows: list[dict[str, object]], missed: bool) -> None:
    assert planted.missed(rows) is missed


@pytest.mark.parametrize("right", [True, False])
def test_the_exit_code(right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted.json").write_text(json.dumps([fault(right=right)]))
    (tmp_path / "bank.json").write_text(json.dumps(whole()))
    (tmp_path / "results.jsonl").touch()
    monkeypatch.setattr(accuracy.confirm, "pairs", list)
    plan = Plan(("eager",), ("plain",), ("plain",), "float32", "cpu", 0, {"transformers": "5.23.0"})
    monkeypatch.setattr(accuracy, "load", lambda path: (plan, []))
    options = ["--planted", f"{tmp_path}/planted.json", "--bank", f"{tmp_path}/bank.json", "--survey", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["accuracy", *options])
    with pytest.raises(SystemExit) as end:
        accuracy.main()
    assert end.value.code == (0 if right else 1)
