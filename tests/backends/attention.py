"""What the fake libraries of these tests compute with, and the float64 attention that a call is compared with."""

from __future__ import annotations

import torch

from attncheck.backends.interface import Ask
from attncheck.probe.reading import reference
from attncheck.semantics.observation import Rejected
from attncheck.semantics.spec import Alignment, Window

LENGTHS = ((48, 48), (20, 48))
WINDOWS = (Window(None, 0), Window(7, 0), Window(5, 3), Window(None, None), Window(6, None))


def tensors(q_len=48, kv_len=48, heads=4, kv_heads=2, width=16, value=None, batch=2, dtype=torch.float32):
    """q, k and v, batch x heads x tokens x width, always the same numbers for the same sizes."""
    make = torch.Generator().manual_seed(q_len * 100 + kv_len)
    sizes = ((heads, q_len, width), (kv_heads, kv_len, width), (kv_heads, kv_len, value or width))
    return tuple(torch.randn(batch, *size, generator=make).to(dtype) for size in sizes)


def distance(ask, q_len, kv_len):
    """Query position minus key position on the diagonal of `ask`, queries x keys."""
    shift = kv_len - q_len if ask.alignment is Alignment.BOTTOM_RIGHT else 0
    return torch.arange(q_len)[:, None] + shift - torch.arange(kv_len)


def visible(ask, q_len, kv_len):
    """The keys that `ask` shows each query, written from the definition of `Window`."""
    back = distance(ask, q_len, kv_len)
    keep = torch.ones_like(back, dtype=torch.bool)
    if ask.window.left is not None:
        keep &= back <= ask.window.left
    if ask.window.right is not None:
        keep &= back >= -ask.window.right
    return keep


def expected(ask, q, k, v):
    """What `ask` means, in float64."""
    q_len, kv_len = q.shape[2], k.shape[2]
    keep, bias = visible(ask, q_len, kv_len), None
    if ask.mask is not None:
        keep = ask.mask if ask.mask.dtype == torch.bool else None
        bias = None if keep is not None else ask.mask
    if ask.slopes is not None:
        bias = -ask.slopes.double().view(1, -1, 1, 1) * distance(ask, q_len, kv_len).abs()
    scale = q.shape[-1] ** -0.5 if ask.scale is None else ask.scale
    return reference.attention(q, k, v, keep, reference.Terms(scale, ask.softcap, bias, ask.sinks))


def difference(api, ask, q, k, v):
    """Largest difference between the API, asked for `ask`, and float64 attention; fails where it cannot say it."""
    arguments = api.spell(ask, q.shape[2], k.shape[2])
    assert not isinstance(arguments, Rejected), arguments
    out = api.load()(q, k, v, **arguments)
    assert out.shape == (*q.shape[:3], v.shape[-1])
    return float((out.double() - expected(ask, q, k, v)).abs().max())


def agrees(api, ask, **sizes):
    """The API computes what `ask` means, to the precision of float32, for these sizes (see `tensors`)."""
    assert difference(api, ask, *tensors(**sizes)) < 1e-5


def limits_broken(verdict):
    """The limits of a `Rejected`, as written; fails for anything else."""
    assert isinstance(verdict, Rejected), verdict
    assert all(reason.text and reason.source for reason in verdict.reasons)
    return [reason.limit for reason in verdict.reasons]


def refused(api, q_len=48, kv_len=48, **fields):
    """The limits because of which the API cannot say an `Ask` with these fields."""
    return limits_broken(api.spell(Ask(**fields), q_len, kv_len))
