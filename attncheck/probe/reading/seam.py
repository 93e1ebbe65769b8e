"""Where a model's attention function can be reached in the installed transformers, and how to stand in its place.

From 4.48 on, modeling files look the function up in a mapping by the implementation's name; "eager" is the file's own
module-level function instead. Both are replaced in place, under their own names: a new name would have no mask
function, and transformers would then pass no mask at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

Function = Callable[..., Any]

#: How modeling files end the name of their own eager function (a few hold one for text and one for vision).
EAGER_SUFFIX = "eager_attention_forward"


def is_flash(implementation: str) -> bool:
    """True for transformers' own flash-attention names."""
    return implementation.startswith("flash_attention_")


def exists() -> bool:
    """True where the installed transformers looks attention functions up by name: from 4.48 on."""
    import transformers.modeling_utils as library

    return hasattr(library, "ALL_ATTENTION_FUNCTIONS")


@contextmanager
def replaced(model: Any, stand_in: Callable[[str, Function], Function]) -> Iterator[None]:
    """Replace every attention function the model may reach by `stand_in(implementation, function)`, and put all back.

    Nothing is replaced in transformers before 4.48, which has no such place.
    """
    undo: list[Callable[[], None]] = []
    try:
        modules = _python_modules(model)
        for storage in _storages(modules):
            for name, function in list(storage.items()):
                if callable(function):
                    storage[name] = stand_in(name, function)
                    undo.append(_setter(storage, name, function))
        for module in modules:
            for name, function in list(vars(module).items()):
                if name.endswith(EAGER_SUFFIX) and callable(function):
                    setattr(module, name, stand_in("eager", function))
                    undo.append(_attribute_setter(module, name, function))
        yield
    finally:
        for restore in reversed(undo):
            restore()


def _storages(modules: list[ModuleType]) -> list[MutableMapping[str, Function]]:
    """The dictionaries behind the attention mappings: the library's, and those that modeling files keep."""
    import transformers.modeling_utils as library

    mappings = [getattr(library, "ALL_ATTENTION_FUNCTIONS", None)]
    interface = getattr(library, "AttentionInterface", None)
    if interface is not None:
        for module in modules:
            # Not isinstance: for every global of every module, that of an abstract class would take milliseconds.
            mappings += [value for value in vars(module).values() if interface in type(value).__mro__]
    found: dict[int, MutableMapping[str, Function]] = {}
    for mapping in mappings:
        if isinstance(mapping, dict):
            found[id(mapping)] = mapping
        for part in ("_global_mapping", "_local_mapping"):
            storage = getattr(mapping, part, None)
            if isinstance(storage, dict):
                found[id(storage)] = storage
    return list(found.values())


def _python_modules(model: Any) -> list[ModuleType]:
    """The Python modules that define the model's classes or a base of them."""
    names = {base.__module__: None for cls in {type(m): None for m in model.modules()} for base in cls.__mro__}
    return [
        sys.modules[name]
        for name in names
        if name in sys.modules and name.partition(".")[0] not in ("torch", "builtins", "abc", "typing")
    ]


def _setter(storage: MutableMapping[str, Function], name: str, function: Function) -> Callable[[], None]:
    return lambda: storage.__setitem__(name, function)


def _attribute_setter(module: ModuleType, name: str, function: Function) -> Callable[[], None]:
    return lambda: setattr(module, name, function)
