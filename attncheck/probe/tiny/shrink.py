"""Shrinks a raw config to that of the smallest model that keeps every attention decision. Dict in, dict out; pure.

Kept: which layers slide, chunk or attend at all; whether there is a window; grouped heads; widths of queries and keys
that differ from those of values. Never touched: scale, softcap, sink, dropout, causal and bidirectional flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attncheck.probe.tiny import rules
from attncheck.probe.tiny.layers import Config, by_index, cut_lists, is_size, kept_layers, layer_count
from attncheck.probe.tiny.rope import rope
from attncheck.probe.tiny.sizes import Sizes, Tokens, filled, measure, shrunk_int, shrunk_list


def shrink(
    config: Config,
    defaults: Config | None = None,
    *,
    head_dim: int | None = 16,
    resolved: Config | None = None,
    aliases: Mapping[str, str] | None = None,
    fill: bool = False,
    extra: int = 0,
) -> dict[str, Any]:
    """The tiny model's raw config: the keys of `config` with sizes cut, plus the default keys that had to be cut.

    config: raw keys; missing, null and set stay three different things (null stays null, 0 stays 0, false stays false).
    defaults: class constructor defaults, sub-configs nested. head_dim: width of a head, in elements; None is the
    "native" rung, on which only layers, windows, vocabulary, experts and positions are cut. resolved: what the
    constructor made of `config` at full size; used to see which layers differ where the class's own code decides that,
    and for windows that the class makes up. aliases: alias -> field; aliased keys come out under the field's name.
    fill: second try for a class whose own defaults do not build: sizes that stand at null get a value, layer patterns
    that the constructor computed for the full depth are handed on cut, every kind of layer shows twice, and
    state-space layers do without compiled kernels.
    extra: layers on top of the shortest prefix, for classes that treat the last layer in a way of its own.
    """
    defaults, resolved = defaults or {}, resolved or {}
    stated = {key: value for key, value in config.items() if key not in rules.STORAGE}
    for alias, name in (aliases or {}).items():
        if alias in stated and alias != name and name in defaults:
            value = stated.pop(alias)
            stated.setdefault(name, value)
    view = _merged(defaults, stated)
    view.update(_computed(view, stated, resolved, fill))
    kept = kept_layers(view, resolved, stated, 2 if fill else 1, extra)
    sizes = measure(view, head_dim, kept, layer_count(view), extra=extra, fill=fill)
    tokens = Tokens()
    new = {key: _shrunk(key, value, stated, sizes, tokens, resolved) for key, value in view.items()}
    new.update(cut_lists(view, sizes.kept, sizes.count))
    new.update(_per_layer(view, sizes))
    if fill and view.get("use_mamba_kernels") is True:
        new["use_mamba_kernels"] = False  # they are compiled for CUDA only, and older classes refuse to do without
    if "head_dim" in view and view["head_dim"] is None and sizes.base is not None:
        new["head_dim"] = sizes.base  # null is hidden size by heads, the same number; some classes crash on null
    return {key: value for key, value in new.items() if key in stated or value != defaults.get(key)}


def _is_sub_config(key: str, value: Any) -> bool:
    return isinstance(value, Mapping) and (key.endswith("_config") or key in rules.SUB_CONFIGS)


def _merged(defaults: Config, stated: Config) -> dict[str, Any]:
    """Stated values over defaults; inside sub-configs key by key, as the constructor does it."""
    view = {**stated, **defaults, **stated}
    for key, value in stated.items():
        if _is_sub_config(key, value) and isinstance(defaults.get(key), Mapping):
            view[key] = {**defaults[key], **value}
    return view


def _computed(view: Config, stated: Config, resolved: Config, fill: bool) -> dict[str, Any]:
    """What the constructor puts where the file and the defaults say nothing, as far as it must be cut to stay true.

    A window that a class makes up would never bind at probe length; `attention_types` is only right at full depth.
    """
    found: dict[str, Any] = {}
    for key, value in resolved.items():
        if key in stated or view.get(key) is not None:
            continue
        window = key in rules.WINDOWS and key in view and is_size(value) and value > rules.WINDOW
        pattern = key == "attention_types" or (fill and key in rules.KIND_LISTS and key in view)
        if window or pattern or _makes_windows_up(key, value, view):
            found[key] = value
    return found


def _makes_windows_up(key: str, value: Any, view: Config) -> bool:
    """True for a `per_layer_config` of the constructor's own with windows that no key of the config holds."""
    if key != "per_layer_config" or not isinstance(value, Mapping):
        return False
    known = [view.get(name) for name in rules.WINDOWS]
    layers = [layer for layer in value.values() if isinstance(layer, Mapping)]
    windows = [layer[name] for layer in layers for name in rules.WINDOWS & set(layer)]
    return any(is_size(window) and window > rules.WINDOW and window not in known for window in windows)


