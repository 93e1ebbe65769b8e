"""varlen_attn: how it is packed and spelled, against a stand-in with the contract of the CUDA-only function."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch.nn.attention import varlen as torch_varlen

from attncheck.backends import varlen
from attncheck.backends.interface import Ask
from attncheck.backends.varlen import SPELLINGS, spell
from attncheck.semantics.observation import Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window
from tests.backends.reference import tensors, wanted


def packed_attention(query, key, value, window, scale, ends_q, ends_k):
    """Each sequence by itself, tokens x heads x width, diagonal at the bottom right, window inclusive, -1 unbounded."""
    left, right = (None if side < 0 else side for side in window)
    rows = []
    for first_q, last_q, first_k, last_k in zip(ends_q, ends_q[1:], ends_k, ends_k[1:]):
        parts = (query[first_q:last_q], key[first_k:last_k], value[first_k:last_k])
        one = wanted(Ask(Window(left, right), scale=scale), *(part.transpose(0, 1)[None] for part in parts))
        rows.append(one[0].transpose(0, 1).to(query.dtype))
    return torch.cat(rows)


def of_torch_2_13(q, k, v, cu_q, cu_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False):
    """Signature and head check as in torch 2.12 and later."""
    if not enable_gqa and q.shape[1] != k.shape[1]:
        raise ValueError("Expect query and key/value to have the same number of heads")
    assert (max_q, max_k) == (int(cu_q.diff().max()), int(cu_k.diff().max()))
    assert cu_q.dtype == cu_k.dtype == torch.int32
    return packed_attention(q, k, v, window_size, scale, cu_q.tolist(), cu_k.tolist())


def of_torch_2_11(q, k, v, cu_q, cu_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)):
    return packed_attention(q, k, v, window_size, scale, cu_q.tolist(), cu_k.tolist())


def of_torch_2_10(q, k, v, cu_q, cu_k, max_q, max_k, is_causal=False, return_aux=None):
    return packed_attention(q, k, v, (-1, 0 if is_causal else -1), None, cu_q.tolist(), cu_k.tolist())


@pytest.fixture(params=[of_torch_2_13, of_torch_2_11], ids=["torch 2.13", "torch 2.11"])
def function(request, monkeypatch):
    monkeypatch.setattr(torch_varlen, "varlen_attn", request.param)


@pytest.mark.usefixtures("function")
@pytest.mark.parametrize("window", [CAUSAL, FULL, Window(7, 0), Window(5, 3), Window(None, 2), Window(4, None)])
@pytest.mark.parametrize(("q_len", "kv_len"), [(24, 24), (16, 40), (40, 16)])
def test_what_is_spelled_is_what_is_asked(window, q_len, kv_len):
    given, ask = tensors(q_len, kv_len), Ask(window, scale=0.3)
    output = varlen.load()(*given, **spell(ask, q_len, kv_len))
    assert output.shape == given[0].shape
    torch.testing.assert_close(output.double(), wanted(ask, *given), atol=2e-6, rtol=0)


@pytest.mark.usefixtures("function")
def test_grouped_heads_are_announced_where_the_function_asks_for_it():
    given = tensors(24, 24, heads=6, kv_heads=2)
    output = varlen.load()(*given, **spell(Ask(), 24, 24))
    torch.testing.assert_close(output.double(), wanted(Ask(), *given), atol=2e-6, rtol=0)


def test_the_installed_function_has_the_arguments_of_the_table():
    assert set(varlen.SINCE) - {"varlen_attn"} <= set(inspect.signature(torch_varlen.varlen_attn).parameters)


def test_torch_2_10_has_causal_attention_and_nothing_else(monkeypatch):
    monkeypatch.setattr(torch_varlen, "varlen_attn", of_torch_2_10)
    given = tensors(16, 24)
    assert spell(Ask(), 16, 24) == {"is_causal": True}
    output = varlen.load()(*given, **spell(Ask(), 16, 24))
    torch.testing.assert_close(output.double(), wanted(Ask(), *given), atol=2e-6, rtol=0)
    for ask, limit in ((Ask(Window(7, 0)), "torch >= 2.11"), (Ask(scale=0.5), "torch >= 2.11")):
        refusal = spell(ask, 16, 24)
        assert isinstance(refusal, Rejected)
        assert [reason.limit for reason in refusal.reasons] == [limit]


@pytest.mark.parametrize(
    ("ask", "limit"),
    [
        (Ask(softcap=5.0), "no softcap"),
        (Ask(sinks=torch.zeros(4)), "no sinks"),
        (Ask(slopes=torch.ones(4)), "no slopes"),
        (Ask(mask=torch.ones(8, 16) > 0), "no mask"),
        (Ask(dropout=0.1), "no dropout"),
        (Ask(alignment=Alignment.TOP_LEFT), "bottom-right alignment, or as many queries as keys"),
    ],
)
def test_what_it_cannot_say_is_refused(ask, limit):
    refusal = spell(ask, 8, 16)
    assert isinstance(refusal, Rejected)
    assert [reason.limit for reason in refusal.reasons] == [limit]


def test_the_documentation_promises_one_key_less_than_the_kernel_gives(monkeypatch):
    """ "(W, 0) ... of size W" promises W keys; the integers go to the kernel as they are, which sees W + 1."""
    monkeypatch.setattr(torch_varlen, "varlen_attn", of_torch_2_13)
    row = next(row for row in SPELLINGS if row.text == "window_size=(8, 0)")
    given = tensors(24, 24)
    output = varlen.load()(*given, **row.arguments).double()
    assert row.promise == Window(7, 0)
    torch.testing.assert_close(output, wanted(Ask(Window(8, 0)), *given), atol=2e-6, rtol=0)
    assert (output - wanted(Ask(row.promise), *given)).abs().max() > 1e-2


@pytest.mark.gpu
@pytest.mark.parametrize("window", [CAUSAL, FULL, Window(7, 0), Window(5, 3)])
def test_the_real_function_on_a_gpu(window):
    given, ask = tensors(64, 96, kv_heads=2, head_dim=64, head_dim_v=64, dtype=torch.bfloat16), Ask(window)
    output = varlen.load()(*(x.cuda() for x in given), **spell(ask, 64, 96))
    torch.testing.assert_close(output.cpu().double(), wanted(ask, *given), atol=2e-2, rtol=0)
