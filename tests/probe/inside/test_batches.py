"""What a batch says of its tokens: padding, documents by whatever names frameworks use, masks, caches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attncheck.errors import UsageError
from attncheck.probe.inside import batches
from attncheck.semantics.layout import PAD


def read(**batch: Any) -> batches.Said:
    batch.setdefault("input_ids", torch.ones(1, 12, dtype=torch.long))
    return batches.read(batch, two_stacks=False, encoder=False, vision=False)


def documents(said: batches.Said, row: int = 0) -> tuple[int, ...]:
    assert said.decoder is not None
    numbers = said.decoder.rows[row].document
    order = {number: place for place, number in enumerate(dict.fromkeys(n for n in numbers if n != PAD))}
    return tuple(PAD if number == PAD else order[number] for number in numbers)


TWO = (0,) * 5 + (1,) * 7


@pytest.mark.parametrize(
    "batch",
    [
        {"position_ids": torch.tensor([[*range(5), *range(7)]])},
        {"position_ids": torch.tensor([*range(5), *range(7)])},
        {"cu_seq_lens_q": torch.tensor([0, 5, 12], dtype=torch.int32)},
        {"cu_seqlens": torch.tensor([0, 5, 12], dtype=torch.int32)},
        {"packed_seq_lengths": torch.tensor([5, 7])},
        {"seq_idx": torch.tensor([TWO])},
        {"attention_mask": torch.tensor([[1] * 5 + [2] * 7])},
    ],
)
def test_documents_by_any_name(batch: dict[str, Any]) -> None:
    said = read(**batch)
    assert documents(said) == TWO
    assert said.packed
    assert "up to 2 documents a row" in said.words
    assert said.decoder is not None
    assert said.decoder.rows[0].position == (*range(5), *range(7))


def test_positions_of_padding_do_not_mean_documents() -> None:
    mask = torch.tensor([[0] * 4 + [1] * 8])
    said = read(attention_mask=mask, position_ids=torch.tensor([[1] * 4 + list(range(8))]))
    assert documents(said) == (PAD,) * 4 + (0,) * 8
    assert not said.packed


def test_positions_that_leap_ahead_do_not_mean_documents() -> None:
    assert documents(read(position_ids=torch.tensor([[*range(5), *range(20, 27)]]))) == (0,) * 12


@pytest.mark.parametrize("form", ["bool", "float"])
def test_a_mask_of_the_callers_own(form: str) -> None:
    keep = torch.ones(1, 1, 12, 12).tril().bool()
    keep[..., 5:, :5] = False
    mask = keep if form == "bool" else torch.zeros(keep.shape).masked_fill(~keep, torch.finfo(torch.float32).min)
    said = read(attention_mask=mask, position_ids=torch.tensor([[*range(5), *range(7)]]))
    assert said.decoder is not None
    custom = said.decoder.rows[0].custom
    assert custom is not None
    assert [custom.keeps(i, j) for i in range(12) for j in range(12)] == keep.flatten().tolist()
    assert documents(said) == (0,) * 12


def test_masks_that_nobody_can_lay_beside_the_tokens_are_told() -> None:
    per_head = torch.ones(1, 2, 12, 12).tril().bool()
    per_head[:, 1, 5, 2] = False
    for mask in (per_head, {"full_attention": None}):
        assert "attention_mask" in read(attention_mask=mask).remarks[0]


def test_tokens_that_a_cache_holds_come_before() -> None:
    from transformers import DynamicCache

    cache = DynamicCache()
    cache.update(torch.zeros(1, 2, 7, 4), torch.zeros(1, 2, 7, 4), 0)
    said = read(past_key_values=cache, attention_mask=torch.tensor([[0] * 2 + [1] * 17]))
    assert said.decoder is not None
    assert said.decoder.steps == ((0, 7), (7, 19))
    assert said.decoder.before == 1
    assert documents(said) == (PAD,) * 2 + (0,) * 17
    assert batches.held_bytes({"past_key_values": cache}) == 2 * 2 * 7 * 4 * 4


def test_queries_of_image_tokens_are_not_judged() -> None:
    batch = {"input_ids": torch.ones(1, 6, dtype=torch.long), "token_type_ids": torch.tensor([[0, 1, 1, 0, 0, 0]])}
    said = batches.read(batch, two_stacks=False, encoder=False, vision=True)
    assert said.decoder is not None
    assert said.decoder.rows[0].unjudged == {1, 2}
    plain = batches.read(batch, two_stacks=False, encoder=True, vision=False)
    assert plain.encoder is not None
    assert plain.encoder.rows[0].unjudged == frozenset()


def test_two_stacks_have_two_layouts() -> None:
    batch = {
        "input_ids": torch.ones(2, 9, dtype=torch.long), "attention_mask": torch.tensor([[1] * 9, [1] * 6 + [0] * 3]),
        "labels": torch.ones(2, 5, dtype=torch.long),
    }  # fmt: skip
    said = batches.read(batch, two_stacks=True, encoder=False, vision=False)
    assert said.encoder is not None
    assert said.decoder is not None
    assert (said.encoder.length, said.decoder.length) == (9, 5)
    assert said.encoder.rows[1].document == (0,) * 6 + (PAD,) * 3


def test_a_batch_without_tokens_is_no_batch() -> None:
    with pytest.raises(UsageError, match="no input_ids"):
        batches.read({"labels": torch.ones(1, 2)}, two_stacks=False, encoder=False, vision=False)
