"""How many layers a tiny model needs to show every kind of attention, and the per-layer lists cut to that. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from attncheck.probe.tiny import rules

Config = Mapping[str, Any]


def is_size(value: Any) -> TypeGuard[int]:
    """True for an int that is no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def layer_count(view: Config) -> int | None:
    """Layers of the decoder (or only) stack as the config says it; None when no key says so."""
    for key in rules.LAYER_COUNT:
        value = view.get(key)
        if is_size(value) and value > 0:
            return value
    for key in rules.KIND_LISTS:  # the pattern is the depth where no key says it (nemotron_h)
        value = view.get(key)
        if isinstance(value, list | tuple | str) and len(value) > 1:
            return len(value)
    return None


def _prefix(kinds: Sequence[Any]) -> int:
    """Length of the shortest prefix that shows every distinct entry."""
    return 1 + max((kinds.index(kind) for kind in kinds), default=0)


def _entries(value: Any, count: int | None) -> list[Any] | None:
    """A per-layer list of plain entries, one a layer; None for anything else."""
    if isinstance(value, str) and len(value) == count:
        return list(value)
    if isinstance(value, list | tuple) and len(value) == count:
        return [tuple(item) if isinstance(item, list) else item for item in value]
    return None


def _prefix_twice(kinds: Sequence[Any]) -> int:
    """Length of the shortest prefix that shows every distinct entry twice where there are two."""
    return 1 + max((([i for i, entry in enumerate(kinds) if entry == kind][:2][-1]) for kind in kinds), default=0)


def kept_layers(view: Config, resolved: Config, stated: Config, times: int = 1, extra: int = 0) -> tuple[int, ...]:
    """Real indices of the layers the tiny model keeps: a prefix, or the first of each kind where that is too long.

    view: raw values over class defaults. resolved: what the constructor computed (used for kinds only the class's code
    knows). stated: raw keys. times: how often each kind must show (2 for models that share weights between layers of
    one kind). extra: layers to keep on top. Thinning needs every kind list to be stated, since a rule that computes
    kinds from indices would give other layers.
    """
    count = layer_count(view)
    if count is None:
        return tuple(range(rules.MIN_LAYERS))
    need = min(rules.MIN_LAYERS, count)
    lists: list[list[Any]] = []
    for key in rules.KIND_LISTS:
        entries = _entries(view.get(key), count) or _entries(resolved.get(key), count)
        if entries is not None:
            lists.append(entries)
            if not (key not in stated and _turned_by_index(view, count)):
                need = max(need, _prefix(entries) if times == 1 else _prefix_twice(entries))
        elif isinstance(view.get(key), list | tuple) and 1 < len(view[key]) < count:  # one period, repeated
            need = max(need, _prefix(list(view[key])))
    for key in rules.PERIODS:
        value = view.get(key)
        if is_size(value) and 2 <= value <= count and not lists:
            need = max(need, value)
    offset = view.get("attn_layer_offset")
    if is_size(offset):
        need = max(need, offset + 1)
    need = max(need, _gpt_neo_period(view))
    need = min(need, count)
    need = max(need, min(count, _overrides(view)))
    if times == 1 and need > rules.MAX_PREFIX and lists and _all_stated(view, resolved, stated, count):
        return _firsts(lists, count)
    return tuple(range(min(need + extra, count)))


def _overrides(view: Config) -> int:
    """Length of the shortest prefix that shows every distinct entry of `per_layer_config`."""
    given = view.get("per_layer_config")
    layers = by_index(given) if isinstance(given, Mapping) else {}
    firsts: dict[str, int] = {}
    for index in sorted(layers):
        firsts.setdefault(repr(layers[index]), index)
    return 1 + max(firsts.values(), default=-1)


def by_index(per_layer: Config) -> dict[int, Any]:
    """`per_layer_config` with plain layer indices as keys (files write them as text, also with leading zeros)."""
    return {int(key): value for key, value in per_layer.items() if str(key).isdigit()}


def _all_stated(view: Config, resolved: Config, stated: Config, count: int) -> bool:
    present = [key for key in rules.KIND_LISTS if _entries(view.get(key), count) or _entries(resolved.get(key), count)]
    return all(_entries(stated.get(key), count) for key in present)


def _firsts(lists: list[list[Any]], count: int) -> tuple[int, ...]:
    """The first layer of every distinct combination of entries, in order; at least two."""
    seen: dict[tuple[Any, ...], int] = {}
    for index in range(count):
        seen.setdefault(tuple(repr(entries[index]) for entries in lists), index)
    kept = sorted(seen.values())
    return tuple(kept if len(kept) > 1 else [*kept, *[i for i in range(count) if i not in kept][:1]])


def _turned_by_index(view: Config, count: int) -> bool:
    """True when `max_window_layers` alone turns windows on or off: it is moved to layer 1, so two layers show both."""
    turn = view.get("max_window_layers")
    return bool(view.get("use_sliding_window")) and is_size(turn) and 0 < turn < count


def _gpt_neo_period(view: Config) -> int:
    types = view.get("attention_types")
    if isinstance(types, list | tuple) and types and isinstance(types[0], list | tuple) and len(types[0]) == 2:
        return sum(len(kinds) for kinds, _ in types if isinstance(kinds, list | tuple))
    return 0


def layer_kinds(resolved: Config) -> frozenset[tuple[str, str]]:
    """(list, entry) of every kind of layer a config shows, sub-configs included."""
    found: set[tuple[str, str]] = set()
    for key, value in resolved.items():
        if key in rules.KIND_LISTS and isinstance(value, list | tuple | str):
            found.update((key, str(entry)) for entry in value)
        elif isinstance(value, Mapping) and not rules.VISION.search(key) and "rope" not in key:
            found |= layer_kinds(value)
    return frozenset(found)


def cut_lists(view: Config, kept: tuple[int, ...], count: int | None) -> dict[str, Any]:
    """Per-layer lists, index lists, `attention_types` and `max_window_layers` for the kept layers."""
    out: dict[str, Any] = {}
    if count is None:
        return out
    place = {real: tiny for tiny, real in enumerate(kept)}
    for key, value in view.items():
        if key in rules.INDEX_LISTS and isinstance(value, list | tuple) and len(value) != count:
            indices = [place[item] for item in value if is_size(item) and item in place]
            if not indices and value and key in rules.NEEDED_INDEX_LISTS:
                indices = [len(kept) - 1]
            out[key] = indices
        elif isinstance(value, list | tuple) and len(value) == count and key not in ("eos_token_id",):
            out[key] = [value[index] for index in kept]
        elif isinstance(value, str) and key in rules.KIND_LISTS and len(value) == count:
            out[key] = "".join(value[index] for index in kept)
    if period := _gpt_neo_period(view):
        out["attention_types"] = [[list(kinds), max(1, len(kept) // period)] for kinds, _ in view["attention_types"]]
    turn = view.get("max_window_layers")
    if is_size(turn) and turn > 0:
        out["max_window_layers"] = 1 if turn < count else max(turn, len(kept))
    return out
