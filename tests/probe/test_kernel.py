"""P and the exact mask read from bare attention callables."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attncheck.probe.reading import kernel, logits
from attncheck.probe.reading.reference import Terms, attention, keep_tensor, probabilities
from attncheck.semantics.keepmask import KeepMask

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
RULES = {
    "full": lambda i, j: True,
    "causal": lambda i, j: j <= i,
    "window": lambda i, j: 0 <= i - j < 8,
    "two-sided": lambda i, j: abs(i - j) <= 3,
    "documents": lambda i, j: j <= i and (i < 11) == (j < 11),
}


def templates(keys: int = 24, width_v: int = 16, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    shapes = ((2, 4, 24, 16), (2, 2, keys, 16), (2, 2, keys, width_v))
    made = tuple(torch.empty(shape, dtype=dtype) for shape in shapes)
    return made[0], made[1], made[2]


def sdpa(keep: KeepMask) -> kernel.Call:
    mask = keep_tensor(keep)
    return lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
        q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), attn_mask=mask, scale=0.25
    )


@pytest.mark.parametrize(("keys", "width"), [(24, 16), (23, 16), (24, 24), (5, 16), (16, 16)])
def test_p_equals_the_reference_whatever_the_number_of_identity_blocks(keys: int, width: int) -> None:
    query, key, value = templates(keys, width)
    query, key = logits.spread(query, key, 0.25, seed=1)
    calls = 0

    def counted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return attention(q, k, v, None, Terms(0.25)).float()

    matrix = kernel.probability(counted, query, key, value)
    torch.testing.assert_close(matrix.double(), probabilities(query, key, None, Terms(0.25)), atol=1e-6, rtol=1e-5)
    assert calls == -(-keys // width)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_masks_are_exact_in_every_dtype_with_flat_and_with_spread_logits(rule: str, dtype: torch.dtype) -> None:
    keep = KeepMask.from_rule(24, 24, RULES[rule])
    query, key, value = templates(dtype=dtype)
    for fed in (logits.flat(query, key), logits.spread(query, key, 0.25, seed=1)):
        masks = kernel.head_masks(kernel.probability(sdpa(keep), *fed, value))
        assert [(mask.row, mask.heads, mask.keep) for mask in masks] == [(row, (0, 1, 2, 3), keep) for row in (0, 1)]


def test_a_head_that_differs_gets_its_own_mask_and_the_others_share_one() -> None:
    matrix = torch.tril(torch.ones(2, 4, 24, 24))
    matrix[1, 2, 3, 5] = 0.1
    masks = kernel.head_masks(matrix)
    assert [(mask.row, mask.heads) for mask in masks] == [(0, (0, 1, 2, 3)), (1, (0, 1, 3)), (1, (2,))]
    assert masks[2].keep.minus(masks[1].keep).rows[3] == 1 << 5


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 140), st.randoms(use_true_random=False))
def test_bitsets_hold_any_number_of_keys(keys: int, random: object) -> None:
    rows = [[random.random() < 0.5 for _ in range(keys)] for _ in range(3)]  # type: ignore[attr-defined]
    assert tuple(kernel.bitsets(torch.tensor(rows))) == KeepMask.from_rows(rows, keys).rows


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_broken_rows_are_named_and_sound_rows_are_not(bad: float) -> None:
    output = torch.zeros(2, 4, 24, 16)
    output[1, 3, 7, 0] = bad
    assert kernel.broken_rows(output) == ((1, 7),)
    assert kernel.broken_rows(torch.zeros(2, 4, 24, 16)) == ()


@pytest.mark.parametrize("width", [16, 1])
def test_the_head_map_tells_interleaved_from_tiled(width: int) -> None:
    query, key, value = templates(width_v=width)

    def call(mapped: tuple[int, ...]) -> kernel.Call:
        return lambda q, k, v: attention(q, k, v, None, Terms(0.25, head_map=mapped))

    for mapped in ((0, 0, 1, 1), (0, 1, 0, 1), (1, 1, 1, 1)):
        assert kernel.head_map(call(mapped), *logits.flat(query, key), value) == mapped


def test_the_head_map_is_unknown_where_a_head_returns_nothing() -> None:
    query, key, value = templates()
    assert kernel.head_map(lambda q, k, v: torch.zeros(2, 4, 24, 16), query, key, value) is None


def test_an_output_of_another_shape_is_refused() -> None:
    query, key, value = templates()
    with pytest.raises(ValueError, match=r"attention gave \(2, 4, 24, 8\)"):
        kernel.probability(lambda q, k, v: torch.zeros(2, 4, 24, 8), query, key, value)


@pytest.mark.parametrize("scale", [1.0, 0.25, 1 / 64])
def test_spread_logits_have_unit_size_whatever_the_scale_and_a_base_lifts_them_all(scale: float) -> None:
    query, key, _ = templates()
    plain = torch.einsum("bhqd,bhkd->bhqk", *(x[:, :2] for x in logits.spread(query, key, scale, seed=5))) * scale
    lifted = torch.einsum("bhqd,bhkd->bhqk", *(x[:, :2] for x in logits.spread(query, key, scale, seed=5, base=16.0)))
    assert float(plain.std()) == pytest.approx(1, abs=0.1)
    assert float((lifted * scale).mean()) == pytest.approx(16, abs=0.2)
    assert float((lifted * scale).std()) == pytest.approx(1, abs=0.15)
