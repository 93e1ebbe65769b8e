"""flashinfer: limits on stored machines, and calls checked end to end through a fake of the package."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from attncheck.backends.flashinfer import BACKEND
from attncheck.backends.interface import Ask, Call, Usable
from attncheck.probe.flash import contract
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window
from tests.backends.attention import agrees, difference, limits_broken, refused, tensors, visible
from tests.backends.environments import A100, B200, CPU_ONLY, H100, MI300, RTX_5090, T4, with_libraries

HALF = Call("cuda", "bfloat16", head_dim=64)
API = BACKEND.apis[0]
SAYABLE = (Window(None, 0), Window(7, 0), Window(None, None), Window(6, None))


def prefill(q, k, v, custom_mask=None, causal=False, sm_scale=None, window_left=-1, logits_soft_cap=None):
    """`single_prefill_with_kv_cache` of 0.7.2 by its docstring: tokens x heads x width; a mask replaces causal."""
    (q_len, _, width), kv_len = q.shape, k.shape[0]
    assert k.shape[2] == width
    if causal and custom_mask is None and kv_len < q_len:
        raise RuntimeError("kv_len must be greater than or equal to qo_len")
    distance = torch.arange(q_len)[:, None] + kv_len - q_len - torch.arange(kv_len)
    right = 0 if causal and custom_mask is None else None
    keep = contract.band(distance, None if window_left < 0 else window_left, right)
    if custom_mask is not None:
        assert custom_mask.dtype == torch.bool
        assert custom_mask.shape == (q_len, kv_len)
        assert custom_mask.is_contiguous()
        keep = keep & custom_mask
    terms = contract.Softmax(sm_scale, logits_soft_cap or 0.0)
    return contract.attend(q[None], k[None], v[None], keep, distance, terms)[0][0]


@pytest.fixture(autouse=True)
def package(monkeypatch):
    module = ModuleType("flashinfer")
    module.single_prefill_with_kv_cache = prefill
    monkeypatch.setitem(sys.modules, "flashinfer", module)


@pytest.mark.parametrize("window", SAYABLE)
@pytest.mark.parametrize(("q_len", "kv_len"), [(48, 48), (20, 48)])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_windows_lengths_and_grouped_heads(window, q_len, kv_len, kv_heads):
    agrees(API, Ask(window), q_len=q_len, kv_len=kv_len, kv_heads=kv_heads)


def test_scale_softcap_and_value_width():
    agrees(API, Ask(CAUSAL, scale=0.7, softcap=2.0), value=8)


def test_masks_with_and_without_a_batch_axis():
    keep = torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(0)) > 0.4
    keep[..., 0] = True
    for mask in (keep, keep[:1], keep[0, 0]):
        agrees(API, Ask(FULL, mask=mask))
    agrees(API, Ask(FULL, Alignment.TOP_LEFT, mask=keep[..., :20, :]), q_len=20)


def test_more_queries_than_keys_are_refused_by_the_kernel_and_by_the_limit():
    with pytest.raises(RuntimeError, match="kv_len"):
        difference(API, Ask(CAUSAL), *tensors(48, 20))
    call = replace(HALF, causal=True, q_len=48, kv_len=20)
    assert limits_broken(BACKEND.decide("flashinfer", having(A100), call)) == ["kv_len >= q_len"]
    assert limits_broken(BACKEND.decide("flashinfer", having(H100), replace(call, head_dim=96))) == ["kv_len >= q_len"]
    assert isinstance(BACKEND.decide("flashinfer", having(A100), replace(call, causal=False)), Usable)
    assert isinstance(BACKEND.decide("flashinfer", having(H100), call), Usable)  # its own kernel there does not check


def test_what_cannot_be_said_is_refused_with_the_reason():
    assert refused(API, window=Window(5, 3)) == ["a right side of 0 or unbounded"]
    top_left = {"alignment": Alignment.TOP_LEFT, "q_len": 20}
    assert refused(API, **top_left) == ["bottom-right alignment, or as many queries as keys"]
    assert refused(API, mask=torch.zeros(48, 48)) == ["a bool mask"]
    assert refused(API, mask=torch.ones(2, 4, 48, 48, dtype=torch.bool)) == ["one mask for all heads"]
    assert refused(API, sinks=torch.zeros(4), slopes=torch.ones(4), dropout=0.1) == [
        "no sinks",
        "no slopes",
        "no dropout",
    ]


@pytest.mark.parametrize("lengths", [(48, 48), (32, 64)])
def test_spellings_mean_what_they_promise(lengths):
    q, k, _ = tensors(*lengths)
    for row in API.spellings:
        out = API.load()(q, k, torch.eye(lengths[1]).expand(2, 2, -1, -1), **dict(row.arguments))
        ask = Ask(row.promise, row.alignment or Alignment.BOTTOM_RIGHT)
        assert torch.equal(out[1, 3] > 0, visible(ask, *lengths)), row.text
        assert row.source


def having(environment):
    return with_libraries(environment, {"flashinfer-python": "0.7.2.post1"})


@pytest.mark.parametrize(
    ("environment", "call", "broken"),
    [
        (having(H100), {}, []),
        (having(A100), {"num_heads": 8, "num_kv_heads": 2}, []),
        (having(B200), {}, []),
        (having(RTX_5090), {"softcap": True, "mask": True, "window": True}, []),
        (having(T4), {}, []),
        (H100, {}, ["flashinfer-python installed"]),
        (having(CPU_ONLY), {}, ["a visible CUDA GPU"]),
        (having(MI300), {}, ["a visible CUDA GPU"]),
        (having(H100), {"head_dim": 32}, ["a multiple of 16, at least 64, at most 512"]),
        (having(H100), {"head_dim": 72}, ["a multiple of 16, at least 64, at most 512"]),
        (having(H100), {"dtype": "float32"}, ["float16 or bfloat16"]),
        (having(H100), {"backward": True}, ["forward only"]),
        (having(H100), {"num_heads": 8, "num_kv_heads": 3}, ["query heads a multiple of kv heads"]),
        (having(H100), {"sinks": True, "alibi": True}, ["no sinks", "no alibi"]),
    ],
)
def test_limits(environment, call, broken):
    verdict = BACKEND.decide("flashinfer", environment, replace(HALF, **call))
    if broken:
        assert limits_broken(verdict) == broken
    else:
        assert isinstance(verdict, Usable), verdict
        assert "nvcc and ninja" in verdict.note
