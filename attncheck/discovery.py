"""Finds the plugins of a package: every module in it that defines one object of the expected type and name."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def plugins(package: ModuleType, attribute: str, kind: type[T]) -> tuple[T, ...]:
    """The `attribute` of every module of `package` that has it, in order of module name.

    Raises TypeError when a module's attribute is of another type: a plugin that is silently skipped would be worse.
    """
    found: list[T] = []
    for entry in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        module = importlib.import_module(f"{package.__name__}.{entry.name}")
        plugin = getattr(module, attribute, None)
        if plugin is None:
            continue
        if not isinstance(plugin, kind):
            raise TypeError(f"{module.__name__}.{attribute} is a {type(plugin).__name__}, expected {kind.__name__}")
        found.append(plugin)
    return tuple(found)
