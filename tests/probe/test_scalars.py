"""Scale, softcap, sinks, bias and head map recovered from callables with known terms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attncheck.probe.reading.reference import Terms, attention
from attncheck.probe.reading.replay import Replay
from attncheck.semantics.observation import SoftmaxObservation
from attncheck.semantics.tolerances import tolerances

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CAUSAL = torch.ones(24, 24, dtype=torch.bool).tril()[None, None]
SLOPES = (0.25, 0.0625, 0.015625, 0.00390625)


def measured(
    terms: Terms, dtype: torch.dtype = torch.float32, keep: Tensor = CAUSAL, **kwargs: Any
) -> SoftmaxObservation | None:
    """The fit of a callable that applies `terms` exactly, in a call that asked for `kwargs`."""
    queries, keys = keep.shape[-2:]
    query, key = torch.empty(1, 4, queries, 16, dtype=dtype), torch.empty(1, 2, keys, 16, dtype=dtype)

    def function(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, **_: Any) -> Tensor:
        return attention(q, k, v, mask, terms).to(dtype).transpose(1, 2)

    replay = Replay(function, nn.Module().eval(), query, key, key.clone(), (keep,), (), kwargs, seed=0)
    fitted, unstable = replay.fit(replay.spread_matrix(), ~keep.any(-1)[:, 0])
    assert unstable == 0
    return fitted


def close(found: tuple[float, ...], wanted: float, dtype: torch.dtype) -> bool:
    limit = tolerances(str(dtype).removeprefix("torch.")).scale
    return all(abs(value / wanted - 1) <= limit for value in found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 0.25, 0.0625, 1 / 64])
def test_scale_is_recovered_and_nothing_else_is_invented(scale: float, dtype: torch.dtype) -> None:
    found = measured(Terms(scale), dtype, scaling=scale)
    assert found is not None
    assert close(found.scale, scale, dtype)
    assert (found.softcap, found.sinks, found.alibi, found.bias) == (None, None, None, None)
    assert found.head_map == (0, 0, 1, 1)
    assert found.residual <= tolerances(str(dtype).removeprefix("torch.")).log_residual


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [1.0, 1.03, math.sqrt(2), 0.5])
@pytest.mark.parametrize("cap", [20.0, 30.0, 50.0])
def test_a_wrong_scale_on_a_softcap_model_is_a_scale_fault_and_the_cap_stays_right(
    cap: float, factor: float, dtype: torch.dtype
) -> None:
    found = measured(Terms(0.0625 * factor, softcap=cap), dtype, scaling=0.0625, softcap=cap)
    assert found is not None
    assert close(found.scale, 0.0625 * factor, dtype)
    assert found.softcap == pytest.approx(cap, rel=1e-3 if dtype == torch.float32 else 0.03)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [1.0, 1.03])
def test_a_dropped_softcap_is_no_cap_and_leaves_the_scale_right(factor: float, dtype: torch.dtype) -> None:
    found = measured(Terms(0.0625 * factor), dtype, scaling=0.0625, softcap=50.0)
    assert found is not None
    assert found.softcap is None
    assert close(found.scale, 0.0625 * factor, dtype)


@pytest.mark.parametrize("cap", [5.0, 10.0, 25.0, 100.0])
def test_a_cap_nobody_asked_for_or_of_another_size_is_seen(cap: float) -> None:
    found = measured(Terms(0.25, softcap=cap), scaling=0.25)
    assert found is not None
    assert found.softcap == pytest.approx(cap, rel=0.01)
    assert close(found.scale, 0.25, torch.float32)


def test_one_head_with_a_wrong_scale_is_that_head() -> None:
    scale = torch.tensor([0.25, 0.25, 0.2575, 0.25], dtype=torch.float64)
    found = measured(Terms(scale), scaling=0.25)
    assert found is not None
    assert found.scale == pytest.approx(scale.tolist(), rel=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sinks_are_recovered_and_a_head_without_one_stands_out(dtype: torch.dtype) -> None:
    sinks = torch.tensor([0.5, -0.5, 1.5, -math.inf], dtype=torch.float64)
    found = measured(Terms(0.25, sinks=sinks), dtype, scaling=0.25, s_aux=torch.tensor([0.5, -0.5, 1.5, 0.0]))
    assert found is not None
    assert found.sinks is not None
    assert found.sinks[:3] == pytest.approx((0.5, -0.5, 1.5), abs=0.02 if dtype == torch.bfloat16 else 0.003)
    assert found.sinks[3] == -math.inf
    assert found.expected_sinks == pytest.approx((0.5, -0.5, 1.5, 0.0))
    assert close(found.scale, 0.25, dtype)


def test_dropped_sinks_leave_rows_of_sum_one() -> None:
    found = measured(Terms(0.25), scaling=0.25, s_aux=torch.zeros(4))
    assert found is not None
    assert found.sinks is None
    assert found.expected_sinks == (0, 0, 0, 0)
    assert found.rowsum == pytest.approx((1, 1, 1, 1))


def test_sinks_that_depend_on_the_row_are_compared_row_by_row() -> None:
    given = torch.randn(1, 4, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    right = measured(Terms(0.25, sinks=given), scaling=0.25, sinks=given[..., None])
    shifted = measured(Terms(0.25, sinks=given + 0.5), scaling=0.25, sinks=given[..., None])
    assert right is not None
    assert right.sinks == pytest.approx(right.expected_sinks, abs=1e-5)
    assert shifted is not None
    assert [a - b for a, b in zip(shifted.sinks or (), right.sinks or ())] == pytest.approx([0.5] * 4, abs=1e-5)


def tilted(slopes: tuple[float, ...]) -> Tensor:
    return torch.tensor(slopes, dtype=torch.float64).view(1, -1, 1, 1) * torch.arange(24, dtype=torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_alibi_slopes_are_recovered_without_being_asked_for(dtype: torch.dtype) -> None:
    found = measured(Terms(0.25, bias=tilted(SLOPES)), dtype, scaling=0.25)
    assert found is not None
    assert found.alibi == pytest.approx(SLOPES, abs=1e-5 if dtype == torch.float32 else 2e-3)
    assert close(found.scale, 0.25, dtype)


def test_alibi_given_as_a_bias_is_recovered_and_its_loss_shows() -> None:
    bias = tilted(SLOPES).expand(1, 4, 24, 24)
    kept = measured(Terms(0.25, bias=bias), scaling=0.25, position_bias=bias)
    lost = measured(Terms(0.25), scaling=0.25, position_bias=bias)
    assert kept is not None
    assert kept.alibi == pytest.approx(SLOPES, abs=1e-6)
    assert kept.bias == pytest.approx((1,) * 4)
    assert kept.residual < 1e-5
    assert lost is not None
    assert lost.alibi == pytest.approx((0,) * 4, abs=1e-6)
    assert lost.bias == pytest.approx((0,) * 4, abs=1e-4)
    assert lost.residual > 0.5


def test_a_learned_bias_explains_p_and_its_loss_does_not_spoil_the_scale() -> None:
    bias = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    kept = measured(Terms(0.25, bias=bias), scaling=0.25, position_bias=bias)
    lost = measured(Terms(0.25), scaling=0.25, position_bias=bias)
    assert kept is not None
    assert kept.bias == pytest.approx((1,) * 4, abs=1e-5)
    assert kept.alibi is None
    assert kept.residual < 1e-5
    assert lost is not None
    assert lost.residual > 0.5
    assert close(lost.scale, 0.25, torch.float32)


def test_a_bias_that_is_flat_on_the_visible_keys_is_neither_lost_nor_found_but_its_sinks_count_it() -> None:
    mask = torch.where(CAUSAL, 1.0, torch.finfo(torch.float32).min)
    query, key = torch.empty(1, 4, 24, 16), torch.empty(1, 2, 24, 16)
    sinks = torch.tensor([0.5, -0.5, 1.5, 0.0])
    applied = Terms(0.25, bias=torch.ones(1, 1, 1, 1), sinks=sinks)

    def function(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, **_: Any) -> Tensor:
        return attention(q, k, v, CAUSAL, applied).float().transpose(1, 2)

    kwargs = {"scaling": 0.25, "s_aux": sinks}
    replay = Replay(function, nn.Module().eval(), query, key, key.clone(), (mask,), (), kwargs, seed=0)
    found, _ = replay.fit(replay.spread_matrix(), None)
    assert found is not None
    assert (found.bias, found.alibi) == (None, None)
    assert found.residual < 1e-5
    assert found.sinks == pytest.approx(sinks.tolist(), abs=1e-4)


def test_tiled_kv_heads_are_read_as_such() -> None:
    found = measured(Terms(0.25, head_map=(0, 1, 0, 1)), scaling=0.25)
    assert found is not None
    assert found.head_map == (0, 1, 0, 1)
    assert found.residual < 1e-5


@pytest.mark.parametrize(("queries", "keys", "fits"), [(1, 17, True), (5, 21, True), (1, 2, False)])
def test_short_calls_are_fitted_where_enough_keys_are_visible(queries: int, keys: int, fits: bool) -> None:
    keep = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)[None, None]
    found = measured(Terms(0.25), keep=keep, scaling=0.25)
    assert (found is not None) == fits
    assert found is None or close(found.scale, 0.25, torch.float32)


@pytest.mark.parametrize("make", [lambda: Terms(0.25, softcap=50.0), lambda: Terms(0.3)])
def test_the_residual_shows_a_kernel_that_is_not_of_the_form(make: Callable[[], Terms]) -> None:
    keep = CAUSAL.clone()
    query, key = torch.empty(1, 4, 24, 16), torch.empty(1, 2, 24, 16)

    def warped(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, **_: Any) -> Tensor:
        bent = attention(q, k, torch.eye(24)[None, None].expand(1, 2, 24, 24), mask, make()) ** 1.5
        return (bent @ v.double().repeat_interleave(2, 1) * torch.linspace(0.5, 1, 24)[:, None]).float().transpose(1, 2)

    def straight(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, **_: Any) -> Tensor:
        noise = torch.randn(24, 24, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 0.1
        return attention(q, k, v, mask, Terms(0.25, bias=noise)).float().transpose(1, 2)

    replay = Replay(straight, nn.Module().eval(), query, key, key.clone(), (keep,), (), {"scaling": 0.25}, seed=0)
    fitted, _ = replay.fit(replay.spread_matrix(), None)
    assert fitted is not None
    assert fitted.residual > 0.1
    replay = Replay(warped, nn.Module().eval(), query, key, key.clone(), (keep,), (), {"scaling": 0.25}, seed=0)
    fitted, _ = replay.fit(replay.spread_matrix(), None)
    assert fitted is not None
    assert not close(fitted.scale, 0.25, torch.float32)
