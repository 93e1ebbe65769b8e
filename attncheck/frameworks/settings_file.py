"""Reads a framework's settings file, YAML or JSON: plain values with their lines; nothing in it is ever executed.

YAML is only composed into nodes, and only plain scalars become values. Lists and mappings stay unread (`Nested`), so
aliases and merge keys expand to nothing, and a tag that would construct an object is refused by its name.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from attncheck.errors import UsageError

#: Bytes of a settings file. Those of LLaMA-Factory's examples have at most 2 kB.
LARGEST = 64 * 1024
SUFFIXES = (".yaml", ".yml", ".json")
#: No whole number of a setting is larger; one of thousands of digits could not even be printed.
_LARGEST_NUMBER = 2**63
_KNOWN = "tag:yaml.org,2002:"
#: Ends of keys whose values are nobody's business: hf_hub_token, swanlab_api_key, swanlab_lark_webhook_url ...
_SECRET = re.compile(r"(token|secret|passwords?|api_?key|webhook_url)$", re.IGNORECASE)
_PLAIN = ("str", "int", "float", "bool", "null", "timestamp", "seq", "map", "merge", "value", "set", "omap", "pairs")


@dataclass(frozen=True, slots=True)
class Nested:
    """A value that is a list or a mapping. kind: "list" or "mapping"."""

    kind: str


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """path: as the user typed it. values: top-level key -> scalar or `Nested`. lines: key -> line, from 1.

    text: the lines, each without its line feed; any other line end (a carriage return) is kept. ended: the last line
    has its line feed.
    """

    path: str
    values: Mapping[str, Any]
    lines: Mapping[str, int]
    text: tuple[str, ...]
    ended: bool = True


def read(path: str) -> SettingsFile:
    """The settings of a file. Raises UsageError, in one line, for whatever is not a flat file of settings."""
    text = _text(path)
    values, lines = _json(path, text) if path.lower().endswith(".json") else _yaml(path, text)
    each = tuple(line.removesuffix("\n") for line in text.splitlines(keepends=True))
    return SettingsFile(path, values, lines, each, text.endswith("\n"))


def shown(text: str) -> str:
    """A `key=value` text as reports and messages may repeat it: without the value of a token, key or password."""
    key, sign, _ = text.partition("=")
    return f"{key}=<hidden>" if sign and _SECRET.search(key.strip()) else text


def typed(text: str, where: str) -> Any:
    """The value of a `key=value` argument as YAML types it. Raises UsageError for what is no scalar.

    where: the argument itself, as `shown` repeats it.
    """
    values, _ = _yaml(where, f"value: {text}" if text else "value:")
    value = values["value"]
    if isinstance(value, Nested):
        raise UsageError(f"{where}: it is a {value.kind}, expected one value")
    return value


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > LARGEST:
        raise UsageError(
            f"{path} is larger than {LARGEST // 1024} kB: that is no file of settings", "name another file"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}") from None


def _json(path: str, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        why = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply or holds a huge number"
        raise UsageError(f"{path}{line} is not JSON: {why}") from None
    if not isinstance(loaded, dict):
        raise UsageError(f"{path} holds a {type(loaded).__name__}, expected one object of settings")
    lines = _json_lines(path, text)
    return {key: _plain(value, f"{path}, line {lines[key]}") for key, value in loaded.items()}, lines


def _json_lines(path: str, text: str) -> dict[str, int]:
    """Key -> line of the outermost object of valid JSON. Raises UsageError for a key that stands there twice."""
    ends = list(accumulate(len(line) for line in text.splitlines(keepends=True)))
    between = re.compile(r"[\s,:]*")
    decoder = json.JSONDecoder()
    found: dict[str, int] = {}
    at = text.index("{") + 1
    while text[at := between.match(text, at).end()] != "}":  # type: ignore[union-attr]
        line = bisect_right(ends, at) + 1
        key, at = decoder.raw_decode(text, at)
        if key in found:
            raise UsageError(f"{path}, line {line}: {key} stands there a second time (first in line {found[key]})")
        found[key] = line
        _, at = decoder.raw_decode(text, between.match(text, at).end())  # type: ignore[union-attr]
    return found


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
        raise UsageError(f"{where} cannot be read: a whole number of {value.bit_length()} bits")
    return Nested("list") if isinstance(value, list) else Nested("mapping") if isinstance(value, dict) else value


def _yaml(path: str, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return {}, {}
        _refuse_tags(path, root)
        if not isinstance(root, yaml.MappingNode):
            kind = "a list" if isinstance(root, yaml.SequenceNode) else "one value"
            raise UsageError(f"{path} holds {kind}, expected lines of `key: value`")
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in root.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise UsageError(f"{path}, line {line}: a key is a list or mapping, expected a name")
            if key_node.tag == f"{_KNOWN}merge":
                raise UsageError(f"{path}, line {line}: merge keys (<<) are not read", "write the settings out")
            key = str(key_node.value)
            if key in values:
                raise UsageError(f"{path}, line {line}: {key} stands there a second time (first in line {lines[key]})")
            lines[key] = line
            values[key] = _value(loader, value_node, path)
        return values, lines
    except yaml.YAMLError as error:
        raise UsageError(f"{path}{_place(error)} is not YAML: {_reason(error)}") from None
    except RecursionError:
        raise UsageError(f"{path} cannot be read: it is nested too deeply") from None


def _value(loader: Any, node: Any, path: str) -> Any:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return Nested("list")
    if isinstance(node, yaml.MappingNode):
        return Nested("mapping")
    if node.tag == f"{_KNOWN}timestamp":
        return str(node.value)
    where = f"{path}, line {node.start_mark.line + 1}"
    try:
        return _plain(loader.construct_object(node), where)
    except (ValueError, LookupError, ArithmeticError):  # what PyYAML lets through for `!!bool maybe`, `!!int ''` ...
        kind = node.tag.removeprefix(_KNOWN)
        raise UsageError(f"{where} cannot be read: the value is no {kind} that YAML knows") from None


def _refuse_tags(path: str, root: Any) -> None:
    """Raise UsageError for the first tag that stands for more than plain data; each node is looked at once."""
    import yaml

    waiting, seen = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        if not (node.tag.startswith(_KNOWN) and node.tag.removeprefix(_KNOWN) in _PLAIN):
            tag = node.tag.replace(_KNOWN, "!!")
            line = node.start_mark.line + 1
            raise UsageError(
                f"{path}, line {line}: the tag {tag[:80]} would construct an object; nothing was executed",
                "write a plain value there",
            )
        children: list[Any] = []
        if isinstance(node, yaml.SequenceNode):
            children = list(node.value)
        elif isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        for child in children:
            if id(child) not in seen:
                seen.add(id(child))
                waiting.append(child)


def _place(error: Any) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f", line {mark.line + 1}" if mark is not None else ""


def _reason(error: Any) -> str:
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if "'\\t'" in problem:
        return "a tab stands where a value or indentation begins; YAML allows only spaces there"
    return str(problem)
