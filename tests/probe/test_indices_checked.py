"""Indices out of bounds are named before the operator runs; what is inside runs as ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attncheck.probe.indices_checked import IndicesChecked, tables_checked

X = torch.arange(12.0).reshape(4, 3)
CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "subscript": lambda index: X[index],
    "second": lambda index: X[:, index],
    "gather": lambda index: torch.gather(X, 0, index[:, None]),
    "select": lambda index: X.index_select(0, index),
    "embedding": lambda index: torch.nn.functional.embedding(index, X),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_inside_runs_as_without(name: str) -> None:
    index = torch.tensor([2, 0, 1])
    with IndicesChecked():
        seen = CALLS[name](index)
    assert torch.equal(seen, CALLS[name](index))


@pytest.mark.parametrize("name", CALLS)
def test_what_is_outside_is_named_before_the_operator_runs(name: str) -> None:
    with IndicesChecked(), pytest.raises(IndexError, match=r"index 7 is out of bounds for \d entries"):
        CALLS[name](torch.tensor([2, 7]))


def test_negative_indices_masks_and_empty_indices() -> None:
    with IndicesChecked():
        assert torch.equal(X[torch.tensor([-4])], X[:1])
        assert torch.equal(X[X > 5], X.flatten()[6:])
        assert X[torch.tensor([], dtype=torch.long)].shape == (0, 3)
        with pytest.raises(IndexError, match="index -5 is out of bounds for 4 entries"):
            X[torch.tensor([-5])]


def test_operators_inside_a_function_with_a_backward_of_its_own_are_seen() -> None:
    class First(torch.autograd.Function):
        """As the padding functions of flash-attn index their inputs."""

        @staticmethod
        def forward(context: object, given: Tensor, index: Tensor) -> Tensor:
            return torch.gather(given, 0, index[:, None].expand(-1, given.shape[1]))

    with IndicesChecked(), pytest.raises(IndexError, match="index 9 is out of bounds for 4 entries"):
        First.apply(X, torch.tensor([9]))  # type: ignore[no-untyped-call]


def test_tables_that_are_too_short_refuse_by_name_and_are_left_as_they_were() -> None:
    model = torch.nn.ModuleDict({"positions": torch.nn.Embedding(32, 4), "tokens": torch.nn.Embedding(99, 4)})
    index = torch.tensor([3, 32])
    with tables_checked(model, 32):
        with pytest.raises(IndexError, match=r"index 32 is out of bounds for 32 entries \(on a GPU"):
            model["positions"](index)
        assert model["tokens"](index).shape == (2, 4)
        assert not model["tokens"]._forward_pre_hooks  # long enough: not looked at
    with pytest.raises(IndexError, match="index out of range in self"):  # by torch itself
        model["positions"](index)
