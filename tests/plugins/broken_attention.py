"""Attention functions for transformers that are wrong or break inside a vision tower, and right elsewhere."""

from __future__ import annotations

import os
import signal
from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask


def blind(module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
    """Towers do not see the newest patch."""
    if attention_mask is None and not getattr(module, "is_causal", False):
        attention_mask = query.new_ones(query.shape[0], 1, query.shape[2], key.shape[2]).bool()
        attention_mask[..., -1] = False
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def dying(module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
    """Kills its process in a tower."""
    if not getattr(module, "is_causal", False):
        os.kill(os.getpid(), signal.SIGSEGV)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


for name, function in (("blind", blind), ("dying", dying)):
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, sdpa_mask)
