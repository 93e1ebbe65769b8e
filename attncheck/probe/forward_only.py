"""Spares uncompiled flex attention the gradient rule of its index lookups, half of its time on short sequences."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PRIVATE = "torch._dynamo._trace_wrapped_higher_order_op"


@contextmanager
def forward_only() -> Iterator[None]:
    """While it lasts, `mask[i]` inside mask and score functions calls torch's own forward directly.

    The same operator runs on the same inputs; only the autograd function around it is left out, so nothing may ask for
    gradients meanwhile. Does nothing where flex attention is compiled, or where this torch has no such function.
    """
    module: Any = None
    try:
        if uncompiled():
            module = importlib.import_module(_PRIVATE)
        wrapped, bare = module.mod_index, module.ModIndex.forward
    except (ImportError, AttributeError):
        yield
        return
    module.mod_index = bare
    try:
        yield
    finally:
        module.mod_index = wrapped


def uncompiled() -> bool:
    """True when `torch.compile` is switched off for the process, by either of torch's variables."""
    return "1" in (os.environ.get("TORCHDYNAMO_DISABLE"), os.environ.get("TORCH_COMPILE_DISABLE"))
