"""Scalars, gradients and broken numbers: each rule fires on its fault, in each dtype, and stays quiet on rounding."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from attncheck import checks
from attncheck.checks import Options
from attncheck.findings import Finding, Severity
from attncheck.semantics.observation import GradientObservation, Requested, SoftmaxObservation
from attncheck.semantics.spec import Bias, HeadMap, SoftmaxSpec
from attncheck.semantics.tolerances import tolerances
from tests import runs
from tests.runs import HEADS, PLAIN, layer, model

DTYPES = ("float32", "bfloat16", "float16")
HEALTHY = SoftmaxObservation(scale=(0.25,) * HEADS, rowsum=(1.0,) * HEADS, head_map=(0, 0, 1, 1))


def judge(
    fitted: SoftmaxObservation | None, softmax: SoftmaxSpec | None = None, dtype: str = "float32", **call: Any
) -> list[Finding]:
    spec = layer(softmax=softmax or SoftmaxSpec(scale=0.25), **call.pop("spec", {}))
    made = runs.run(runs.calls(spec, PLAIN, softmax=fitted, **call))
    return list(checks.evaluate(runs.inputs(model(spec), made, options=Options(dtype=dtype))).findings)


def slugs(found: list[Finding]) -> set[str]:
    return {finding.slug for finding in found}


@pytest.mark.parametrize("dtype", DTYPES)
def test_healthy_fits_with_the_rounding_of_their_dtype_are_quiet(dtype: str) -> None:
    limits = tolerances(dtype)
    rounded = replace(
        HEALTHY,
        scale=tuple(0.25 * (1 + sign * limits.scale / 2) for sign in (1, -1, 1, -1)),
        rowsum=(1 + limits.row_sum / 2,) * HEADS,
        residual=limits.log_residual / 2,
    )
    assert judge(rounded, dtype=dtype) == []
    assert judge(replace(HEALTHY, scale=(0.25, math.nan, 0.25, 0.25)), dtype=dtype) == []
    assert judge(None, dtype=dtype) == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [1.03, math.sqrt(2), 1 / math.sqrt(2)])
@pytest.mark.parametrize("cap", [None, 50.0])
def test_a_wrong_scale(dtype: str, factor: float, cap: float | None) -> None:
    fitted = replace(HEALTHY, scale=(0.25 * factor,) * HEADS, softcap=cap)
    (found,) = judge(fitted, SoftmaxSpec(scale=0.25, softcap=cap), dtype)
    assert (found.slug, found.severity) == ("scale-wrong", Severity.ERROR)


def test_a_wrong_scale_in_one_head_names_the_head() -> None:
    (found,) = judge(replace(HEALTHY, scale=(0.25, 0.25, 0.5, 0.25)))
    assert found.evidence.heads == (2,)


def test_an_unknown_scale_is_compared_with_eager() -> None:
    spec = layer(softmax=SoftmaxSpec(), unknown=frozenset({"scale"}))
    eager = runs.run(runs.calls(spec, PLAIN, softmax=HEALTHY), implementation="eager")
    for factor, expected in ((1.0, set()), (2.0, {"scale-wrong"})):
        fitted = replace(HEALTHY, scale=(0.25 * factor,) * HEADS)
        made = runs.run(runs.calls(spec, PLAIN, softmax=fitted))
        assert slugs(list(checks.evaluate(runs.inputs(model(spec), eager, made)).findings)) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("declared", "measured", "expected"),
    [
        (50.0, 50.01, set()),
        (50.0, None, {"softcap-dropped"}),
        (50.0, 25.0, {"softcap-dropped"}),
        (50.0, 60.0, {"softcap-dropped"}),
        (None, 50.0, {"softcap-unexpected"}),
        (None, None, set()),
    ],
)
def test_softcap(dtype: str, declared: float | None, measured: float | None, expected: set[str]) -> None:
    found = judge(replace(HEALTHY, softcap=measured), SoftmaxSpec(scale=0.25, softcap=declared), dtype)
    assert slugs(found) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("declared", "expected_sinks", "measured", "expected"),
    [
        (True, (0.5,) * 4, (0.5,) * 4, set()),
        (True, (0.5,) * 4, None, {"sinks-dropped"}),
        (True, (0.5,) * 4, (1.0,) * 4, {"sinks-dropped"}),
        (True, (0.5,) * 4, (0.5, 0.5, -math.inf, 0.5), {"sinks-dropped"}),
        (True, None, None, {"sinks-dropped"}),
        (True, (-30.0,) * 4, None, set()),
        (False, (0.5,) * 4, (0.5,) * 4, set()),
        (False, None, (0.5,) * 4, {"sinks-unexpected"}),
        (False, None, None, set()),
    ],
)
def test_sinks(
    dtype: str,
    declared: bool,
    expected_sinks: tuple[float, ...] | None,
    measured: tuple[float, ...] | None,
    expected: set[str],
) -> None:
    fitted = replace(HEALTHY, sinks=measured, expected_sinks=expected_sinks, rowsum=(0.6 if measured else 1.0,) * 4)
    assert slugs(judge(fitted, SoftmaxSpec(scale=0.25, sinks=declared), dtype)) == expected


@pytest.mark.parametrize(
    ("declared", "fields", "expected"),
    [
        (Bias.ALIBI, {"alibi": (0.5, 0.25, 0.125, 0.0625)}, set()),
        (Bias.ALIBI, {}, {"bias-dropped"}),
        (Bias.NONE, {"alibi": (0.5, 0.25, 0.125, 0.0625)}, {"bias-unexpected"}),
        (Bias.LEARNED, {"bias": (1.0,) * 4}, set()),
        (Bias.LEARNED, {"bias": (1.0, 0.0, 0.0, 0.0), "residual": 3.0}, {"bias-dropped"}),
        (Bias.LEARNED, {"residual": 3.0}, set()),
    ],
)
def test_position_bias(declared: Bias, fields: dict[str, Any], expected: set[str]) -> None:
    assert slugs(judge(replace(HEALTHY, **fields), SoftmaxSpec(scale=0.25, bias=declared))) == expected


def test_slopes_are_compared_with_eager() -> None:
    spec = layer(softmax=SoftmaxSpec(scale=0.25, bias=Bias.ALIBI))
    eager = runs.run(
        runs.calls(spec, PLAIN, softmax=replace(HEALTHY, alibi=(0.5, 0.25, 0.125, 0.06))), implementation="eager"
    )
    made = runs.run(runs.calls(spec, PLAIN, softmax=replace(HEALTHY, alibi=(0.5, 0.5, 0.5, 0.5))))
    (found,) = checks.evaluate(runs.inputs(model(spec), eager, made)).findings
    assert (found.slug, found.evidence.heads) == ("bias-dropped", (1, 2, 3))


@pytest.mark.parametrize(
    ("declared", "read", "expected"),
    [
        (HeadMap.INTERLEAVE, (0, 0, 1, 1), set()),
        (HeadMap.INTERLEAVE, (0, 1, 0, 1), {"head-map-wrong"}),
        (HeadMap.TILE, (0, 1, 0, 1), set()),
        (HeadMap.INTERLEAVE, None, set()),
    ],
)
def test_head_map(declared: HeadMap, read: tuple[int, ...] | None, expected: set[str]) -> None:
    found = judge(replace(HEALTHY, head_map=read), spec={"head_map": declared})
    assert slugs(found) == expected
    assert all("tiled" in finding.message for finding in found)


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_that_nothing_explains(dtype: str) -> None:
    limits = tolerances(dtype)
    (found,) = judge(replace(HEALTHY, residual=limits.log_residual * 3), dtype=dtype)
    assert found.slug == "numeric-drift"
    (found,) = judge(replace(HEALTHY, rowsum=(1 + 3 * limits.row_sum,) * HEADS), dtype=dtype)
    assert found.slug == "numeric-drift"
    both = judge(replace(HEALTHY, residual=9.0, scale=(1.0,) * HEADS), dtype=dtype)
    assert slugs(both) == {"scale-wrong"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients(dtype: str) -> None:
    limit = tolerances(dtype).gradient
    for gradient, expected in (
        (GradientObservation(limit / 2, limit / 2, limit / 2), set()),
        (GradientObservation(0.0, 2 * limit, 0.0), {"gradient-mismatch"}),
        (GradientObservation(math.nan, 0.0, 0.0), {"gradient-mismatch"}),
    ):
        assert slugs(judge(None, dtype=dtype, gradient=gradient)) == expected


def test_nan_rows_hide_everything_else() -> None:
    wrong = replace(HEALTHY, scale=(9.0,) * HEADS)
    found = judge(wrong, nan_rows=((0, 5), (0, 6)), spoil=lambda keep: replace(keep, rows=(0,) * keep.q_len))
    assert slugs(found) == {"nan-rows"}
    assert found[0].evidence.first_difference == (0, 5, 5)
    assert found[0].severity is Severity.ERROR


def test_keys_that_come_and_go_are_dropout() -> None:
    wrong = replace(HEALTHY, residual=9.0)
    (found,) = judge(wrong, unstable=0.1, requested=Requested(dropout=0.1))
    assert found.slug == "dropout-active"
    assert "dropout=0.1" in found.evidence.requested


def test_the_blame_goes_by_what_was_asked_for() -> None:
    for asked, words in ((50.0, "the kernel lost it"), (None, "the framework lost it")):
        (found,) = judge(HEALTHY, SoftmaxSpec(scale=0.25, softcap=50.0), requested=Requested(softcap=asked))
        assert found.evidence.requested.endswith(words)
