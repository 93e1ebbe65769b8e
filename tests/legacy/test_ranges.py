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
from tests.legacy.environments import companions
from tests.legacy.ranges import End, Look, ends
from tests.legacy.releases import RELEASES, newest_patches, with_candidates

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


def test_entries_of_transformers_are_all_looked_at_or_say_why_not():
    told = {entry.id for entry in table() if set(entry.versions) == {"transformers"}}
    unchecked = {entry.id for entry in table() if entry.unchecked}
    assert not unchecked & {entry.id for entry in CHECKED}
    assert told <= {entry.id for entry in CHECKED} | unchecked
    assert not [entry.id for entry in table() if entry.unchecked and entry.slugs], "what compare shows can be measured"


def test_candidates_are_looked_at_where_a_range_names_them():
    entry = BY_ID["transformers-t5gemma2-encoder-causal"]
    assert [(end.release, end.inside) for end in ends(entry)] == [
        ("5.0.0rc0", True),
        ("5.0.0rc1", True),
        ("5.0.0rc2", False),
    ]
    others = [end for other in CHECKED if other is not entry for end in ends(other)]
    assert not [end for end in others if "rc" in end.release]
    assert with_candidates().index("5.0.0rc3") + 1 == with_candidates().index("5.0.0")


@pytest.mark.parametrize(
    ("release", "tokenizers"),
    [("5.0.0rc1", "0.22.2"), ("5.15.1", "0.22.2"), ("5.16.0", "0.23.3"), ("5.17.0", "0.23.3"), ("5.23.0", "0.23.3")],
)
def test_a_release_gets_the_tokenizers_that_it_accepts(release, tokenizers):
    assert f"tokenizers=={tokenizers}" in companions(release).pins


def test_what_only_a_live_model_shows_is_looked_at_in_one(monkeypatch):
    class Told:
        slug = "config-not-honoured"

    check = BY_ID["transformers-is-causal-on-modules"].check
    monkeypatch.setattr(ranges, "findings", lambda implementation: [Told] if implementation == "sdpa" else [])
    assert ranges.look(check, ("config-not-honoured",)) == (True, "config-not-honoured")
    assert ranges.look(check, ("causal-ignored",)) == (False, "config-not-honoured")
    assert ranges.look(replace(check, implementation="eager"), ("config-not-honoured",)) == (False, "right")


def test_entries_that_nothing_can_measure_are_listed_with_the_reason(monkeypatch, tmp_path, capsys):
    names = "transformers-flash-image-blocks,transformers-doge-flex"
    monkeypatch.setattr(ranges, "looks", lambda release, wanted, root: [Look(e, e.inside, "") for e in wanted])
    monkeypatch.setattr(sys, "argv", ["ranges", "--only", names, "--cache", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        ranges.main()
    assert stopped.value.code == 0
    assert "transformers-flash-image-blocks: not measured; takes images" in capsys.readouterr().out


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
