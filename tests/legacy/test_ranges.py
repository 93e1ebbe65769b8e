"""The ends of version ranges are the right releases, and a range that a measurement contradicts is reported."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from attncheck.checks.defect_table import Check, table
from tests.legacy import ranges
from tests.legacy.ranges import End, Look, ends
from tests.legacy.releases import RELEASES, newest_patches

BY_ID = {entry.id: entry for entry in table()}
CHECKED = [entry for entry in table() if entry.check is not None]


def test_releases_are_in_order_and_each_minor_has_its_newest():
    assert list(map(Version, RELEASES)) == sorted(map(Version, RELEASES))
    assert newest_patches()[0] == "4.37.2"
    assert newest_patches()[-1] == RELEASES[-1]
    assert len(newest_patches()) == len({Version(release).release[:2] for release in RELEASES})


def test_both_ends_of_a_range_and_their_neighbours_are_looked_at():
    entry = replace(
        BY_ID["transformers-flash-window-plus-one"], versions={"transformers": (SpecifierSet(">=4.53,<4.56"),)}
    )
    assert [(end.release, end.inside, end.place) for end in ends(entry)] == [
        ("4.53.0", True, "first"),
        ("4.55.4", True, "last"),
        ("4.52.4", False, "before"),
        ("4.56.0", False, "after"),
    ]


def test_neighbours_in_another_range_or_in_which_nothing_can_show_are_left_out():
    two = (SpecifierSet(">=4.53,<4.54"), SpecifierSet(">=4.54,<4.55"))
    check = Check("mistral", "plain", "sdpa", blind={"4.52.4": "a reason"})
    entry = replace(CHECKED[0], versions={"transformers": two}, check=check)
    assert [(end.release, end.place) for end in ends(entry) if not end.inside] == [("4.55.0", "after")]


def test_a_range_without_a_release_is_an_error():
    entry = replace(CHECKED[0], versions={"transformers": (SpecifierSet(">=4.47.5,<4.48"),)})
    with pytest.raises(ValueError, match="no release lies in"):
        list(ends(entry))


@pytest.mark.parametrize("entry", CHECKED, ids=lambda entry: entry.id)
def test_every_checked_entry_can_be_looked_at(entry):
    from attncheck.probe.scenario import every_scenario

    assert entry.check.scenario in {scenario.name for scenario in every_scenario()}
    assert entry.check.implementation in entry.implementations
    assert not entry.models or entry.check.target in entry.models
    assert any(end.inside for end in ends(entry))
    assert set(entry.check.blind) <= set(RELEASES)
    assert all(reason.strip() for reason in entry.check.blind.values())
    assert not entry.fixed or any(release == entry.fixed for release in RELEASES)
    assert all(
        isinstance(json.loads(text.partition("=")[2]), bool | int | float | str | list) for text in entry.check.set
    )


def test_entries_of_transformers_are_all_looked_at():
    told = {entry.id for entry in table() if set(entry.versions) == {"transformers"} and entry.slugs}
    assert told <= {entry.id for entry in CHECKED}


@pytest.mark.parametrize(
    ("inside", "shows", "agrees"),
    [
        (True, True, True),
        (True, False, False),
        (False, True, False),
        (False, False, True),
        (True, None, False),
        (False, None, False),
    ],
)
def test_what_could_not_be_looked_at_agrees_with_nothing(inside, shows, agrees):
    assert Look(End("x", "4.40.0", inside, "first"), shows, "").agrees is agrees


def test_a_contradiction_ends_with_exit_code_one(monkeypatch, tmp_path, capsys):
    def nothing(release, wanted, root):
        return [Look(end, False, "right") for end in wanted]

    monkeypatch.setattr(ranges, "looks", nothing)
    monkeypatch.setattr(sys, "argv", ["ranges", "--only", "transformers-gemma2-wrong-layers", "--cache", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        ranges.main()
    assert stopped.value.code == 1
    assert "DISAGREES" in capsys.readouterr().out


def test_a_release_that_cannot_be_installed_is_not_looked_at(monkeypatch, tmp_path):
    def broken(*_):
        raise RuntimeError("no such release")

    monkeypatch.setattr(ranges, "folders", broken)
    (look,) = ranges.looks("4.40.0", [End("x", "4.40.0", True, "first")], tmp_path)
    assert look.shows is None
    assert "no such release" in look.why
