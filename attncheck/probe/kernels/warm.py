"""Loads what the first measurement on a device would otherwise wait for: its context, and torch's own kernels."""

from __future__ import annotations

from contextlib import suppress

import torch

from attncheck.probe.kernels.accuracy import plain
from attncheck.probe.reading.reference import Terms, attention

#: Tokens of a call that loads kernels: any number does.
_TOKENS = 128


def load(device: str) -> None:
    """Run float64 and plain attention once, forward and backward. What breaks will break again, and be told then."""
    with suppress(Exception):
        places = torch.arange(_TOKENS, device=device)
        keep = (places[:, None] >= places[None, :])[None, None]
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            query, key, value = (
                torch.randn((1, heads, _TOKENS, 64), device=device, dtype=dtype, requires_grad=True)
                for heads in (4, 2, 2)
            )
            for computed in (attention, plain):
                output = computed(query, key, value, keep, Terms(0.125))
                output.double().norm().backward()
        if device == "cuda":
            torch.cuda.synchronize()
