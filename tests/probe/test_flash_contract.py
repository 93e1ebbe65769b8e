"""The plain-torch flash contract against an attention written cell by cell, and the documented corner cases."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from attncheck.probe.flash import padding as flash_padding
from attncheck.probe.flash.contract import ContractError
from attncheck.probe.flash.signatures import FUNCTIONS, fa2_dense, fa2_varlen, fa3_dense, fa4_dense, fa4_varlen

H, H_KV, D = 4, 2, 8


def tensors(q_len: int, kv_len: int, batch: int = 1, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(q_len * 100 + kv_len)
    return tuple(
        torch.randn(batch, length, heads, D, generator=generator, dtype=torch.float64).to(dtype)
        for length, heads in ((q_len, H), (kv_len, H_KV), (kv_len, H_KV))
    )


def by_hand(q, k, v, left, right, softcap=0.0, scale=None, sinks=None, slopes=None):
    """softmax over an explicit list of visible keys, one query at a time, in Python floats of torch.float64."""
    q, k, v = (x[0].double() for x in (q, k, v))
    out = torch.zeros(q.shape[0], H, D, dtype=torch.float64)
    offset = k.shape[0] - q.shape[0]
    for h in range(H):
        kv = h // (H // H_KV)
        for i in range(q.shape[0]):
            keys = [
                j
                for j in range(k.shape[0])
                if (left is None or j >= i + offset - left) and (right is None or j <= i + offset + right)
            ]
            if not keys:
                continue
            logits = [float(q[i, h] @ k[j, kv]) * (scale or 1 / math.sqrt(D)) for j in keys]
            if softcap:
                logits = [softcap * math.tanh(x / softcap) for x in logits]
            if slopes is not None:
                logits = [x - float(slopes[h]) * abs(i + offset - j) for x, j in zip(logits, keys)]
            weights = [math.exp(x) for x in logits]
            total = sum(weights) + (math.exp(float(sinks[h])) if sinks is not None else 0.0)
            for weight, j in zip(weights, keys):
                out[i, h] += weight / total * v[j, kv]
    return out


def visible(window, causal=False, q_len=12, kv_len=12, dense=fa2_dense):
    """(left, right) reach of the middle query, read from identity values."""
    q, k = torch.zeros(1, q_len, 1, kv_len), torch.zeros(1, kv_len, 1, kv_len)
    out = dense(q, k, torch.eye(kv_len)[None, :, None], causal=causal, window_size=window)
    out = out[0] if isinstance(out, tuple) else out
    middle = q_len // 2
    seen = out[0, middle, 0].nonzero().flatten() - (middle + kv_len - q_len)
    return (-int(seen.min()), int(seen.max())) if len(seen) else None


@pytest.mark.parametrize(("q_len", "kv_len"), [(7, 7), (3, 9), (9, 4), (1, 6)])
@pytest.mark.parametrize("window", [(-1, -1), (2, 0), (2, 3), (-1, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_dense_equals_the_definition(q_len, kv_len, window, causal):
    q, k, v = tensors(q_len, kv_len, dtype=torch.float64)
    left, right = (None if side < 0 else side for side in window)
    expected = by_hand(q, k, v, left, 0 if causal else right, softcap=3.0, scale=0.7)
    out = fa2_dense(q, k, v, causal=causal, window_size=window, softcap=3.0, softmax_scale=0.7)[0]
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=1e-12)


def test_documented_windows_of_fa2():
    assert visible((4, 0)) == (4, 0)
    assert visible((4, 4), causal=True) == (4, 0)
    assert visible((4, 3)) == (4, 3)
    assert visible((-1, -1), causal=True) == (6, 0)
    assert visible((4, 4), causal=True, dense=fa3_dense) == (4, 0)


def test_documented_windows_of_fa4():
    assert visible((4, 0), dense=fa4_dense) == (4, 0)
    assert visible((4, None), causal=True, dense=fa4_dense) == (4, 0)
    assert visible((None, None), causal=True, dense=fa4_dense) == (6, 0)
    assert visible((-1, -1), causal=True, dense=fa4_dense) == (6, 0)
    # Measured on an H100: only the pair of negative sides means "unbounded".
    assert visible((-1, 0), causal=True, dense=fa4_dense) is None


def test_rows_without_keys_are_zero_forward_and_backward():
    q, k, v = (x.requires_grad_() for x in tensors(6, 3))
    out = fa2_dense(q, k, v, causal=True)
    assert out[0, :3].abs().max() == 0
    assert out[0, 3:].abs().min() > 0
    out.sum().backward()
    assert all(bool(torch.isfinite(x.grad).all()) for x in (q, k, v))
    assert q.grad[0, :3].abs().max() == 0


def test_gradients_equal_those_of_the_same_attention_in_torch():
    q, k, v = (x.requires_grad_() for x in tensors(7, 7, dtype=torch.float64))
    weight = torch.randn(7, H, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (fa2_dense(q, k, v, causal=True, window_size=(2, 2))[0] * weight).sum().backward()
    mine = [x.grad.clone() for x in (q, k, v)]
    for x in (q, k, v):
        x.grad = None
    distance = torch.arange(7)[:, None] - torch.arange(7)
    mask = (distance >= 0) & (distance <= 2)
    out = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (q, k.repeat_interleave(2, 2), v.repeat_interleave(2, 2))), attn_mask=mask
    )
    (out.transpose(1, 2)[0] * weight).sum().backward()
    for a, x in zip(mine, (q, k, v)):
        torch.testing.assert_close(a, x.grad, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_half_and_close(dtype):
    q, k, v = tensors(9, 9, dtype=dtype)
    out = fa2_dense(q, k, v, causal=True)
    assert out.dtype == dtype
    torch.testing.assert_close(out[0].double(), by_hand(q, k, v, None, 0), atol=2e-2, rtol=2e-2)


def test_alibi_and_sinks():
    q, k, v = tensors(5, 8, dtype=torch.float64)
    slopes, sinks = torch.tensor([0.5, 0.25, 0.125, 0.0625]), torch.tensor([0.0, 1.0, -2.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(
        fa2_dense(q, k, v, causal=True, alibi_slopes=slopes)[0], by_hand(q, k, v, None, 0, slopes=slopes)
    )
    out, lse = fa4_dense(q, k, v, causal=True, learnable_sink=sinks)
    torch.testing.assert_close(out[0], by_hand(q, k, v, None, 0, sinks=sinks))
    assert lse.shape == (1, H, 5)


@pytest.mark.parametrize("implementation", sorted(FUNCTIONS))
def test_varlen_is_dense_on_each_sequence(implementation):
    functions = FUNCTIONS[implementation]
    lengths_q, lengths_k = (3, 1, 5), (3, 6, 7)
    q, k, v = tensors(sum(lengths_q), sum(lengths_k))
    cu_q, cu_k = (torch.tensor([0, *lengths]).cumsum(0).to(torch.int32) for lengths in (lengths_q, lengths_k))
    window = {"window_size": (2, 2)}
    out = functions.varlen(
        q[0], k[0], v[0], cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, max_seqlen_q=5, max_seqlen_k=7, causal=True, **window
    )
    out = out[0] if isinstance(out, tuple) else out
    for a, b, c, d in zip(cu_q[:-1], cu_q[1:], cu_k[:-1], cu_k[1:]):
        part = functions.dense(q[:, a:b], k[:, c:d], v[:, c:d], causal=True, **window)
        part = part[0] if isinstance(part, tuple) else part
        torch.testing.assert_close(out[a:b], part[0])


def test_tokens_behind_the_last_sequence_are_left_alone():
    q, k, v = tensors(6, 6)
    cu = torch.tensor([0, 4], dtype=torch.int32)
    out = fa2_varlen(q[0], k[0], v[0], cu, cu, 4, 4, causal=True)
    assert out[4:].abs().max() == 0
    torch.testing.assert_close(out[:4], fa2_dense(q[:, :4], k[:, :4], v[:, :4], causal=True)[0])


def test_invalid_calls_are_refused():
    q, k, v = tensors(6, 6)
    good = torch.tensor([0, 6], dtype=torch.int32)
    with pytest.raises(ContractError, match="int32"):
        fa2_varlen(q[0], k[0], v[0], good.long(), good, 6, 6)
    with pytest.raises(ContractError, match="does not fit"):
        fa2_varlen(q[0], k[0], v[0], torch.tensor([0, 9], dtype=torch.int32), good, 9, 6)
    with pytest.raises(ContractError, match="max_seqlen_q"):
        fa2_varlen(q[0], k[0], v[0], good, good, 5, 6)
    with pytest.raises(ContractError, match="sequences"):
        fa2_varlen(q[0], k[0], v[0], torch.tensor([0, 3, 6], dtype=torch.int32), good, 3, 6)
    with pytest.raises(ContractError, match="heads"):
        fa2_dense(q[:, :, :3], k, v)
    with pytest.raises(ContractError, match="head size"):
        fa2_dense(q, k, v[..., :4])
    with pytest.raises(ContractError, match="dropout"):
        fa2_dense(q, k, v, softcap=1.0, dropout_p=0.1)
    with pytest.raises(TypeError):
        fa2_dense(q, k, v, s_aux=torch.zeros(H))
    with pytest.raises(TypeError):
        fa3_dense(q, k, v, dropout_p=0.0)
    with pytest.raises(NotImplementedError, match="block_table"):
        fa2_varlen(q[0], k[0], v[0], good, good, 6, 6, block_table=torch.zeros(1, 1))


def test_signatures_say_what_each_generation_has():
    """transformers reads these: an argument too many would hide that the real library lacks the feature."""
    has = {
        name: {
            feature
            for feature in ("dropout_p", "softcap", "window_size", "deterministic", "s_aux", "learnable_sink")
            if feature in inspect.signature(functions.varlen).parameters
        }
        for name, functions in FUNCTIONS.items()
    }
    assert has == {
        "flash_attention_2": {"dropout_p", "softcap", "window_size", "deterministic"},
        "flash_attention_3": {"softcap", "window_size", "deterministic"},
        "flash_attention_4": {"softcap", "window_size", "deterministic", "learnable_sink"},
    }


def test_padding_functions_round_trip():
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0]])
    x = torch.randn(2, 4, 3)
    tokens, indices, cu, longest, used = flash_padding.unpad_input(x, mask)
    assert (tokens.shape, cu.tolist(), cu.dtype, longest) == ((5, 3), [0, 3, 5], torch.int32, 3)
    assert used.tolist() == [3, 2]
    torch.testing.assert_close(flash_padding.pad_input(tokens, indices, 2, 4), x * mask[..., None])
    torch.testing.assert_close(flash_padding.index_first_axis(x.flatten(0, 1), indices), tokens)


@pytest.mark.parametrize("name", ["max_seqlen_q", "max_seqlen_k"])
def test_fa4_varlen_takes_no_tensor_for_a_length(name: str) -> None:
    x, ends = torch.randn(8, 2, 16), torch.tensor([0, 3, 8], dtype=torch.int32)
    lengths = {"cu_seqlens_q": ends, "cu_seqlens_k": ends, "max_seqlen_q": 5, "max_seqlen_k": 5}
    fa4_varlen(x, x, x, **lengths)
    with pytest.raises(ContractError, match=f"flash-attn 4 takes {name} as an int, got a tensor"):
        fa4_varlen(x, x, x, **{**lengths, name: torch.tensor(5)})
    fa2_varlen(x, x, x, **{**lengths, name: torch.tensor(5)})


def test_fa4_varlen_takes_sinks():
    q, k, v = tensors(6, 6)
    cu = torch.tensor([0, 2, 6], dtype=torch.int32)
    with_sink, _ = fa4_varlen(
        q[0], k[0], v[0], cu_seqlens_q=cu, cu_seqlens_k=cu, causal=True, learnable_sink=torch.full((H,), 50.0)
    )
    assert with_sink.abs().max() < 1e-6
