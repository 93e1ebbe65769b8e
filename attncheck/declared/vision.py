"""What the vision tower of a multimodal config declares: plain encoders only, everything else is left unread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attncheck.declared.families import plain_towers
from attncheck.declared.levels import matching_defaults
from attncheck.declared.original import original
from attncheck.declared.values import Keys
from attncheck.semantics.spec import FULL, AttentionSpec, MaskSpec, Part, SoftmaxSpec

#: Key of the sub-config that describes the tower.
KEY = "vision_config"
#: The plain towers' own names; `declared.limits` bounds both.
_HEADS, _LAYERS = "num_attention_heads", "num_hidden_layers"


def tower_type(config: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> str:
    """Model type of the tower whose attention is known, "" without one."""
    tower = _tower(config, defaults)
    return "" if tower is None else tower.model_type


def vision_layers(config: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> tuple[AttentionSpec, ...]:
    """The layers of the vision tower: every patch of an image sees every other one; () where nothing is known of it.

    config, defaults: as of `oracle.declare`.
    """
    keys = _tower(config, defaults)
    if keys is None:
        return ()
    heads, hidden = keys.integer(_HEADS), keys.integer("hidden_size")
    width = hidden // heads if heads and hidden else None
    spec = AttentionSpec(
        Part.VISION,
        0,
        mask=MaskSpec(FULL),
        softmax=SoftmaxSpec(scale=width**-0.5 if width else None),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=width,
        head_dim_v=width,
        unknown=frozenset() if width else frozenset({"scale"}),
    )
    return tuple(replace(spec, layer=index) for index in range(keys.integer(_LAYERS) or 0))


def _tower(config: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> Keys | None:
    if original(config) is not None:  # the original repositories load the tower from a checkpoint of its own
        return None
    keys = Keys(config, matching_defaults(config, defaults)).sub(KEY)
    return keys if keys is not None and keys.model_type in plain_towers() else None
