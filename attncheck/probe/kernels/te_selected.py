"""The job "te-selected": which backend the real TransformerEngine selects, and what it says of the others."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch

from attncheck.backends.transformer_engine_call import layout
from attncheck.probe.kernels.interface import KernelJob
from attncheck.semantics.observation import Reason, Rejected
from attncheck.semantics.written import AskedCall

_SELECTED = re.compile(r"Selected backend = (\w+)(?: \(([^)]*)\))?")


class Listener(logging.Handler):
    """Keeps what the selections of a process said."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """One line of the log."""
        self.said.append(" ".join(record.getMessage().split()))


def run(step: str, arguments: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | Rejected:
    """(backend with its version in TransformerEngine's words, what it said of the others), or its refusal.

    step: key of a call. arguments: calls: key -> `AskedCall`, and device. The process must have been started with
    NVTE_DEBUG=1 and NVTE_DEBUG_LEVEL=2, and with the user's own variables. Raises what the import or the kernel raises.
    """
    from transformer_engine.pytorch import DotProductAttention

    asked: AskedCall = arguments["calls"][step]
    shape = asked.shape
    listener = Listener()
    logger = logging.getLogger("DotProductAttention")
    logger.addHandler(listener)
    given = dict(asked.arguments)
    bhsd = ((1, shape.num_heads, asked.queries, shape.head_dim), (1, shape.num_kv_heads, asked.tokens, shape.head_dim))
    dtype, device = getattr(torch, shape.dtype), str(arguments.get("device", "cuda"))
    sizes = (*bhsd, (*bhsd[1][:3], shape.head_dim_v))
    query, key, value = (torch.zeros(size, dtype=dtype, device=device, requires_grad=True) for size in sizes)
    widths = shape.head_dim if shape.head_dim == shape.head_dim_v else (shape.head_dim, shape.head_dim_v)
    laid, _, lengths = layout(given, query, key)
    try:
        module = DotProductAttention(
            num_attention_heads=shape.num_heads, kv_channels=widths, num_gqa_groups=shape.num_kv_heads, **given
        )
        module(laid(query), laid(key), laid(value), **lengths)
    except (ValueError, AssertionError, TypeError, NotImplementedError) as error:
        return Rejected((Reason(f"{type(error).__name__}: {error}", source="; ".join(_against(listener.said))),))
    finally:
        logger.removeHandler(listener)
    found = [match for text in listener.said if (match := _SELECTED.search(text))]
    if not found:
        return Rejected((Reason("TransformerEngine logged no selection"),))
    name, detail = found[-1].groups()
    return f"{name} ({detail})" if detail else name, _against(listener.said)


def _against(said: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.rstrip(".") for text in said if text.startswith("Disabling")))


JOB = KernelJob("te-selected", run)