def _shrunk(key: str, value: Any, stated: Config, sizes: Sizes, tokens: Tokens, resolved: Config) -> Any:
    """The new value of one key; the old one where no rule speaks."""
    if value is None and sizes.fill:
        return filled(key, sizes)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return _shrunk_mapping(key, value, stated, sizes, resolved)
    if rules.TOKENS.search(key):
        return tokens.place(key, value)
    if isinstance(value, list | tuple):
        return shrunk_list(key, list(value), sizes)
    return shrunk_int(key, value, sizes) if is_size(value) else value


def _shrunk_mapping(key: str, value: Config, stated: Config, sizes: Sizes, resolved: Config) -> Any:
    """Rotary parameters, sub-configs, towers; any other mapping as it is."""
    if key in ("rope_parameters", "rope_scaling"):
        return rope(value, sizes.head_dim, _partial(sizes.view)) if sizes.base is not None else dict(value)
    if not _is_sub_config(key, value):
        return value
    given, inner = stated.get(key), resolved.get(key)
    sub = dict(given) if isinstance(given, Mapping) else {}
    default = {name: item for name, item in value.items() if name not in sub}
    if key in ("attn_config", "ffn_config"):  # parts of this level, not a level of their own
        parts = {name: _shrunk(name, item, sub, sizes, Tokens(), {}) for name, item in value.items()}
        return {name: item for name, item in parts.items() if name in sub or item != value[name]}
    if rules.VISION.search(key):
        return {**sub, **_tower(value, sizes)}
    if "model_type" in value:
        sub.setdefault("model_type", value["model_type"])
    inner = inner if isinstance(inner, Mapping) else None
    return shrink(sub, default, head_dim=sizes.base, resolved=inner, fill=sizes.fill, extra=sizes.extra)


def _partial(view: Config) -> float:
    share = view.get("partial_rotary_factor")
    return float(share) if isinstance(share, int | float) and 0 < share <= 1 else 1.0


def _per_layer(view: Config, sizes: Sizes) -> dict[str, Any]:
    """`per_layer_config` of the kept layers, every difference kept: a larger head is twice the base width."""
    given = view.get("per_layer_config")
    if not isinstance(given, Mapping):
        return {}
    place = {real: str(tiny) for tiny, real in enumerate(sizes.kept)}
    out: dict[str, dict[str, Any]] = {}
    for index, settings in by_index(given).items():
        if index not in place or not isinstance(settings, Mapping):
            continue
        layer: dict[str, Any] = {}
        for key, value in settings.items():
            layer[key] = shrunk_int(key, value, sizes) if is_size(value) else value
            base = view.get(key)
            if key == "head_dim" and is_size(value) and is_size(base) and value > base and sizes.base is not None:
                layer[key] = 2 * sizes.head_dim
        out[place[index]] = layer
    return {"per_layer_config": out}


def _tower(view: Config, text: Sizes) -> dict[str, Any]:
    """Sizes of a tower that is not probed: two layers, an image of four patches, narrow; windows stay. What differs."""
    sizes = measure(view, text.base, tuple(range(rules.MIN_LAYERS)), None)
    patch = view.get("patch_size")
    out: dict[str, Any] = {}
    for key, value in view.items():
        if isinstance(value, Mapping) and key.endswith("_config"):
            out[key] = {**value, **_tower(value, text)}
        elif key == "image_size" and is_size(value) and is_size(patch):
            out[key] = 2 * patch
        elif is_size(value) and key not in rules.WINDOWS and not rules.TOKENS.search(key):
            out[key] = shrunk_int(key, value, sizes)
    return {key: value for key, value in out.items() if value != view.get(key)}
