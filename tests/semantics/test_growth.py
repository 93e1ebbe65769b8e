"""Exponents of growth from medians that are given, not measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attncheck.semantics.convention import Outcome
from attncheck.semantics.growth import fit, growth, least, series
from attncheck.semantics.spec import CAUSAL, Window
from attncheck.semantics.timing import BenchCase, BenchCell

CASE = BenchCase("kernel", "eager", "prefill", False, "plain", 1, 64, 64, 4, 2, 32, 32, "bfloat16", CAUSAL, "causal")
LENGTHS = (1024, 2048, 4096, 8192)


def cell(subject: str, median: float, length: int, **changes: object) -> BenchCell:
    case = replace(CASE, subject=subject, q_len=length, kv_len=length, **changes)  # type: ignore[arg-type]
    return BenchCell(case, Outcome.READ, median=median)


def test_growth_of_full_and_windowed_calls() -> None:
    window = {"window": Window(255, 0), "mask": "window 256"}
    given = [
        *(cell("through-a-mask", 1e-9 * n**2, n, **window) for n in LENGTHS),
        *(cell("in-the-kernel", 1e-6 * n, n, **window) for n in LENGTHS),
        *(cell("short", 1e-6 * n, n) for n in LENGTHS[:2]),
        *(replace(cell("wrong", 1e-6 * n, n), excluded="nan-rows") for n in LENGTHS),
    ]
    found = {entry.subject: entry for entry in growth(given)}
    assert set(found) == {"through-a-mask", "in-the-kernel"}
    assert found["through-a-mask"].exponent == pytest.approx(2.0)
    assert found["in-the-kernel"].exponent == pytest.approx(1.0)
    assert found["in-the-kernel"].r2 == pytest.approx(1.0)
    assert found["in-the-kernel"].lengths == LENGTHS


def test_lengths_that_the_window_hardly_cuts_do_not_count() -> None:
    window = {"window": Window(1023, 0), "mask": "window 1024"}
    (found,) = growth(cell("flash", 1e-6 * n, n, **window) for n in (512, 1024, *LENGTHS[1:]))
    assert found.lengths == LENGTHS[1:]


def test_a_series_says_which_of_its_lengths_do_not_count() -> None:
    window = {"window": Window(1023, 0), "mask": "window 1024"}
    given = [cell("flash", 1e-6 * n, n, **window) for n in (512, *LENGTHS)]
    given[-1] = replace(given[-1], launch_bound=True)
    (found,) = series([*given, replace(cell("wrong", 1.0, 512), excluded="nan-rows")])
    assert least(found.case) == 2048
    assert (sorted(found.times), found.near, found.bound) == ([2048, 4096], {512, 1024}, {8192})


def test_constant_tokens_grow_as_single_sequences_do() -> None:
    rows = [replace(cell("flash", 1e-9 * n**2 * (8192 // n), n, batch=8192 // n)) for n in LENGTHS]
    (found,) = growth(rows)
    assert found.exponent == pytest.approx(2.0)


def test_head_dims_have_growths_of_their_own() -> None:
    given = [cell("flash", 1e-9 * n**2, n, head_dim=width, head_dim_v=width) for n in LENGTHS for width in (64, 128)]
    assert [entry.head_dim for entry in growth(given)] == [64, 128]


def test_noise_shows_in_r2() -> None:
    exponent, r2 = fit((1, 2, 4, 8), (1.0, 3.0, 2.0, 9.0))
    assert 0.5 < exponent < 1.5
    assert r2 < 0.9


def test_dtypes_have_growths_of_their_own() -> None:
    powers = {"float32": 2, "bfloat16": 1}
    given = [cell("sdpa", 1e-9 * n**power, n, dtype=dtype) for n in LENGTHS for dtype, power in powers.items()]
    assert {entry.dtype: round(entry.exponent, 6) for entry in growth(given)} == powers


def test_what_is_bound_by_its_launch_does_not_count() -> None:
    launched = replace(cell("flash", 1.0, LENGTHS[0]), launch_bound=True)
    (found,) = growth([launched, *(cell("flash", 1e-9 * n**2, n) for n in LENGTHS[1:])])
    assert found.exponent == pytest.approx(2.0)
    assert found.lengths == LENGTHS[1:]
    assert growth([launched, *(cell("flash", 1e-9 * n**2, n) for n in LENGTHS[1:3])]) == ()
