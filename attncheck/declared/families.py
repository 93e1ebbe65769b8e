"""families.toml as objects: what each model type declares beyond its config keys."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class Family:
    """Everything known of one model type; see the head of families.toml for the meaning of each field.

    direction: "causal", "encoder", "switched", "seq2seq" or "" when no list names the type. unknown: field -> reason.
    switch: the key that makes a switched type a decoder.
    """

    model_type: str
    direction: str = ""
    pattern: Mapping[str, Any] = field(default_factory=dict)
    window: Mapping[str, Any] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    scale: str = ""
    sinks: str = ""
    bias: str = ""
    bias_key: str = ""
    per_kind: Mapping[str, Mapping[str, list[Any]]] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    unknown_unless: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    layers_factor: int = 1
    width_factor: int = 1
    unbounded: bool = False
    merged_cross: bool = False
    wrapper_decides: bool = False
    switch: str = "is_decoder"
    listed: bool = False

    def sees(self, kind: str) -> str:
        """What a layer of that type sees, in a word of [kinds] of families.toml; "" for an unlisted type."""
        return self.kinds.get(kind) or _data()["kinds"].get(kind, "")


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    text = files("attncheck.declared").joinpath("families.toml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = tomllib.loads(text)
    return loaded


def _table(model_type: str) -> dict[str, Any]:
    own: dict[str, Any] = dict(_data()["types"].get(model_type, {}))
    parent = own.pop("like", None)
    return {**_table(parent), **own} if parent else own


@lru_cache(maxsize=256)
def family(model_type: str) -> Family:
    """The family of a model type; an empty one when nothing is known of it."""
    data = _data()
    direction = next((name for name, types in data["directions"].items() if model_type in types), "")
    table = _table(model_type)
    listed = bool(direction)
    table["keys"] = tuple(table.get("keys", ()))
    return Family(model_type, direction, listed=listed, **table)


def legacy(kind: str) -> str:
    """The present word for an older layer type."""
    return str(_data()["legacy"].get(kind, kind))


def text_path(model_type: str) -> str | None:
    """Dotted path of the text sub-config ("" = the top level); None when families.toml does not say."""
    found = _data()["text"].get(model_type)
    return None if found is None else str(found)


def original_format(model_type: str) -> Mapping[str, Any] | None:
    """How to recognise the original LLaVA repositories' format in a file of this model type; None for other types.

    language: model type of the language model, "" where the class decides. native: transformers has the type too.
    architectures: class -> model type of the language model. marks: keys that only such files have.
    """
    data = _data()["original_format"]
    found = data["types"].get(model_type)
    if found is None:
        return None
    return {"native": False, **found, "architectures": data["architectures"], "marks": tuple(data["marks"]["keys"])}


def plain_towers() -> frozenset[str]:
    """Model types of vision towers whose layers see the whole image."""
    return frozenset(_data()["vision"]["plain"])


def outside_keys(*model_types: str) -> frozenset[str]:
    """Keys that models of these types read although no config class lists them; they are valid for `--set`."""
    keys = set(_data()["outside"]["keys"])
    for model_type in model_types:
        known = family(model_type)
        keys |= set(known.keys) | set(known.window.get("keys", ()))
        keys |= {value for name, value in known.pattern.items() if name in ("key", "list", "window_list", "rest_list")}
    return frozenset(keys)
