"""Leaving out the gradient rule of flex attention's lookups changes no number, and is undone."""

from __future__ import annotations

import os

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # before torch: flex_attention stays uncompiled

import pytest
import torch
import torch._dynamo._trace_wrapped_higher_order_op as private
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from attncheck.probe.forward_only import forward_only


def masked_attention() -> torch.Tensor:
    """Attention whose mask looks document numbers up, which is what costs the time."""
    document = torch.tensor([0] * 9 + [1] * 7)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 16, 8, generator=generator) for _ in range(3))
    mask = create_block_mask(lambda b, h, q, k: (document[q] == document[k]) & (k <= q), 1, 1, 16, 16, device="cpu")
    with torch.no_grad():
        return flex_attention(query, key, value, block_mask=mask)


@pytest.mark.skipif(not hasattr(private, "mod_index"), reason="this torch has no such function")
def test_the_same_numbers_come_out_by_the_short_way():
    usual = private.mod_index
    expected = masked_attention()
    with forward_only():
        assert private.mod_index is not usual
        assert torch.equal(masked_attention(), expected)
    assert private.mod_index is usual


@pytest.mark.skipif(not hasattr(private, "mod_index"), reason="this torch has no such function")
def test_it_is_undone_after_an_error():
    usual = private.mod_index
    with pytest.raises(RuntimeError, match="broken"), forward_only():
        raise RuntimeError("broken")
    assert private.mod_index is usual


def test_it_stands_back_where_flex_attention_is_compiled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TORCHDYNAMO_DISABLE")
    monkeypatch.delenv("TORCH_COMPILE_DISABLE", raising=False)
    usual = getattr(private, "mod_index", None)
    with forward_only():
        assert getattr(private, "mod_index", None) is usual
