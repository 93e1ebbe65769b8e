"""Finds the level of a config that describes the text model: the file, a sub-config, or a flat multimodal file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attncheck.declared.families import text_path
from attncheck.declared.original import original
from attncheck.declared.values import Keys
from attncheck.semantics.spec import Note

#: Names of the text sub-config in the wild, in order of trust.
TEXT_KEYS = ("text_config", "language_config", "llm_config")
#: A flat file that describes a text model has at least one of these.
SIZE_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "sliding_window")


@dataclass(frozen=True, slots=True)
class Level:
    """The level to read, the model type that rules it, and what deserves a remark.

    outer: model types of the levels above it (their unknowns hold for the text model too).
    """

    keys: Keys
    model_type: str
    outer: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


def matching_defaults(config: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The class defaults that belong to this config: themselves, or the sub-config of its model type; None without."""
    wanted = config.get("model_type")
    if defaults is None or wanted is None or defaults.get("model_type") == wanted:
        return defaults
    inner = next((inner for inner in _inner(defaults) if inner.get("model_type") == wanted), None)
    if inner is not None:
        return inner
    # some types share another type's class (gpt-sw3 has GPT-2's); those of a composite class are never shared
    return defaults if "model_type" not in defaults or not any(_inner(defaults)) else None


def text_level(config: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> Level:
    """The text level of a config. Nested composites are followed (a thinker holds a text config, and so on)."""
    keys = Keys(config, matching_defaults(config, defaults))
    return _descend(Level(keys, keys.model_type))


def _descend(level: Level) -> Level:
    keys = level.keys
    if (other := _original_format(level)) is not None:
        return other
    path = text_path(level.model_type)
    if path == "":
        return level
    for name in path.split(".") if path else TEXT_KEYS:
        inner = keys.sub(name)
        if inner is None:
            continue
        if not isinstance(keys.raw.get(name), Mapping) and any(key in keys.raw for key in SIZE_KEYS):
            # older files of multimodal types write the text keys at the top
            inner = Keys(keys.raw, inner.defaults, keys.prefix)
            model_type = str((inner.defaults or {}).get("model_type", "")) or level.model_type
        else:
            model_type = inner.model_type or f"{level.model_type}_text"
        if inner.raw is not keys.raw or model_type != level.model_type:
            notes = level.notes + tuple(_disagreements(keys, inner))
            below = Level(inner, model_type, (*level.outer, level.model_type), notes)
            return below if inner.raw is keys.raw else _descend(below)
    return level


def _disagreements(outer: Keys, inner: Keys) -> Iterator[Note]:
    for name in ("sliding_window", "use_sliding_window", "max_window_layers", "attn_logit_softcapping"):
        if (
            inner.raw is not outer.raw
            and name in outer.raw
            and name in inner.raw
            and outer.raw[name] != inner.raw[name]
        ):
            both = f"{outer.prefix}{name} is {outer.raw[name]!r} and {inner.prefix}{name} is {inner.raw[name]!r}"
            text = f"{both}; the text level counts"
            yield Note("ambiguous-key", text, inner.prefix + name)


def _original_format(level: Level) -> Level | None:
    """A file of the original LLaVA repositories: it describes the language model itself, at its top."""
    found = original(level.keys.raw) if level.keys.model_type == level.model_type else None
    if found is None:
        return None
    notes = (*level.notes, Note("original-format", found.text, "model_type"))
    if not found.language:
        return Level(Keys(level.keys.raw), f"{level.model_type}-original", (level.model_type,), notes)
    defaults = level.keys.defaults  # those of transformers' own LLaVA say nothing about the language model
    own = None if any(_inner(defaults or {})) else defaults
    return Level(Keys(level.keys.raw, own), found.language, (level.model_type,), notes)


def _inner(defaults: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for value in defaults.values():
        if isinstance(value, Mapping) and "model_type" in value:
            yield value
            yield from _inner(value)
