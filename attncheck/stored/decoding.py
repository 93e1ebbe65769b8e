"""JSON values into domain types, guided by their annotations; what does not fit is named with its place."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from attncheck.render.redact import printable

T = TypeVar("T")
#: Reads one type that JSON spells in another way than field by field.
Special = Callable[["Decoder", Any, str], Any]

#: No count, size or index of a report is larger; formatting such numbers could take minutes or fail.
_LARGEST = 1 << 63
_LONGEST_QUOTE = 40


class Fault(Exception):
    """Where a file breaks the contract, and how."""


@dataclasses.dataclass(frozen=True, slots=True)
class Decoder:
    """Reads JSON values as domain types. specials: type -> how it is read where that is not field by field."""

    specials: Mapping[type, Special]

    def value(self, kind: Any, found: Any, where: str) -> Any:
        """The value as that type. kind: an annotation. Raises Fault."""
        origin = get_origin(kind)
        if origin in (Union, types.UnionType):
            return self._either(get_args(kind), found, where)
        if origin is tuple:
            return self._tuple(get_args(kind), found, where)
        if origin is not None and issubclass(origin, Mapping):
            return {
                printable(name): self.value(get_args(kind)[1], entry, f"{where}.{quoted(name)}")
                for name, entry in self.entries(found, where).items()
            }
        if origin is frozenset:
            return frozenset(self._tuple((get_args(kind)[0], ...), found, where))
        if kind in self.specials:
            return self.specials[kind](self, found, where)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return self.record(kind, found, where)
        if issubclass(kind, Enum):
            return _member(kind, found, where)
        return _scalar(kind, found, where)

    def record(self, kind: Callable[..., T], found: Any, where: str, /, **given: Any) -> T:
        """A dataclass, each field from the key of its name; what is absent gets its default.

        given: fields that are known already. Raises Fault for a field that is absent and has no default.
        """
        entry = self.entries(found, where)
        for field in dataclasses.fields(kind):  # type: ignore[arg-type]
            if field.name in given:
                continue
            if field.name in entry:
                given[field.name] = self.value(_hints(kind)[field.name], entry[field.name], f"{where}.{field.name}")
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise Fault(f"{where}.{field.name} is missing")
        try:
            return kind(**given)
        except ValueError as error:
            raise Fault(f"{where}: {error}") from None

    def of(self, kind: Any, entry: Mapping[str, Any], name: str, where: str, absent: Any = None) -> Any:
        """The value of one key as that type; `absent` where there is no such key."""
        return self.value(kind, entry[name], f"{where}.{name}") if name in entry else absent

    def entries(self, found: Any, where: str) -> Mapping[str, Any]:
        """An object's keys and values."""
        if not isinstance(found, dict):
            raise Fault(f"{where} is {quoted(found)}, not an object")
        return found

    def rows(self, entry: Mapping[str, Any], name: str, where: str, *keys: str) -> tuple[Any, ...]:
        """A list of objects with texts under those keys, as tuples; () where there is no such list."""
        return tuple(
            tuple(self.value(str, one.get(key), f"{where}.{name}[{number}].{key}") for key in keys)
            for number, row in enumerate(self.list(entry.get(name, []), f"{where}.{name}"))
            for one in [self.entries(row, f"{where}.{name}[{number}]")]
        )

    def list(self, found: Any, where: str) -> list[Any]:
        """A list."""
        if not isinstance(found, list):
            raise Fault(f"{where} is {quoted(found)}, not a list")
        return found

    def _tuple(self, kinds: tuple[Any, ...], found: Any, where: str) -> tuple[Any, ...]:
        values = self.list(found, where)
        if kinds[-1] is ...:
            kinds = kinds[:1] * len(values)
        if len(kinds) != len(values):
            raise Fault(f"{where} has {len(values)} entries, not {len(kinds)}")
        return tuple(self.value(kind, one, f"{where}[{n}]") for n, (kind, one) in enumerate(zip(kinds, values)))

    def _either(self, kinds: tuple[Any, ...], found: Any, where: str) -> Any:
        if found is None and type(None) in kinds:
            return None
        *others, last = (kind for kind in kinds if kind is not type(None))
        for kind in others:
            try:
                return self.value(kind, found, where)
            except Fault:
                continue
        return self.value(last, found, where)


def quoted(found: Any) -> str:
    """The value as it stands in the file, cut short."""
    text = json.dumps(found, default=str)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _scalar(kind: type, found: Any, where: str) -> Any:
    """float: null is NaN or an infinity, which JSON cannot hold."""
    if kind is float and found is None:
        return math.nan
    fitting: tuple[type, ...] = (int, float) if kind is float else (kind,)
    if not isinstance(found, fitting) or (isinstance(found, bool) and kind is not bool):
        words = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
        raise Fault(f"{where} is {quoted(found)}, not {words[kind]}")
    if isinstance(found, str):
        return printable(found)
    if isinstance(found, (int, float)) and not (math.isfinite(found) and (kind is float or abs(found) < _LARGEST)):
        raise Fault(f"{where} is {quoted(found)}, which is out of range")
    return found


def _member(kind: type[Enum], found: Any, where: str) -> Enum:
    known = [member.value for member in kind]
    if found not in known:
        raise Fault(f"{where} is {quoted(found)}, not one of {', '.join(known)}")
    return kind(found)
