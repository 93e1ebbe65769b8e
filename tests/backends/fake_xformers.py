"""A stand-in for xformers on a CPU: its mask classes as their docstrings define them, its function as its formula."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType

import torch


@dataclass
class _SeqLenInfo:
    seqstart: torch.Tensor
    max_seqlen: int
    min_seqlen: int
    seqstart_py: list


@dataclass
class _PaddedSeqLenInfo(_SeqLenInfo):
    seqlen: torch.Tensor
    seqlen_py: list
    padding: int


class Band:
    """Visible: -right <= query + shift - key <= left; shift is 0 (top-left) or keys - queries (bottom-right)."""

    left, right, bottom_right = None, None, False

    def keep(self, q_len, kv_len):
        shift = kv_len - q_len if self.bottom_right else 0
        back = torch.arange(q_len)[:, None] + shift - torch.arange(kv_len)
        keep = torch.ones_like(back, dtype=torch.bool)
        if self.left is not None:
            keep &= back <= self.left
        if self.right is not None:
            keep &= back >= -self.right
        return keep

    def materialize(self, shape, dtype=torch.float32, device="cpu"):
        hidden = ~self.keep(*shape[-2:])
        return torch.zeros(shape, dtype=dtype).masked_fill(hidden, float("-inf"))


class LowerTriangularMask(Band):
    right = 0


class LowerTriangularFromBottomRightMask(Band):
    right, bottom_right = 0, True

    def make_local_attention(self, window_size):
        made = LowerTriangularFromBottomRightMask()
        made.left = window_size - 1
        return made


class LocalAttentionFromBottomRightMask(Band):
    bottom_right = True

    def __init__(self, window_left, window_right):
        self.left, self.right = window_left, window_right


class BlockDiagonalMask(Band):
    def __init__(self, q_seqinfo, k_seqinfo):
        self.q_seqinfo, self.k_seqinfo = q_seqinfo, k_seqinfo

    @classmethod
    def from_seqlens(cls, *lengths, device=None):
        raise RuntimeError("pin_memory=True requires a CUDA or other accelerator backend")

    def banded(self, left, right, bottom_right):
        made = BlockDiagonalMask(self.q_seqinfo, self.k_seqinfo)
        made.left, made.right, made.bottom_right = left, right, bottom_right
        return made

    def make_causal(self):
        return self.banded(None, 0, False)

    def make_causal_from_bottomright(self):
        for q, k in zip(
            torch.tensor(self.q_seqinfo.seqstart_py).diff(), torch.tensor(self.k_seqinfo.seqstart_py).diff()
        ):
            if k < q:
                raise ValueError("Expected `num_keys >= num_queries`")
        return self.banded(None, 0, True)

    def make_local_attention(self, window_size):
        return self.banded(window_size - 1, 0, False)

    def make_local_attention_from_bottomright(self, window_size):
        self.make_causal_from_bottomright()
        return self.banded(window_size - 1, 0, True)

    def materialize(self, shape, dtype=torch.float32, device="cpu"):
        q, k = self.q_seqinfo.seqstart_py, self.k_seqinfo.seqstart_py
        assert tuple(shape[-2:]) == (q[-1], k[-1]), "one row holds every block"
        bias = torch.full(shape, float("-inf"), dtype=dtype)
        for (q0, q1), (k0, k1) in zip(pairwise(q), pairwise(k)):
            bias[..., q0:q1, k0:k1] = Band.materialize(self, (q1 - q0, k1 - k0), dtype)
        return bias


class BlockDiagonalPaddedKeysMask(BlockDiagonalMask):
    def __init__(self, q_seqinfo, k_seqinfo):
        assert isinstance(k_seqinfo, _PaddedSeqLenInfo)
        assert k_seqinfo.padding == k_seqinfo.max_seqlen == k_seqinfo.seqlen_py[0]
        super().__init__(q_seqinfo, k_seqinfo)

    def make_local_attention(self, window_left, window_right):
        return self.banded(window_left, window_right, True)


def memory_efficient_attention(query, key, value, attn_bias=None, p=0.0, scale=None):
    """The formula of its docstring, after the checks of its operators: no broadcasting, aligned bias rows."""
    assert query.ndim == key.ndim == value.ndim
    assert query.ndim in (4, 5)
    assert query.shape[2:-1] == key.shape[2:-1] == value.shape[2:-1]
    assert all(x.stride(-1) == 1 for x in (query, key, value))
    q, k, v = (x.movedim(1, -2) for x in (query, key, value))
    bias = attn_bias
    if isinstance(bias, Band):
        bias = bias.materialize((q.shape[-2], k.shape[-2]), dtype=query.dtype)
    elif bias is not None:
        assert bias.shape == (*q.shape[:-1], k.shape[-2])
        assert bias.dtype == query.dtype
        assert bias.stride(-2) % 8 == 0
    scores = q @ k.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    weights = (scores if bias is None else scores + bias).softmax(-1)
    return (torch.nn.functional.dropout(weights, p) @ v).movedim(-2, 1).contiguous()


def modules():
    """Name -> module, for `sys.modules`."""
    found = {name: ModuleType(name) for name in ("xformers", "xformers.ops", "xformers.ops.fmha")}
    bias = ModuleType("xformers.ops.fmha.attn_bias")
    for kind in (
        _SeqLenInfo,
        _PaddedSeqLenInfo,
        LowerTriangularMask,
        LowerTriangularFromBottomRightMask,
        LocalAttentionFromBottomRightMask,
        BlockDiagonalMask,
        BlockDiagonalPaddedKeysMask,
    ):
        setattr(bias, kind.__name__, kind)
    found["xformers.ops.fmha"].attn_bias = bias
    found["xformers.ops"].memory_efficient_attention = memory_efficient_attention
    found["xformers.ops"].fmha = found["xformers.ops.fmha"]
    found["xformers"].ops = found["xformers.ops"]
    return found | {bias.__name__: bias}
