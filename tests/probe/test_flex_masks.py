"""What a reading of uncompiled flex attention is spared changes no number, lasts one call only, and is undone."""

from __future__ import annotations

import os

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # before torch: flex_attention stays uncompiled

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import flex_attention as library

from attncheck.probe.reading import flex_masks
from attncheck.probe.reading.replay import Replay

needs_function = pytest.mark.skipif(
    not hasattr(library, "_vmap_for_bhqkv"), reason="this torch maps mask functions in another way"
)


class Documents:
    """A mask function over document numbers that counts how often it is asked."""

    def __init__(self) -> None:
        self.numbers = torch.tensor([0] * 9 + [1] * 7)
        self.asked = 0

    def __call__(self, batch: Any, head: Any, query: Any, key: Any) -> Any:
        self.asked += 1
        return (self.numbers[query] == self.numbers[key]) & (key <= query)


def block_mask(rule: Callable[..., Any]) -> Any:
    return library.create_block_mask(lambda b, h, q, k: rule(b, h, q, k), 1, None, 16, 16, device="cpu")


def attend(mask: Any, score: Callable[..., Any] | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 16, 8, generator=generator) for _ in range(3))
    return library.flex_attention(query, key, value, score_mod=score, block_mask=mask)


def capped(score: Any, *indices: Any) -> Any:
    return 2 * torch.tanh(score / 2)


def sloped(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
    return score - 0.5 * (query - key)


@needs_function
@pytest.mark.parametrize("score", [None, lambda score, *indices: score, capped, sloped])
def test_the_same_numbers_come_out(score: Callable[..., Any] | None):
    mask = block_mask(Documents())
    with torch.no_grad():
        expected = attend(mask, score)
        with flex_masks.evaluated_once("flex_attention"):
            assert torch.equal(attend(mask, score), expected)
            assert torch.equal(attend(mask, score), expected)


@needs_function
def test_score_functions_that_do_something_are_told_apart():
    mask = block_mask(Documents())
    with torch.no_grad(), flex_masks.evaluated_once("flex_attention"):
        assert not torch.allclose(attend(mask, capped), attend(mask))
        assert not torch.allclose(attend(mask, sloped), attend(mask))


@needs_function
def test_a_mask_function_is_asked_once_inside_and_again_outside():
    rule = Documents()
    mask = block_mask(rule)
    usual, before = library._vmap_for_bhqkv, rule.asked
    with torch.no_grad():
        with flex_masks.evaluated_once("flex_attention"):
            attend(mask)
            attend(mask)
            assert rule.asked == before + 1
        assert library._vmap_for_bhqkv is usual
        attend(mask)
    assert rule.asked == before + 2


@needs_function
def test_a_mask_that_changes_between_two_calls_is_seen():
    rule = Documents()
    mask = block_mask(rule)
    with torch.no_grad():
        with flex_masks.evaluated_once("flex_attention"):
            before = attend(mask)
        rule.numbers.zero_()
        with flex_masks.evaluated_once("flex_attention"):
            after = attend(mask)
        assert torch.equal(after, attend(mask))
    assert not torch.allclose(before, after)


@needs_function
def test_it_is_undone_after_an_error():
    before = dict(vars(library))
    with pytest.raises(RuntimeError, match="broken"), torch.no_grad(), flex_masks.evaluated_once("flex_attention"):
        raise RuntimeError("broken")
    assert vars(library) == before


@needs_function
@pytest.mark.parametrize(
    ("implementation", "disabled", "gradients"),
    [("sdpa", "1", False), ("flex_attention", "", False), ("flex_attention", "1", True)],
    ids=["other", "compiled", "gradients"],
)
def test_it_stands_back(monkeypatch: pytest.MonkeyPatch, implementation: str, disabled: str, gradients: bool):
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", disabled)
    monkeypatch.delenv("TORCH_COMPILE_DISABLE", raising=False)
    before = dict(vars(library))
    with torch.set_grad_enabled(gradients), flex_masks.evaluated_once(implementation):
        assert vars(library) == before


class Attention:
    """Causal attention that notes the width of the values it is given; `only` refuses any other width."""

    def __init__(self, only: int | None = None) -> None:
        self.only = only
        self.widths: list[int] = []

    def __call__(self, module: Any, query: Any, key: Any, value: Any, *rest: Any, **kwargs: Any) -> Any:
        self.widths.append(value.shape[-1])
        if self.only not in (None, value.shape[-1]):
            raise ValueError("values of another width")
        output = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return output.transpose(1, 2), None


def replay(function: Attention, any_width: bool) -> Replay:
    shape = torch.zeros(1, 2, 12, 8)
    module = torch.nn.Module().eval()
    return Replay(function, module, shape, shape, shape, (None,), (), {}, 0, any_width=any_width)


def test_wider_values_read_all_keys_at_once():
    narrow, wide = Attention(), Attention()
    expected = replay(narrow, any_width=False).spread_matrix()
    matrix = replay(wide, any_width=True).spread_matrix()
    assert torch.allclose(matrix, expected)  # torch may pick another kernel for the other width
    assert torch.equal(matrix > 0, expected > 0)
    assert narrow.widths == [8, 8]
    assert wide.widths == [12]


def test_a_function_that_insists_on_its_width_gets_it():
    function = Attention(only=8)
    matrix = replay(function, any_width=True).flat_matrix()
    assert torch.equal(matrix > 0, torch.ones(12, 12).tril().bool().expand(1, 2, 12, 12))
    assert function.widths == [12, 8, 8]
