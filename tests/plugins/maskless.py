"""A right attention function, registered without a mask function: transformers then drops all masks."""

from __future__ import annotations

from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

AttentionInterface.register("maskless", sdpa_attention_forward)
