"""Which keys a LLaMA-Factory settings file may hold, by version, and the types of those that decide about attention."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

from packaging.version import Version

from attncheck.errors import UsageError
from attncheck.frameworks.flash_kernels import parsed
from attncheck.frameworks.llama_factory_versions import NEWEST
from attncheck.frameworks.plugin import Asked
from attncheck.frameworks.settings_file import Nested, shown, typed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The keys that are read here, and what they must be. LLaMA-Factory itself checks no types: "false" in quotes is true.
TYPES: Mapping[str, tuple[type, ...]] = {
    "model_name_or_path": (str,),
    "model": (str,),
    "model_revision": (str,),
    "flash_attn": (str, bool),
    "stage": (str,),
    "infer_backend": (str,),
    "do_train": (bool,),
    "shift_attn": (bool,),
    "packing": (bool,),
    "neat_packing": (bool,),
    "use_unsloth": (bool,),
    "use_kt": (bool,),
    "bf16": (bool,),
    "fp16": (bool,),
    "pure_bf16": (bool,),
    "cutoff_len": (int,),
    "per_device_train_batch_size": (int,),
    "micro_batch_size": (int,),
    "batching_strategy": (str,),
}
_WORDS = {str: "a text", bool: "true or false", int: "a whole number"}
#: Derived by LLaMA-Factory itself; its parser knows no such key.
_DERIVED = {"block_diag_attn": "neat_packing", "model_max_length": "cutoff_len", "compute_dtype": "bf16 or fp16"}


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    text = files("attncheck.frameworks").joinpath("llama_factory_keys.toml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = tomllib.loads(text)
    return loaded


def keys(version: str, *, v1: bool = False) -> frozenset[str]:
    """Every key that the parser of a version takes; v1: of the engine that USE_V1=1 starts."""
    data = _data()
    if v1:
        return frozenset(data["v1"]["keys"])
    wanted = _read_version(version)
    found = set(data["trainer"]["keys"])
    for span, names in data["spans"].items():
        first, last = span.split()
        if Version(first) <= wanted <= Version(last):
            found.update(names)
    return frozenset(found)


def of_any_version() -> frozenset[str]:
    """Every key of LLaMA-Factory's own of any version: what a settings file is known by."""
    data = _data()
    return frozenset(name for names in data["spans"].values() for name in names) | frozenset(data["v1"]["keys"])


def _read_version(version: str) -> Version:
    """The newest version whose classes were read that is no newer than this one; the oldest for older ones."""
    known = [Version(name) for name in _data()["versions"]]
    return max((name for name in known if name <= parsed(version)), default=known[0])


def is_v1(settings: Mapping[str, Any]) -> bool:
    """True for the settings of the v1 engine, which names the model by another key."""
    return "model" in settings and "model_name_or_path" not in settings


def trains(asked: Asked, settings: Mapping[str, Any]) -> bool:
    """True where these settings train: `do_train`, and where it is not set what the user said with --use."""
    said = settings.get("do_train")
    return asked.use == "train" if said is None else bool(said)


def checked(asked: Asked, version: str | None) -> dict[str, Any]:
    """The settings with `key=value` arguments applied. Raises UsageError for an unknown key or a value of wrong type.

    version: None while it is not known yet: then a key of any version passes. LLaMA-Factory raises ValueError for an
    unknown key too, unless ALLOW_EXTRA_ARGS=1 is set; so it is here.
    """
    settings = {**asked.settings, **{key: typed(text, shown(f"{key}={text}")) for key, text in asked.assigned.items()}}
    engine = is_v1(settings)
    known = of_any_version() | keys(NEWEST) if version is None else keys(version, v1=engine)
    extra = os.environ.get("ALLOW_EXTRA_KEYS" if engine else "ALLOW_EXTRA_ARGS", "").lower() in ("1", "true", "y")
    for key, value in settings.items():
        if key not in known and not extra:
            raise UsageError(
                f"{asked.where(key)}: {key!r} is no key of LLaMA-Factory{f' {version}' if version else ''}",
                _hint(key, known),
            )
        if key in TYPES and value is not None and not _fits(value, TYPES[key]):
            expected = " or ".join(_WORDS[kind] for kind in TYPES[key])
            raise UsageError(f"{asked.where(key)}: {key} is {_shown(value)}, expected {expected}")
        if key in ("cutoff_len", "per_device_train_batch_size", "micro_batch_size") and value is not None and value < 1:
            raise UsageError(f"{asked.where(key)}: {key} is {value}, expected a number from 1 on")
    return settings


def _hint(key: str, known: frozenset[str]) -> str:
    if key in _DERIVED:
        return f"it is derived from {_DERIVED[key]}: remove the line"
    if key in of_any_version():
        return "another version knows it: name yours with --framework-version, or remove the line"
    near = difflib.get_close_matches(key, sorted(known), n=3)
    return f"did you mean {', '.join(near)}?" if near else "remove the line"


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)


def _shown(value: Any) -> str:
    if isinstance(value, Nested):
        return f"a {value.kind}"
    kind = {bool: "a truth value", int: "a number", float: "a number", str: "a text"}.get(type(value), "no such value")
    return f"{str(value)[:60]!r}, {kind}" if isinstance(value, str) else f"{str(value).lower()[:60]}, {kind}"
