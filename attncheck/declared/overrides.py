"""--set and --set-unknown: change config keys before anything reads them; refuse what cannot be meant."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from attncheck.declared.families import outside_keys
from attncheck.declared.files import MAX_DEPTH, depth
from attncheck.errors import UsageError


def apply(
    config: Mapping[str, Any],
    assignments: Iterable[str],
    known_keys: frozenset[str] | None,
    *,
    unchecked: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A copy of the config with `key=value` assignments applied, in order, `unchecked` ones last.

    Dots reach sub-configs. A value is JSON where it parses, else text. A key must stand in the loaded file, in
    `known_keys` (dotted; the fields and constructor arguments of the class; None = unknown, then no key is refused) or
    on the list of keys that models read outside the class. A value must be of the type of the value it replaces,
    which is that of the file, else that of `defaults` (the constructor defaults of the class). Raises UsageError, with
    the nearest names for a wrong key.
    """
    changed = copy.deepcopy(dict(config))
    for assignment in assignments:
        key, value = _parsed(assignment, "--set")
        _require_known(key, changed, known_keys)
        present = _present(changed, key)
        _require_type(key, _present(defaults or {}, key) if present is None else present, value)
        _store(changed, key, value, "--set", defaults or {})
    for assignment in unchecked:
        key, value = _parsed(assignment, "--set-unknown")
        _store(changed, key, value, "--set-unknown", defaults or {})
    return changed


def _parsed(assignment: str, option: str) -> tuple[str, Any]:
    key, sign, text = assignment.partition("=")
    key = key.strip()
    if not sign or not key or not all(key.split(".")):
        raise UsageError(
            f"{option} {assignment!r} is not key=value",
            f"write {option} sliding_window=4096, or text_config.sliding_window=null",
        )

    def constant(name: str) -> NoReturn:
        raise UsageError(f"{option} {key}: {name} is not a value of JSON", "give a finite number or null")

    try:
        value = json.loads(text, parse_constant=constant)
        if depth(value) > MAX_DEPTH:
            raise RecursionError
        return key, value
    except RecursionError:
        raise UsageError(
            f"{option} {key}: the value is nested more than {MAX_DEPTH} levels deep", "no config key takes such a value"
        ) from None
    except ValueError:
        if text in ("True", "False", "None"):
            word = {"True": "true", "False": "false", "None": "null"}[text]
            raise UsageError(f"{option} {key}={text}: values are JSON", f"write {option} {key}={word}") from None
        return key, text


def _require_known(key: str, config: Mapping[str, Any], known_keys: frozenset[str] | None) -> None:
    if known_keys is None or key in known_keys or _holds(config, key):
        return
    path, _, name = key.rpartition(".")
    outside = outside_keys(*_types_along(config, path))
    if name in outside and (
        not path or any(known.startswith(f"{path}.") for known in known_keys) or _holds(config, path)
    ):
        return
    candidates = sorted(known_keys | outside | set(_dotted(config, "")))
    near = difflib.get_close_matches(key, candidates, n=3, cutoff=0.6)
    near += [full for full in candidates if full.rpartition(".")[2] == name and full not in near][: 3 - len(near)]
    nearest = f"nearest: {', '.join(near)}" if near else "no key has a similar name"
    raise UsageError(
        f"--set {key}: unknown key of model type {config.get('model_type', '?')}; {nearest}",
        f"--set-unknown {key}=... passes it unchecked",
    )


def _require_type(key: str, present: Any, value: Any) -> None:
    if present is None or value is None or (isinstance(present, Mapping) and isinstance(value, Mapping)):
        return
    number = (int, float)
    same = (
        isinstance(value, bool) == isinstance(present, bool)
        and isinstance(value, number) == isinstance(present, number)
        and (isinstance(value, (list, Mapping)) == isinstance(present, (list, Mapping)))
    )
    if not same:
        raise UsageError(
            f"--set {key}: {value!r} is {_named(value)}, expected {_named(present)} (now {_short(present)})",
            f"write --set {key}={_example(present)}",
        )


def _types_along(config: Mapping[str, Any], path: str) -> list[str]:
    level: Any = config
    types = [str(config.get("model_type", ""))]
    for part in path.split(".") if path else []:
        level = level.get(part) if isinstance(level, Mapping) else None
        if isinstance(level, Mapping):
            types.append(str(level.get("model_type") or f"{types[0]}_text"))
    return types if path else [*types, f"{types[0]}_text"]


def _holds(config: Mapping[str, Any], key: str) -> bool:
    level: Any = config
    for part in key.split("."):
        if not isinstance(level, Mapping) or part not in level:
            return False
        level = level[part]
    return True


def _present(config: Mapping[str, Any], key: str) -> Any:
    level: Any = config
    for part in key.split("."):
        level = level.get(part) if isinstance(level, Mapping) else None
    return level


def _store(config: dict[str, Any], key: str, value: Any, option: str, defaults: Mapping[str, Any]) -> None:
    *path, name = key.split(".")
    level = config
    for number, part in enumerate(path, start=1):
        inner = level.get(part)
        found = _present(defaults, ".".join(path[:number])) if inner is None else inner
        if found is not None and not isinstance(found, Mapping):
            raise UsageError(
                f"{option} {key}: {part} is {_named(found)}, not a sub-config", "check the dots in the key"
            )
        level[part] = inner if isinstance(inner, dict) else {}
        level = level[part]
    level[name] = value


def _dotted(config: Mapping[str, Any], prefix: str) -> Iterable[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")


def _named(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    return "text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def _example(present: Any) -> str:
    text = json.dumps(present)
    return text if len(text) <= 40 else "..."


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
