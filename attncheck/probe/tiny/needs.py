"""What a class needs beside its config and token ids, and the hook that hands it over with every call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

from attncheck.probe.tiny import library

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Seed of the table that stands for the embeddings of a class that takes embeddings alone.
_SEED = 0


@dataclass(frozen=True, slots=True)
class Needs:
    """The needs of one model type; see the head of needs.toml for the meaning of each field."""

    keys: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Sequence[str | int]] = field(default_factory=dict)
    channels: Sequence[str | int] = ()
    embedded: str = ""
    cannot: str = ""

    @property
    def at_call(self) -> bool:
        """True when something must be added to every call of the model."""
        return bool(self.inputs or self.channels or self.embedded)


def needs_of(model_type: str) -> Needs:
    """The needs of a model type; nothing for most."""
    return Needs(**_data()["types"].get(model_type, {}))


def with_keys(raw: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """The config with those keys set; dots reach sub-configs."""
    result = dict(raw)
    for key, value in keys.items():
        outer, _, inner = key.partition(".")
        result[outer] = with_keys(result.get(outer) or {}, {inner: value}) if inner else value
    return result


def absent(error: AttributeError, config_class: Any) -> dict[str, Any]:
    """The attribute that a class missed in a config, as a key with its value; empty when that was not what went wrong.

    config_class: of the level that is probed; a key of one of its sub-configs is dotted.
    """
    known = _data()["absent"]
    if error.name is None or error.name not in known or not library.is_config(error.obj):
        return {}
    if type(error.obj) is config_class:
        return {error.name: known[error.name]}
    subs = [key for key, (model_type, _) in library.sub_config_types(config_class).items()
            if library.sub_class(config_class, key, model_type) is type(error.obj)]  # fmt: skip
    return {f"{key}.{error.name}": known[error.name] for key in subs[:1]}


def hand_over(model: Any, model_type: str) -> Any:
    """The model, which from now on finds its needs in every call that has `input_ids`."""
    needs = needs_of(model_type)
    if needs.at_call:
        model.register_forward_pre_hook(_filling(needs), with_kwargs=True)
    return model


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    text = files("attncheck.probe.tiny").joinpath("needs.toml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = tomllib.loads(text)
    return loaded


def _filling(needs: Needs) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]] | None]:
    def fill(
        module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        import torch

        tokens = kwargs.get("input_ids")
        if not isinstance(tokens, torch.Tensor) or tokens.dim() != 2:
            return None
        precision = next(module.parameters()).dtype
        given = dict(kwargs)
        for name, shape in needs.inputs.items():
            size = [_size(entry, tokens, module.config) for entry in shape]
            given.setdefault(name, torch.zeros(size, dtype=precision, device=tokens.device))
        if needs.channels:
            count = sum(_size(entry, tokens, module.config) for entry in needs.channels)
            given["input_ids"] = tokens[..., None].expand(*tokens.shape, count).contiguous()
        if needs.embedded:
            table = _embeddings(module.config.vocab_size, getattr(module.config, needs.embedded))
            given["inputs_embeds"] = table.to(tokens.device, precision)[given.pop("input_ids")]
        return args, given

    return fill


def _size(entry: str | int, tokens: Any, config: Any) -> int:
    if isinstance(entry, int):
        return entry
    rows, length = tokens.shape
    return {"rows": int(rows), "tokens": int(length)}.get(entry) or int(getattr(config, entry))


@lru_cache(maxsize=4)
def _embeddings(count: int, width: int) -> Any:
    import torch

    return torch.randn(count, width, generator=torch.Generator().manual_seed(_SEED))
