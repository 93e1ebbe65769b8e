"""The bank's table is sound, and its small subset is found and gone as it says."""

from __future__ import annotations

import sys

import pytest
from packaging.version import Version

from tests.legacy.bank import GOOD, NOT_RUN, Row, _row, main, rows, unfound
from tests.legacy.environments import companions
from tests.legacy.routes import Reading
from tests.legacy.table import Case, cases

CASE = Case("X1", ("sdpa",), "plain", ("1",), "window-ignored", fixed=("2",), left={"window-off-by-one": "a reason"})
SUBSET = [(case, version, bad) for case in cases() for version, bad in case.ends(ci=True)]


def test_every_case_has_its_own_name_and_both_ends():
    ids = [case.id for case in cases()]
    assert len(set(ids)) == len(ids)
    assert {case.id for case in cases() if case.id.startswith("F")} == {f"F{number:02}" for number in range(1, 22)}
    assert {case.id for case in cases() if case.id.startswith("O")} == {f"O{number:02}" for number in range(1, 18)}
    for case in cases():
        assert bool(case.fixed) == case.id.startswith(("F", "N")), case.id
        assert bool(case.bad) == case.id.startswith(("F", "O")), case.id
        assert not case.fixed or not case.bad or max(map(Version, case.bad)) < min(map(Version, case.fixed)), case.id


def test_the_subset_lies_within_the_cases_and_has_both_ends():
    assert all(set(case.ci) <= {*case.bad, *case.fixed} for case in cases())
    assert {bad for _, _, bad in SUBSET} == {True, False}
    assert len(SUBSET) <= 6, "every run of the tests pays for these"


def test_an_id_that_no_case_has_is_told(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bank", "--only", "F01,F99"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "--only F99: no such case; there are F01, F02, " in capsys.readouterr().err


def test_slugs_are_rules():
    from attncheck.checks.registry import rule

    for case in cases():
        assert bool(case.slug) == bool(case.bad), case.id
        for slug in (
            *filter(None, (case.slug,)),
            *case.also.values(),
            *(entry.partition(" ")[0] for entry in case.left),
        ):
            assert rule(slug) is not None, (case.id, slug)


def test_every_release_has_companions():
    assert all(companions(v) for case in cases() if case.package == "transformers" for v in (*case.bad, *case.fixed))


def test_a_release_older_than_the_table_is_refused():
    with pytest.raises(ValueError, match="oldest release"):
        companions("4.30.0")


@pytest.mark.parametrize(
    ("bad", "reading", "verdict"),
    [
        (True, Reading(("window-ignored",), ""), "found"),
        (True, Reading((), ""), "MISSED"),
        (True, Reading(("window-off-by-one",), ""), "MISSED"),
        (True, Reading((), "", "not_run"), "NOT RUN"),
        (False, Reading((), ""), "clean"),
        (False, Reading(("window-off-by-one",), ""), "clean"),
        (False, Reading(("window-ignored",), ""), "NOT CLEAN"),
        (False, Reading((), "", "rejected"), "NOT RUN"),
    ],
)
def test_verdicts(bad, reading, verdict):
    assert _row(CASE, "1", bad, "sdpa", reading).verdict == verdict


def test_a_case_that_is_refused_everywhere_is_not_found():
    refused = Row("X1", "transformers", "1", True, "sdpa", "plain", "window-ignored", (), "refused", "")
    assert unfound([refused]) == ["X1: found nowhere"]


def test_a_release_that_cannot_be_installed_is_not_run(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("no such release")

    monkeypatch.setattr("tests.legacy.routes.folders", broken)
    (row,) = rows(CASE, "1", True, tmp_path)
    assert row.verdict == NOT_RUN
    assert "no such release" in row.figures


@pytest.mark.legacy
@pytest.mark.parametrize(("case", "version", "bad"), SUBSET, ids=lambda value: getattr(value, "id", str(value)))
def test_subset(case, version, bad, releases):
    done = rows(case, version, bad, releases)
    assert all(row.verdict in GOOD for row in done), [(row.implementation, row.verdict, row.figures) for row in done]
