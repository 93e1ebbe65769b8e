"""Float64 attention against torch's own, explicit formulas and finite differences."""

from __future__ import annotations

import pytest
import torch

from attncheck.probe.reading.gradients import backward
from attncheck.probe.reading.reference import Terms, attention, interleaved, keep_tensor, probabilities
from attncheck.semantics.keepmask import KeepMask

CAUSAL = KeepMask.from_rule(6, 6, lambda i, j: j <= i)


def inputs(heads: int = 4, kv_heads: int = 2, tokens: int = 6, width: int = 8) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    shapes = ((2, heads, tokens, width), (2, kv_heads, tokens, width), (2, kv_heads, tokens, width))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def test_it_equals_torch_on_causal_grouped_attention() -> None:
    query, key, value = inputs()
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), is_causal=True, scale=0.3
    )
    torch.testing.assert_close(attention(query, key, value, CAUSAL, Terms(0.3)), expected)


def test_softcap_bias_and_sinks_stand_where_the_formula_puts_them() -> None:
    query, key, value = inputs(kv_heads=4)
    bias, sinks = torch.randn(1, 4, 6, 6, dtype=torch.float64), torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)
    scores = 3 * torch.tanh(query @ key.transpose(-1, -2) * 0.7 / 3) + bias
    scores = scores.masked_fill(~keep_tensor(CAUSAL), -torch.inf)
    expected = torch.cat([scores, sinks.view(1, 4, 1, 1).expand(2, 4, 6, 1)], -1).softmax(-1)[..., :-1] @ value
    terms = Terms(0.7, softcap=3.0, bias=bias, sinks=sinks)
    torch.testing.assert_close(attention(query, key, value, CAUSAL, terms), expected)


def test_a_row_without_keys_is_zero_and_a_head_with_sink_minus_infinity_has_none() -> None:
    query, key, _ = inputs(kv_heads=4)
    nothing = KeepMask((0, *CAUSAL.rows[1:]), 6)
    sinks = torch.tensor([-torch.inf, 0.0, 0.0, 0.0], dtype=torch.float64)
    matrix = probabilities(query, key, nothing, Terms(0.3, sinks=sinks))
    assert bool((matrix[:, :, 0] == 0).all())
    torch.testing.assert_close(matrix[:, 0, 1:].sum(-1), torch.ones(2, 5, dtype=torch.float64))
    assert bool((matrix[:, 1:, 1:].sum(-1) < 1).all())


def test_the_head_map_decides_which_kv_head_is_read() -> None:
    query, key, value = inputs()
    tiled = attention(query, key, value, None, Terms(0.3, head_map=(0, 1, 0, 1)))
    expected = attention(query, key.repeat(1, 2, 1, 1), value.repeat(1, 2, 1, 1), None, Terms(0.3))
    torch.testing.assert_close(tiled, expected)
    assert interleaved(4, 2) == (0, 0, 1, 1)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_its_gradients_equal_finite_differences(softcap: float | None) -> None:
    query, key, value = (x.requires_grad_() for x in inputs(2, 1, 6, 4))
    sinks = torch.tensor([0.3, -0.2], dtype=torch.float64)
    terms = Terms(0.4, softcap=softcap, sinks=sinks)
    assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, CAUSAL, terms), (query, key, value))


@pytest.mark.parametrize(("q_len", "kv_len"), [(1, 1), (3, 8), (8, 9), (5, 70), (0, 4), (4, 0)])
def test_a_mask_as_a_tensor_has_the_same_cells(q_len: int, kv_len: int) -> None:
    mask = KeepMask.from_rule(q_len, kv_len, lambda i, j: (i * 7 + j * 3) % 5 < 2)
    tensor = keep_tensor(mask)
    assert tensor.shape == (q_len, kv_len)
    assert tensor.dtype == torch.bool
    assert [[bool(cell) for cell in row] for row in tensor] == [
        [mask.keeps(i, j) for j in range(kv_len)] for i in range(q_len)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_backward_is_bit_for_bit_that_of_autograd(dtype: torch.dtype) -> None:
    def run(how):  # type: ignore[no-untyped-def]
        leaves = [x.to(dtype).requires_grad_() for x in inputs(kv_heads=4)]
        output = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=True)
        upstream = torch.linspace(-3, 3, output.numel()).view(output.shape).to(dtype)
        upstream[:, :, 2] = 0
        return how(output, leaves, upstream)

    for ours, torchs in zip(run(backward), run(torch.autograd.grad), strict=True):
        assert torch.equal(ours, torchs)


def test_a_backward_through_nan_and_inf_is_that_of_autograd() -> None:
    leaf = torch.tensor([0.0, 1.0, -1.0], requires_grad=True)
    upstream = torch.tensor([1.0, 0.0, 2.0])
    (ours,) = backward(leaf.log(), [leaf], upstream)
    (torchs,) = torch.autograd.grad(leaf.log(), [leaf], upstream)
    torch.testing.assert_close(ours, torchs, rtol=0, atol=0, equal_nan=True)
