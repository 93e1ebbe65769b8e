"""The oracle: from a config to what every attention layer declares, and "unknown" wherever a value would be a guess.

It reads keys and families.toml only and never calls the library under test, so that a mistake there cannot hide itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attncheck.declared.direction import direction_of
from attncheck.declared.families import Family, family
from attncheck.declared.heads import POSITIONS
from attncheck.declared.levels import Level, matching_defaults, text_level
from attncheck.declared.remarks import remarks
from attncheck.declared.stack import Stack, build
from attncheck.declared.values import Keys
from attncheck.semantics.spec import FULL, AttentionSpec, Bias, MaskSpec, ModelSpec, Part


def declare(config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> ModelSpec:
    """What a config declares, layer by layer.

    config: the raw keys of config.json. defaults: the constructor defaults of its class, sub-configs nested, used for
    missing keys only; None when they are not known (then more is unknown). Never raises for a strange value: that
    field becomes unknown. Layers stand in the order encoder, decoder, cross.
    """
    model_type = str(config.get("model_type", ""))
    top = Keys(config, matching_defaults(config, defaults))
    level = text_level(config, defaults)
    if not level.outer and _is_seq2seq(top, model_type):  # of a composite type, the text model decides
        return _model(model_type, top, Level(top, model_type), _seq2seq(top, model_type))
    if _is_seq2seq(level.keys, level.model_type):
        return _model(model_type, top, level, _seq2seq(level.keys, level.model_type))
    return _model(model_type, top, level, [build(level.keys, family(level.model_type), outer=_outer(level))])


def _outer(level: Level) -> dict[str, str]:
    return {name: why for outer in level.outer for name, why in family(outer).unknown.items()}


def _is_seq2seq(keys: Keys, model_type: str) -> bool:
    return family(model_type).direction == "seq2seq" or (
        keys.flag("is_encoder_decoder") is True and not family(model_type).listed
    )


def _seq2seq(keys: Keys, model_type: str) -> list[Stack]:
    known = family(model_type)
    nested = (keys.sub("encoder"), keys.sub("decoder"))
    if nested[0] is not None and nested[1] is not None:
        return _nested(nested[0], nested[1], known)
    encoder = build(keys, known, Part.ENCODER, "full" if known.listed else "", flat=True)
    decoder = build(keys, known, Part.DECODER, "causal" if known.listed else "", flat=True)
    return [encoder, decoder, _cross(decoder, known)]


def _nested(encoder_keys: Keys, decoder_keys: Keys, known: Family) -> list[Stack]:
    """Encoder and decoder as configs of their own; only some wrappers make the second one a decoder by themselves."""
    text = text_level(encoder_keys.raw, encoder_keys.defaults)
    text_keys = Keys(text.keys.raw, text.keys.defaults, encoder_keys.prefix + text.keys.prefix)
    inner, outer = family(text.model_type), family(decoder_keys.model_type)
    encoder = build(text_keys, inner, Part.ENCODER, "full" if inner.direction in ("encoder", "switched") else "")
    listed = outer.direction in ("causal", "switched")
    facing = ("causal" if listed else "") if known.wrapper_decides else direction_of(decoder_keys, outer).value
    decoder = build(decoder_keys, outer, Part.DECODER, facing)
    return [encoder, decoder] if known.merged_cross else [encoder, decoder, _cross(decoder, outer)]


def _cross(decoder: Stack, known: Family) -> Stack:
    """Cross-attention sees every encoder token, without window and without position bias.

    Where the decoder layer itself slides, nothing says whether its window reaches cross-attention too: unknown.
    """
    layers = []
    for layer in decoder.layers:
        unknown = set(layer.unknown & {"scale", "softcap", "head_map"})
        if layer.mask.window.bounded or "window" in layer.unknown:
            unknown.add("window")
        if "direction" in layer.unknown or "kind" in layer.unknown:
            unknown.add("kind")
        softmax = replace(layer.softmax, bias=Bias.NONE, sinks=False)
        layers.append(
            replace(
                layer,
                part=Part.CROSS,
                kind="cross_attention",
                mask=MaskSpec(FULL),
                softmax=softmax,
                unknown=frozenset(unknown),
            )
        )
    return Stack(tuple(layers), sources={"cross.direction": "cross-attention sees the whole encoder"})


def _model(model_type: str, top: Keys, level: Level, stacks: list[Stack]) -> ModelSpec:
    known, keys = family(level.model_type), level.keys
    positions = keys.integer(*POSITIONS) or next((found for s in stacks if (found := s.max_position)), None)
    layers: tuple[AttentionSpec, ...] = tuple(layer for stack in stacks for layer in stack.layers)
    sources = {name: text for stack in reversed(stacks) for name, text in stack.sources.items()}
    window_keys = tuple(dict.fromkeys(stack.window.written.key for stack in stacks if stack.window.written.key))
    spec = ModelSpec(
        model_type,
        layers,
        max_position=None if known.unbounded or (positions or 0) <= 0 else positions,
        sources=sources,
        window_keys=window_keys,
    )
    return replace(spec, notes=level.notes + remarks(top, keys, level.model_type, stacks, spec))
