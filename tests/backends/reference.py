"""What an `Ask` computes in float64, and random tensors to compute it on: the truth for the backends' tests."""

from __future__ import annotations

import torch

from attncheck.backends.interface import Ask
from attncheck.probe.reading import reference
from attncheck.semantics.spec import Alignment


def tensors(q_len, kv_len, heads=4, kv_heads=4, head_dim=16, head_dim_v=16, dtype=torch.float32):
    """q, k, v, batch 2 x heads x tokens x width; the same ones every time."""
    generator = torch.Generator().manual_seed(q_len * 1000 + kv_len + heads + head_dim_v)
    shapes = ((heads, q_len, head_dim), (kv_heads, kv_len, head_dim), (kv_heads, kv_len, head_dim_v))
    return [torch.randn(2, *shape, generator=generator).to(dtype) for shape in shapes]


def wanted(ask: Ask, query, key, value):
    """The output in float64. Written with loops over the two rules, not with the code under test."""
    q_len, kv_len = query.shape[-2], key.shape[-2]
    off = kv_len - q_len if ask.alignment is Alignment.BOTTOM_RIGHT else 0
    left, right = ask.window.left, ask.window.right
    keep = torch.tensor(
        [
            [(left is None or i + off - j <= left) and (right is None or j - i - off <= right) for j in range(kv_len)]
            for i in range(q_len)
        ]
    )
    bias = None
    if ask.mask is not None and ask.mask.dtype == torch.bool:
        keep = ask.mask
    elif ask.mask is not None:
        keep, bias = ask.mask > -1e30, ask.mask.double()
    if ask.slopes is not None:
        distance = torch.tensor([[float(abs(i + off - j)) for j in range(kv_len)] for i in range(q_len)])
        alibi = -ask.slopes.double().view(1, -1, 1, 1) * distance
        bias = alibi if bias is None else bias + alibi
    scale = query.shape[-1] ** -0.5 if ask.scale is None else ask.scale
    sinks = None if ask.sinks is None else ask.sinks.double()
    return reference.attention(query, key, value, keep, reference.Terms(scale, ask.softcap, bias, sinks))
