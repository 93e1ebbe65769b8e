"""A bench against an older one: what is more than noise, and what only one of them has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attncheck.semantics.convention import Outcome
from attncheck.semantics.timing import Bench, BenchCell
from attncheck.semantics.timing_changes import BETWEEN_RUNS, BenchChange, BenchChanges, compare
from tests.sample_benches import case, scaled, silent, timed

BASE = timed(case("flash-attn-2", 4096), 1.0)


def against(old: list[BenchCell], new: list[BenchCell], **run: object) -> BenchChanges:
    return compare(Bench(tuple(old)), replace(Bench(tuple(new)), **run), "old.json", {})  # type: ignore[arg-type]


def change(old: BenchCell, new: BenchCell) -> BenchChange:
    (found,) = against([old], [new]).changes
    return found


@pytest.mark.parametrize(("factor", "beyond"), [(1.0, False), (1.075, False), (0.93, False), (1.1, True), (0.9, True)])
def test_a_ratio_is_judged_by_the_spread_of_both(factor: float, beyond: bool) -> None:
    found = change(BASE, scaled(BASE, factor))
    assert found.ratio == pytest.approx(factor)
    assert found.low < found.ratio < found.high
    assert found.beyond_noise == beyond


def test_wide_runs_hide_what_narrow_ones_would_show() -> None:
    wide = replace(BASE, p20=0.8e-3, p80=1.3e-3)
    assert change(BASE, scaled(BASE, 1.2)).beyond_noise
    assert not change(wide, scaled(BASE, 1.2)).beyond_noise
    assert not change(BASE, scaled(wide, 1.2)).beyond_noise


def test_without_any_spread_separate_runs_still_differ_by_noise() -> None:
    exact = replace(BASE, p20=BASE.median, p80=BASE.median, drift=None)
    assert not change(exact, scaled(exact, 1 + BETWEEN_RUNS * 0.99)).beyond_noise
    assert change(exact, scaled(exact, 1 + BETWEEN_RUNS * 1.01)).beyond_noise


@pytest.mark.parametrize("bound", [(True, False), (False, True), (True, True)])
def test_a_call_that_either_run_bound_by_its_launch_is_neither_faster_nor_slower(bound: tuple[bool, bool]) -> None:
    for factor in (0.5, 2.0):
        old, new = (replace(cell, launch_bound=one) for cell, one in zip((BASE, scaled(BASE, factor)), bound))
        found = change(old, new)
        assert found.launch_bound
        assert not found.beyond_noise
        assert found.low > 1.0 or found.high < 1.0
    assert not change(BASE, scaled(BASE, 2.0)).launch_bound


@pytest.mark.parametrize("factor", [1 / 5, 5.0])
def test_a_kernel_that_is_far_slower_than_its_launch_was_is_slower(factor: float) -> None:
    old, new = BASE, scaled(BASE, factor)
    slower = factor > 1
    known = change(replace(old, launch_bound=slower), replace(new, launch_bound=not slower))
    assert known.beyond_noise
    unknown = change(replace(old, launch_bound=not slower), replace(new, launch_bound=slower))
    assert unknown.launch_bound
    assert not unknown.beyond_noise


def test_the_larger_drift_of_the_two_widens_the_bound() -> None:
    slower = scaled(BASE, 1.2)
    plain = change(replace(BASE, drift=None), replace(slower, drift=None))
    assert plain.beyond_noise
    for drifts in ((0.03, -0.15), (-0.15, None), (None, 0.15)):
        found = change(replace(BASE, drift=drifts[0]), replace(slower, drift=drifts[1]))
        assert (found.low, found.high) == pytest.approx((plain.low / 1.15, plain.high * 1.15))
        assert not found.beyond_noise


def test_the_bound_covers_the_runs_that_it_was_taken_from() -> None:
    """Milliseconds of two whole benches of Mistral-7B on two H100, where they are farthest apart."""
    medians = {"flash-attn-4-varlen": (5.722, 6.1196), "cudnn-graph": (14.5796, 13.594), "te-fused": (6.9027, 6.4933)}
    for name, (old, new) in medians.items():
        about = case(name, 16384)
        assert not change(timed(about, old, drift=None), timed(about, new, drift=None)).beyond_noise, name


def test_memory() -> None:
    assert change(BASE, scaled(BASE, 1.0, memory=3)).memory_ratio == 3.0
    assert change(BASE, replace(BASE, peak_memory=None)).memory_ratio is None


def test_what_only_one_run_has() -> None:
    other, broken = timed(case("eager", 4096), 5.0), silent(BASE.case, Outcome.CRASHED, "out of memory")
    found = against([BASE, other], [broken])
    assert (found.changes, found.lost, found.only_old) == ((), ((BASE, broken),), (other,))
    found = against([broken], [BASE, other])
    assert (found.changes, found.gained, found.only_new) == ((), ((broken, BASE),), (other,))
    assert against([broken], [broken]) == BenchChanges("old.json")


def test_an_interrupted_run_does_not_say_that_calls_are_gone() -> None:
    other = timed(case("eager", 4096), 5.0)
    assert against([BASE, other], [BASE], complete=False).only_old == ()


@pytest.mark.parametrize(
    "changes",
    [{"dtype": "float16"}, {"num_kv_heads": 4}, {"inputs": "packed"}, {"backward": True}, {"batch": 3}, {"chunk": 512}],
)
def test_other_calls_are_not_compared(changes: dict[str, object]) -> None:
    other = replace(BASE, case=replace(BASE.case, **changes))  # type: ignore[arg-type]
    assert against([BASE], [other]).changes == ()


def test_the_count_of_pairs_is_no_part_of_the_question() -> None:
    assert change(replace(BASE, case=replace(BASE.case, cells=0)), BASE).ratio == 1.0


def test_the_fewer_repetitions_are_told() -> None:
    assert change(replace(BASE, n=3), BASE).repetitions == 3
    assert change(BASE, replace(BASE, n=1)).repetitions == 1
