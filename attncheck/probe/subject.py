"""The tiny model as scenarios see it: read off a live module as plain data."""

from __future__ import annotations

import inspect
from collections.abc import Set
from typing import Any

from attncheck.probe.caches import STATIC_CACHE_FLAGS, hands_on_use_cache
from attncheck.probe.protocol import TinyInfo
from attncheck.probe.scenario import Stack, Subject
from attncheck.semantics.spec import Part


def subject_of(info: TinyInfo, model: Any, parts: Set[Part]) -> Subject:
    """What scenarios must know of `model`.

    parts: those that the config declares; a single stack is named after them, so that layouts and spec fit together.
    """
    text = getattr(model.config, "get_text_config", None)
    config = text() if text is not None else model.config
    return Subject(
        info=info,
        stack=stack_of(info, parts),
        forward_args=frozenset(inspect.signature(inspect.unwrap(type(model).forward)).parameters),
        hands_on_use_cache=hands_on_use_cache(type(model).forward),
        config=dict(vars(config)),
        config_types=field_types(type(config)),
        no_static_cache=static_cache_refusal(type(model)),
    )


def stack_of(info: TinyInfo, parts: Set[Part]) -> Stack:
    """Which stacks are fed. Classes with one stack of a type that declares two (BartForCausalLM) are decoders."""
    if info.kind == "seq2seq":
        return Stack.ENCODER_DECODER
    if not parts:
        return Stack.ENCODER if info.kind == "masked-lm" else Stack.DECODER
    return Stack.ENCODER if Part.ENCODER in parts and Part.DECODER not in parts else Stack.DECODER


def field_types(config_class: type) -> dict[str, str]:
    """The declared type of each config field as text; empty for versions whose configs declare none."""
    found: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        found |= {name: str(kind) for name, kind in inspect.get_annotations(base).items()}
    return found


def static_cache_refusal(model_class: Any) -> str:
    """The class attribute by which a model class says that it takes no static cache; empty when it takes one.

    Up to 4.52 the attribute speaks of static caches; later ones speak of compiling, which a static cache is for.
    """
    for flag in STATIC_CACHE_FLAGS:
        if hasattr(model_class, flag):
            return "" if getattr(model_class, flag) else flag
    return ""
