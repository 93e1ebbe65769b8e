"""One stack of layers (decoder, encoder) as declared: counts, types, masks, heads and softmax terms put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from attncheck.declared.direction import Direction, decoder_direction, direction_of
from attncheck.declared.families import Family
from attncheck.declared.heads import LAYERS, POSITIONS, heads_of
from attncheck.declared.layers import UNKNOWN_KIND, Kinds, kinds_of, own_length
from attncheck.declared.softmax import softmax_of
from attncheck.declared.values import Keys, as_int
from attncheck.declared.windows import (
    SHARED,
    SHARED_KEY,
    DeclaredWindow,
    bidirectional_window,
    causal_window,
    chunk_of,
    declared_window,
    open_window,
)
from attncheck.semantics.spec import UNKNOWABLE, AttentionSpec, MaskSpec, Part

#: Spellings of the number of layers in a flat encoder-decoder file. T5 counts its encoder as num_layers.
ENCODER_LAYERS = ("encoder_layers", "num_encoder_layers", "num_layers", "num_hidden_layers")
DECODER_LAYERS = ("decoder_layers", "num_decoder_layers", "num_layers", "num_hidden_layers")


@dataclass(frozen=True, slots=True)
class Stack:
    """The layers of one part with what they rest on. reasons: unknown field -> why."""

    layers: tuple[AttentionSpec, ...]
    window: DeclaredWindow = field(default_factory=DeclaredWindow)
    sources: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    max_position: int | None = None


def build(
    keys: Keys,
    known: Family,
    part: Part | None = None,
    direction: str | None = None,
    outer: Mapping[str, str] | None = None,
    flat: bool = False,
) -> Stack:
    """The stack that one level of a config describes.

    part, direction ("causal", "full", "" = unknown): set for the two stacks of an encoder-decoder, where the wrapper
    decides; otherwise read from the keys. outer: unknown field -> why, from the levels above. flat: both stacks of the
    encoder-decoder are in these keys, whose names begin with that of the part.
    """
    if direction is None:
        facing = direction_of(keys, known)
    else:
        why = "" if direction else "no list names this encoder-decoder type"
        source = "the encoder-decoder wrapper"
        facing = Direction(direction, source, why, part is Part.DECODER)
        if part is Part.DECODER and direction and (switched := decoder_direction(keys, source)).switched_off:
            facing = switched
    if part is None:
        part = Part.DECODER if facing.decoder else Part.ENCODER
    side = f"{part.value}_" if flat else ""
    window = declared_window(keys, known)
    count = _count(keys, known, side)
    kinds = kinds_of(keys, known, count, window.on)
    reasons = _reasons(keys, known, part, facing, window, kinds) | dict(outer or {})
    layers, sources = [], {"direction": facing.source, "layers": kinds.source, "window": window.written.source}
    for index, kind in enumerate(kinds.kinds):
        layer, found = _layer(keys, known, part, side, facing, window, kinds, index, kind, frozenset(reasons))
        layers.append(layer)
        sources |= {name: text for name, text in found.items() if name not in sources}
    return Stack(tuple(layers), window, sources, reasons, keys.integer(*POSITIONS))


def _count(keys: Keys, known: Family, side: str) -> int:
    names = {"encoder_": ENCODER_LAYERS, "decoder_": DECODER_LAYERS}.get(side, LAYERS)
    found = keys.find_set(*names)
    own = own_length(keys, known)
    if own is not None and (found.missing or found.default or known.pattern.get("rule") == "letters"):
        return own
    return max(as_int(found.value) or 0, 0) * known.layers_factor


def _reasons(
    keys: Keys, known: Family, part: Part, facing: Direction, window: DeclaredWindow, kinds: Kinds
) -> dict[str, str]:
    """Fields that are unknown for the whole stack, and why."""
    reasons = {}
    for name, why in known.unknown.items():
        side, _, rest = name.partition("_")
        if name in UNKNOWABLE:
            reasons[name] = why
        elif side == part.value:
            reasons[rest] = why
    unless = known.unknown_unless
    if unless and unless.get("part", part.value) == part.value and not _holds(keys, unless):
        reasons["kind"] = unless["why"]
    if not facing.value:
        reasons.setdefault("direction", facing.why)
    if kinds.why:
        reasons.setdefault("kind", kinds.why)
    if window.why and (window.foreign or not kinds.explicit):
        reasons.setdefault("window", window.why)
    return reasons


def _holds(keys: Keys, condition: Mapping[str, str]) -> bool:
    """True when the key of an `unknown_unless` has its `value`, or a number not below that of the key `at_least`."""
    if "value" in condition:
        return bool(keys.find(condition["key"]).value == condition["value"])
    number, least = keys.integer(condition["key"]), keys.integer(condition["at_least"])
    return number is not None and least is not None and number >= least


def _layer(
    keys: Keys,
    known: Family,
    part: Part,
    side: str,
    facing: Direction,
    window: DeclaredWindow,
    kinds: Kinds,
    index: int,
    kind: str,
    stack_unknown: frozenset[str],
) -> tuple[AttentionSpec, Mapping[str, str]]:
    sees = "" if kind == UNKNOWN_KIND else known.sees(kind)
    if sees == "set":
        sees = "window" if window.on else "full"
    if sees == "none":
        return AttentionSpec(part, index, kind, attends=False), {}
    own = _own_window(keys, known, window, index, kinds.kinds[:index].count(kind))
    mask, unknown = _mask(keys, known, facing, own, sees)
    heads = heads_of(keys, known, index, kind, side)
    softmax = softmax_of(keys, known, heads, index, sees == "window")
    spec = AttentionSpec(
        part,
        index,
        kind,
        mask=mask,
        softmax=softmax.spec,
        num_heads=heads.num_heads,
        num_kv_heads=heads.num_kv_heads,
        head_dim=heads.head_dim,
        head_dim_v=heads.head_dim_v,
        unknown=stack_unknown | unknown | softmax.unknown,
    )
    return spec, softmax.sources


def _own_window(keys: Keys, known: Family, window: DeclaredWindow, index: int, before: int) -> DeclaredWindow:
    """The window of one layer: that of the stack unless per_layer_config sets another, or the type in every second one.

    before: how many layers of its kind come before it.
    """
    per_layer = keys.find("per_layer_config").value
    if per_layer is None and (other := known.window.get("every_second")) and window.on and before % 2:
        return replace(window, size=other)
    entry = None
    if isinstance(per_layer, Mapping):
        entry = per_layer.get(str(index), per_layer.get(index))
    elif isinstance(per_layer, list) and index < len(per_layer):
        entry = per_layer[index]
    if not isinstance(entry, Mapping) or "sliding_window" not in entry:
        return window
    size = as_int(entry["sliding_window"])
    return DeclaredWindow(size, size is not None and size > 0, window.written)


def _mask(
    keys: Keys, known: Family, facing: Direction, window: DeclaredWindow, sees: str
) -> tuple[MaskSpec, frozenset[str]]:
    direction = facing.value
    base = MaskSpec(open_window(direction))
    if sees == "full":
        return base, frozenset()
    if sees == "window":
        if window.why or not window.on or window.size is None or not direction:
            return base, frozenset({"window"})
        if direction == "causal":
            return MaskSpec(causal_window(window.size)), frozenset()
        own = known.window.get("bidirectional", "")
        shared = facing.switched_off and window.written.key.rpartition(".")[2] == SHARED_KEY
        both = bidirectional_window(window.size, SHARED if shared else own)
        return (base, frozenset({"window"})) if both is None else (MaskSpec(both), frozenset())
    if sees == "chunk":
        size = chunk_of(keys)
        known_chunk = size is not None and direction == "causal"
        return (MaskSpec(base.window, size), frozenset()) if known_chunk else (base, frozenset({"chunk"}))
    return base, frozenset({"kind"})
