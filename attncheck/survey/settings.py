"""Which settings a model type is probed in: its class defaults, and those that make a declared feature bind."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from attncheck.declared import oracle
from attncheck.declared.families import family
from attncheck.declared.levels import text_level
from attncheck.semantics.spec import Bias, ModelSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class Setting:
    """A heading, and the `--set` texts behind it. The class defaults have no heading, and mostly no texts."""

    name: str = ""
    assignments: tuple[str, ...] = ()


def settings_of(model_type: str, kind: str, defaults: Mapping[str, Any], keys: frozenset[str]) -> tuple[Setting, ...]:
    """The settings of a type, the class defaults first.

    kind, defaults, keys: as in `ClassFacts`.
    """
    base = _data().get("defaults", {}).get(model_type, {})
    changes = [("", {}), *_features(model_type, kind, defaults, keys, base), *_own(model_type)]
    return tuple(
        Setting(name, tuple(f"{key}={json.dumps(value)}" for key, value in {**base, **change}.items()))
        for name, change in changes
    )


def _features(
    model_type: str, kind: str, defaults: Mapping[str, Any], keys: frozenset[str], base: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    config = changed({"model_type": model_type}, base)
    level = text_level(config, defaults)
    prefix = level.keys.prefix  # of a composite type, the text model has the features
    standard = oracle.declare(config, defaults)
    for feature in _data()["feature"]:
        binds = _BINDS[feature["binds"]]
        if kind not in feature.get("kinds", (kind,)) or binds(standard):
            continue
        if "directions" in feature and family(level.model_type).direction not in feature["directions"]:
            continue
        named = ({f"{prefix}{key}": value for key, value in way.items()} for way in feature["ways"])
        ways = [way for way in named if keys.issuperset(way)]
        for way in ways:
            if binds(oracle.declare(changed(config, way), defaults)):
                yield feature["name"], way
                break
        else:
            unknown = not _settled(standard) and not level.keys.integer(_SURE)
            if ways and unknown and f"{prefix}{_SURE}" in ways[0]:
                yield feature["name"], ways[0]


def changed(config: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """The config with dotted keys set."""
    result = json.loads(json.dumps(config))
    for key, value in change.items():
        *path, name = key.split(".")
        level = result
        for part in path:
            level = level.setdefault(part, {})
        level[name] = value
    return dict(result)


def _own(model_type: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from _data().get("types", {}).get(model_type, {}).items()


@functools.cache
def _data() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads(files("attncheck.survey").joinpath("settings.toml").read_text("utf-8"))
    return loaded


def _settled(spec: ModelSpec) -> bool:
    """True when the oracle knows the mask of every layer: then a way that does not bind does not bind."""
    return bool(spec.layers) and all(layer.mask_known or not layer.attends for layer in spec.layers)


def _window(spec: ModelSpec) -> bool:
    """A window that is known to hide keys from sequences of the length that the type is made for."""
    longest = spec.max_position
    known = [layer.mask.window for layer in spec.layers if layer.attends and layer.mask_known]
    sides = [side for window in known for side in (window.left, window.right)]
    return any(side and (longest is None or side < longest - 1) for side in sides)


def _causal(spec: ModelSpec) -> bool:
    return any(layer.attends and layer.mask.window.causal for layer in spec.layers)


#: The key that means a window of attention wherever it stands; other spellings may count other things (vits).
_SURE = "sliding_window"

_BINDS: Mapping[str, Callable[[ModelSpec], bool]] = {
    "window": _window,
    "causal": _causal,
    "softcap": lambda spec: any(layer.softmax.softcap is not None for layer in spec.layers),
    "alibi": lambda spec: any(layer.softmax.bias is Bias.ALIBI for layer in spec.layers),
    "grouped": lambda spec: any(
        layer.num_heads and layer.num_kv_heads and 1 < layer.num_kv_heads < layer.num_heads for layer in spec.layers
    ),
}
