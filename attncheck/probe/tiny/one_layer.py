"""The raw config of a model of the real width with one real layer: layers, vocabulary and feed-forward are cut."""

from __future__ import annotations

from typing import Any

from attncheck.probe.tiny import library, rules
from attncheck.probe.tiny.layers import by_index, cut_lists, is_size, layer_count
from attncheck.probe.tiny.target import Target

#: Width of the feed-forward, experts and vocabulary that are left: their time is not attention's.
FEED_FORWARD = 256
EXPERTS = 4
VOCAB = 256
#: The list of layer kinds by which transformers 5 and late 4 build layers.
_KINDS = "layer_types"


def one_layer(found: Target, layer: int) -> tuple[dict[str, Any], int]:
    """(raw config whose only layer is the real layer of that index, width of its feed-forward).

    Heads, head_dim, hidden size, windows, scale, softcap and rotary parameters stay. Raises what the config class does.
    """
    raw = {key: value for key, value in found.config.items() if key not in rules.STORAGE}
    resolved = library.json_like(library.make_config(found.config_class, raw).to_dict())
    view = {**found.defaults, **resolved, **raw}
    count = layer_count(view)
    for key in rules.LAYERS & set(view):
        if is_size(view[key]) and view[key] == count:
            raw[key] = 1
    raw |= cut_lists({**view, **raw}, (layer,), count)
    kinds = resolved.get(_KINDS)
    if isinstance(kinds, list) and layer < len(kinds):
        raw[_KINDS] = [kinds[layer]]
    given = view.get("per_layer_config")
    if isinstance(given, dict):
        raw["per_layer_config"] = {"0": by_index(given).get(layer, {})}
    _turn_by_index(raw, view, layer)
    for key, value in view.items():
        if is_size(value) and (small := _cut(key, value)) is not None:
            raw[key] = small
    return raw, FEED_FORWARD


def _cut(key: str, value: int) -> int | None:
    """The smaller value of a size that is not attention's, None for a size that stays."""
    if rules.FEED_FORWARDS.search(key):
        return min(value, FEED_FORWARD)
    if key in rules.EXPERT_COUNTS:
        return min(value, EXPERTS)
    if key in rules.TOP_KS:
        return min(value, 2)
    if key in ("n_group", "topk_group", "num_expert_group", "moe_n_group"):
        return 1
    if rules.VOCABS.search(key) and key != "type_vocab_size":
        return min(value, VOCAB)
    if rules.TOKENS.search(key) and value >= VOCAB:
        return 0
    return None


def _turn_by_index(raw: dict[str, Any], view: dict[str, Any], layer: int) -> None:
    """Windows that a class gives to layers from an index on (Qwen2): the one layer is on the side of the real one."""
    first = view.get("max_window_layers")
    if is_size(first):
        raw["max_window_layers"] = 0 if layer >= first else 1
