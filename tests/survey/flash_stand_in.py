"""A package `flash_attn` in plain torch, with the documented contract of release 2.8, so that brute force needs no GPU.

It shows what transformers asks of flash-attention (windows, causal flags, cumulative lengths), not what a CUDA kernel
does with it. Shares nothing with attncheck's own stand-in.
"""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
from multiprocessing import util
from pathlib import Path

_PACKAGE = '''
import torch

__version__ = "2.8.3"


def _attend(q, k, v, scale, causal, window, softcap):
    """q: tokens x heads x width of one sequence; bottom-right aligned, window sides inclusive, -1 for no bound."""
    heads, groups = q.shape[1], q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = torch.einsum("qhd,khd->hqk", q.float(), k.float()) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    at = torch.arange(q.shape[0])[:, None] + k.shape[0] - q.shape[0] - torch.arange(k.shape[0])[None]
    left, right = window[0], 0 if causal else window[1]
    hidden = torch.zeros(at.shape, dtype=torch.bool)
    if left >= 0:
        hidden |= at > left
    if right >= 0:
        hidden |= -at > right
    share = torch.softmax(scores.masked_fill(hidden, float("-inf")), -1).nan_to_num(0.0)
    return torch.einsum("hqk,khd->qhd", share, v.float()).to(v.dtype)


def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0,
                    alibi_slopes=None, deterministic=False, return_attn_probs=False):
    return torch.stack([_attend(*each, softmax_scale, causal, window_size, softcap) for each in zip(q, k, v)])


def flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0,
                           softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None,
                           deterministic=False, return_attn_probs=False, block_table=None):
    for starts, tensor in ((cu_seqlens_q, q), (cu_seqlens_k, k)):
        if int(starts[-1]) != tensor.shape[0]:
            raise IndexError(f"cu_seqlens end at {int(starts[-1])} for {tensor.shape[0]} tokens: a kernel reads beyond")
    parts = []
    for n in range(len(cu_seqlens_q) - 1):
        rows, keys = slice(cu_seqlens_q[n], cu_seqlens_q[n + 1]), slice(cu_seqlens_k[n], cu_seqlens_k[n + 1])
        parts.append(_attend(q[rows], k[keys], v[keys], softmax_scale, causal, window_size, softcap))
    return torch.cat(parts)


def flash_attn_with_kvcache(*args, **kwargs):
    raise NotImplementedError("the stand-in has no paged cache")
'''

_PADDING = """
import torch
import torch.nn.functional as F


def index_first_axis(x, indices):
    return x[indices]


def unpad_input(x, mask, unused_mask=None):
    lengths = mask.sum(-1, dtype=torch.int32)
    indices = mask.flatten().nonzero().flatten()
    starts = F.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    return x.flatten(0, 1)[indices], indices, starts, int(lengths.max()), lengths


def pad_input(x, indices, batch, length):
    out = torch.zeros(batch * length, *x.shape[1:], dtype=x.dtype)
    out[indices] = x
    return out.view(batch, length, *x.shape[1:])
"""


@functools.cache
def install() -> None:
    """Put the package on the path, once, and let transformers believe in a GPU. Call it before transformers is
    imported. The folder is removed when the process that called it ends.
    """
    import torch

    folder = Path(tempfile.mkdtemp(prefix="flash-stand-in-"))
    # atexit would not do in a process of multiprocessing.
    util.Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=1)
    package, info = folder / "flash_attn", folder / "flash_attn-2.8.3.dist-info"
    for path in (package, package / "layers", package / "ops", package / "ops" / "triton", info):
        path.mkdir()
        (path / "__init__.py").write_text("")
    (package / "__init__.py").write_text(_PACKAGE)
    (package / "bert_padding.py").write_text(_PADDING)
    for stub in ("layers", "ops/triton"):
        (package / stub / "rotary.py").write_text("apply_rotary_emb = apply_rotary = None\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flash-attn\nVersion: 2.8.3\n")
    (info / "RECORD").write_text("flash_attn/__init__.py,,\n")
    (info / "top_level.txt").write_text("flash_attn\n")
    sys.path.insert(0, str(folder))
    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.version.cuda = "12.6"
