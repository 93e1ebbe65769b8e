"""What the framework handed over, read from mask objects and arguments of every kind."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask

from attncheck.probe.reading.requested import MaskReader, additive_bias, given_sinks, kind, requested
from attncheck.semantics.keepmask import KeepMask

QUERY, KEY = torch.empty(2, 4, 6, 8), torch.empty(2, 2, 6, 8)
KEEPS = tuple(KeepMask.from_rule(6, 6, lambda i, j, pads=pads: pads <= j <= i) for pads in (0, 2))
BOOLEAN = torch.tensor([[[[keep.keeps(i, j) for j in range(6)] for i in range(6)]] for keep in KEEPS])


def additive(forbidden: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(BOOLEAN.shape, dtype=dtype).masked_fill(~BOOLEAN, forbidden)


def block_mask() -> Any:
    pads = torch.tensor([0, 2])
    return create_block_mask(lambda b, h, i, j: (j <= i) & (j >= pads[b]), 2, None, 6, 6, device="cpu")


@pytest.mark.parametrize(("mask", "word"), [
    (BOOLEAN, "bool"),
    (BOOLEAN.expand(2, 4, 6, 6), "bool"),
    (additive(float("-inf")), "float"),
    (additive(-10000.0), "float"),
    (additive(torch.finfo(torch.bfloat16).min, torch.bfloat16), "float"),
    (additive(torch.finfo(torch.float16).min, torch.float16), "float"),
    (nn.functional.pad(BOOLEAN, (0, 3)), "bool"),
    (block_mask(), "BlockMask"),
])  # fmt: skip
def test_dense_masks_become_keep_masks_row_by_row(mask: Any, word: str) -> None:
    assert kind(mask) == word
    reader = MaskReader()
    for _ in range(2):
        assert reader.keep(mask, QUERY, KEY) == KEEPS
        empty = reader.empty_rows(mask, QUERY, KEY)
        assert empty is not None
        assert empty.nonzero().tolist() == [[1, 0], [1, 1]]


def test_one_mask_for_all_rows_is_given_to_each() -> None:
    assert MaskReader().keep(BOOLEAN[:1], QUERY, KEY) == (KEEPS[0], KEEPS[0])


@pytest.mark.parametrize(("mask", "word"), [(None, "none"), (torch.ones(2, 6), "2d"), (object(), "object")])
def test_what_is_not_dense_has_a_name_and_no_keep_mask(mask: Any, word: str) -> None:
    assert kind(mask) == word
    assert MaskReader().keep(mask, QUERY, KEY) == ()
    assert MaskReader().empty_rows(mask, QUERY, KEY) is None


def test_an_equal_id_of_another_mask_is_not_mistaken_for_it() -> None:
    reader = MaskReader()
    for keep in (KEEPS[0], KEEPS[1]) * 20:
        mask = torch.tensor([[[[keep.keeps(i, j) for j in range(6)] for i in range(6)]]])
        assert reader.keep(mask, QUERY[:1], KEY[:1]) == (keep,)
        del mask


def test_arguments_are_read_from_the_call_and_causality_also_from_the_module() -> None:
    module = nn.Module().eval()
    module.is_causal = False
    kwargs = {
        "sliding_window": 8,
        "scaling": torch.tensor(0.5),
        "softcap": 30,
        "position_bias": torch.zeros(1),
        "dropout": 0.1,
    }
    found = requested(module, QUERY, KEY, None, kwargs, MaskReader())
    assert (found.sliding_window, found.scaling, found.softcap, found.position_bias) == (8, 0.5, 30.0, True)
    assert (found.is_causal, found.dropout, found.sinks, found.mask_kind) == (False, 0.1, False, "none")
    assert requested(module, QUERY, KEY, None, {"is_causal": True}, MaskReader()).is_causal is True
    assert requested(module.train(), QUERY, KEY, None, kwargs, MaskReader()).dropout == 0


def test_sinks_are_found_in_three_spellings() -> None:
    module, values = nn.Module(), torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert given_sinks(module, {}) is None
    for kwargs in ({"s_aux": values}, {"sinks": values}):
        assert given_sinks(module, kwargs).tolist() == [1, 2, 3, 4]  # type: ignore[union-attr]
    by_row = given_sinks(module, {"sinks": torch.zeros(2, 4, 6, 1)})
    assert by_row is not None
    assert by_row.shape == (2, 4, 6)
    module.sinks = nn.Parameter(values)
    assert given_sinks(module, {}).tolist() == [1, 2, 3, 4]  # type: ignore[union-attr]


def test_the_finite_part_of_a_mask_is_a_bias_and_a_plain_mask_is_none() -> None:
    bias = torch.arange(6.0).expand(2, 1, 6, 6)
    assert additive_bias(additive(float("-inf")), {}, KEY) is None
    assert additive_bias(BOOLEAN, {}, KEY) is None
    assert additive_bias(None, {"position_bias": torch.ones(1, 4, 6, 6)}, KEY) is None  # constant in each row
    tilted = additive_bias((bias + additive(-1e9)), {}, KEY)
    assert tilted is not None
    assert tilted[0, 0, 5].tolist() == [0, 1, 2, 3, 4, 5]
    both = additive_bias(bias, {"position_bias": bias}, KEY)
    assert both is not None
    assert both[0, 0, 5].tolist() == [0, 2, 4, 6, 8, 10]
