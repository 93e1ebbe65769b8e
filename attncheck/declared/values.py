"""Reads config keys in their three states (missing, null, set), by any spelling, and remembers where each came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up gave.

    value: the value, None when missing or null. key: the spelling found, dotted for sub-configs ("" when missing).
    null: the file itself writes null. default: the value is the config class's constructor default, not the file's.
    """

    value: Any = None
    key: str = ""
    null: bool = False
    default: bool = False

    @property
    def missing(self) -> bool:
        """True when neither the file nor the class defaults have the key."""
        return not self.key

    @property
    def source(self) -> str:
        """Where the value came from, for reports."""
        if self.missing:
            return "not declared"
        return f"class default: {self.key}" if self.default else f"config: {self.key}"


MISSING = Found()


@dataclass(frozen=True, slots=True)
class Keys:
    """One level of a config: the raw keys of the file, and the constructor defaults of its class (None = not known).

    prefix: dotted path of the level inside the file, ending in a dot unless it is the top level.
    """

    raw: Mapping[str, Any]
    defaults: Mapping[str, Any] | None = None
    prefix: str = ""

    def find(self, *names: str) -> Found:
        """The first of several spellings, file before class defaults; an explicit null of the file ends the search."""
        null = MISSING
        for name in names:
            if name in self.raw:
                if self.raw[name] is not None:
                    return Found(self.raw[name], self.prefix + name)
                null = null if null.key else Found(None, self.prefix + name, null=True)
        if null.key:
            return null
        for name in names:
            if self.defaults is not None and name in self.defaults and self.defaults[name] is not None:
                return Found(self.defaults[name], self.prefix + name, default=True)
        for name in names:
            if self.defaults is not None and name in self.defaults:
                return Found(None, self.prefix + name, null=True, default=True)
        return MISSING

    def find_set(self, *names: str) -> Found:
        """Like `find`, for keys where null means absent (`head_dim: null`): then the class default stands in."""
        found = self.find(*names)
        return Keys({}, self.defaults, self.prefix).find(*names) if found.null and not found.default else found

    def integer(self, *names: str) -> int | None:
        """The value as an int; None when missing, null or of another type."""
        return as_int(self.find_set(*names).value)

    def flag(self, *names: str) -> bool | None:
        """The value as a bool; None when missing, null or of another type."""
        value = self.find(*names).value
        return value if isinstance(value, bool) else None

    def has(self, name: str) -> bool:
        """True when the file or the class has the key at all, null included."""
        return name in self.raw or (self.defaults is not None and name in self.defaults)

    def sub(self, name: str) -> Keys | None:
        """The sub-config of that name, with its own class defaults where the model types agree; None without one."""
        inner, standard = self.raw.get(name), (self.defaults or {}).get(name)
        if not isinstance(inner, Mapping):
            if inner is not None or not isinstance(standard, Mapping):
                return None
            inner = {}
        usable = standard if isinstance(standard, Mapping) else None
        if usable is not None and "model_type" in inner and usable.get("model_type") not in (None, inner["model_type"]):
            usable = None
        return Keys(inner, usable, f"{self.prefix}{name}.")

    @property
    def model_type(self) -> str:
        """The model type of this level ("" when nothing names it)."""
        value = self.find("model_type").value
        return value if isinstance(value, str) else ""


def as_int(value: Any) -> int | None:
    """An int that is no bool, else None (JSON floats such as 4096.0 count)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def as_number(value: Any) -> float | None:
    """An int or float that is no bool, else None."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
