"""Reads one config.json from disk, and refuses everything that is none with one clear line."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, NoReturn

from attncheck.errors import TargetError

#: Real files have at most some 100 kB (long lists of labels); 16 MiB leaves room, and keeps a wrong target
#: (weights, a log) from filling memory.
MAX_BYTES = 16 * 1024 * 1024
#: Deeper nesting is no config; the bound keeps the parser off the recursion limit.
MAX_DEPTH = 64


def read_config(path: Path) -> dict[str, Any]:
    """The object in a config.json, or in the config.json of a directory.

    Raises TargetError: no such path, a directory without config.json, not a regular file, too large, not UTF-8, not
    JSON, NaN or Infinity in it, not an object, no model_type.
    """
    try:
        if path.is_dir():
            return _read(
                path / "config.json",
                f"the directory {path} has no config.json",
                "give a directory with a config.json, or the file itself",
            )
        return _read(
            path,
            f"no such file: {path}",
            "give a directory with a config.json, a config.json, a hub id or a model type",
        )
    except OSError as error:
        raise TargetError(
            f"cannot read {path}: {error.strerror or error}", "check the path and its permissions"
        ) from None


def parse_config(text: str, origin: str) -> dict[str, Any]:
    """The object in the text of a config.json. Raises TargetError; `origin` names the text in the message."""

    def constant(name: str) -> NoReturn:
        raise TargetError(f"{origin} holds {name}, which is not JSON", "write a finite number or null")

    try:
        config = json.loads(text, parse_constant=constant)
    except RecursionError:
        raise TargetError(f"{origin} is nested too deeply for a config", "give the config.json of a model") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise TargetError(f"{origin} is not JSON ({where})", "give the config.json of a model") from None
    except ValueError as error:
        raise TargetError(f"{origin} is not JSON ({error})", "give the config.json of a model") from None
    if not isinstance(config, dict):
        raise TargetError(
            f"{origin} holds a JSON {_named(config)}, expected an object", "give the config.json of a model"
        )
    if depth(config) > MAX_DEPTH:
        raise TargetError(f"{origin} is nested more than {MAX_DEPTH} levels deep", "give the config.json of a model")
    return checked(config, origin)


def checked(config: dict[str, Any], origin: str) -> dict[str, Any]:
    """The config itself when it names its model type. Raises TargetError."""
    found = config.get("model_type")
    if found is None:
        raise TargetError(
            f"{origin} has no model_type",
            'add "model_type": "..." (llama, qwen2, ...), or pass a bare model type with --set',
        )
    if not isinstance(found, str) or not found:
        raise TargetError(
            f"{origin} has model_type {found!r}, expected text", 'write "model_type": "llama" or the like'
        )
    return config


def repeated_keys(path: Path) -> tuple[str, ...]:
    """Keys that an object in this config.json names more than once, in order.

    JSON readers keep the last value and say nothing. The file must be one that `read_config` reads.
    """
    found: dict[str, None] = {}

    def note(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found[key] = None
            seen.add(key)

    json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=note)
    return tuple(found)


def _read(path: Path, missing: str, hint: str) -> dict[str, Any]:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise TargetError(missing, hint) from None
    if not stat.S_ISREG(found.st_mode):
        raise TargetError(f"{path} is not a regular file", hint)
    if found.st_size > MAX_BYTES:
        size, limit = found.st_size / 1e6, MAX_BYTES / 1e6
        raise TargetError(
            f"{path} has {size:.0f} MB; a config has at most {limit:.0f} MB", "give the config.json, not the weights"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise TargetError(f"{path} is not UTF-8 text, so it is no config.json", hint) from None
    return parse_config(text, str(path))


def _named(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return {list: "array", str: "string", int: "number", float: "number"}.get(type(value), type(value).__name__)


def depth(value: Any) -> int:
    """Levels of nesting of JSON data: 0 for a number, 1 for a list of numbers."""
    levels, level = 0, [value]
    while level := [container for container in level if isinstance(container, (dict, list))]:
        levels += 1
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    return levels
