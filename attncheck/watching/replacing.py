"""Puts functions in the place of others, where their users look them up, and puts all back."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Collection, MutableMapping
from typing import Any

from attncheck.watching.apis import APIS, Api

Function = Callable[..., Any]
#: Makes a stand-in: of a kernel library's function, and of one that transformers knows by a name.
ByApi = Callable[[Api, Function], Function]
ByName = Callable[[str, Function], Function]


def original(function: Any) -> Function | None:
    """The function that a stand-in stands for; None for any other."""
    found: Function | None = getattr(function, "_attncheck", None)
    return found


class Replacing:
    """What was replaced in this process."""

    def __init__(self, by_api: ByApi, by_name: ByName) -> None:
        self._by_api, self._by_name = by_api, by_name
        self._places: dict[tuple[int, str], tuple[Any, str, Function, Function]] = {}
        self._named_ones: dict[int, tuple[Function, Function]] = {}
        self._undo: list[Callable[[], None]] = []
        self._staying: set[int] | None = None

    def module(self, name: str, module: Any) -> None:
        """Replace the attention functions that this module defines."""
        for api in APIS:
            function = getattr(module, api.attribute, None)
            if api.module == name and callable(function):
                self._replace(module, api.attribute, functools.partial(self._by_api, api))

    def interface(self, library: Any) -> None:
        """Replace what transformers (`transformers.modeling_utils`) looks up by name, now and when more is registered.

        Before 4.48 there is nothing to look up: modeling files call the kernel libraries.
        """
        mapping = getattr(library, "ALL_ATTENTION_FUNCTIONS", None)
        for storage in (mapping, getattr(mapping, "_global_mapping", None), getattr(mapping, "_local_mapping", None)):
            if isinstance(storage, dict):
                self._values(storage)
        kind: Any = type(mapping)
        register = getattr(kind, "register", None)
        if register is None or isinstance(mapping, dict):
            return

        def registering(key: str, value: Any, *rest: Any, **kwargs: Any) -> Any:
            return register(key, self._named(key, value) if callable(value) else value, *rest, **kwargs)

        before = vars(kind).get("register")
        kind.register = staticmethod(registering)
        put_back: Any = functools.partial(delattr, kind, "register")
        self._undo.append(put_back if before is None else functools.partial(setattr, kind, "register", before))

    def modeling(self, module: Any) -> None:
        """Replace the eager functions of a modeling file."""
        for name, function in list(vars(module).items()):
            if name.endswith("eager_attention_forward") and callable(function):
                self._replace(module, name, functools.partial(self._by_name, "eager"))

    def bound(self, module: Any) -> None:
        """Replace what a module has bound under a name of its own (`from x import f`) before `f` was replaced."""
        stand_ins = {id(function): stand_in for _, _, function, stand_in in self._places.values()}
        for name, value in list(vars(module).items()):
            if callable(value) and (stand_in := stand_ins.get(id(value))) is not None:
                self._put(module, name, value, stand_in)

    def take_down(self) -> None:
        """Put the functions back where modules have them; `put_up` replaces them again.

        A stand-in that a torch module holds (`self.attention = F.scaled_dot_product_attention`) stays where it is, as
        pickle looks for it there when the model is saved. Modules are looked through the first time only: that takes
        a tenth of a second, and models are built before their first steps.
        """
        if self._staying is None:
            self._staying = self._held()
        self._put_back(self._staying)

    def _put_back(self, staying: Collection[int] = ()) -> None:
        """The functions where modules have stand-ins. staying: identities of those that are left there."""
        for owner, name, function, stand_in in self._places.values():
            if id(stand_in) not in staying and vars(owner).get(name) is stand_in:
                setattr(owner, name, function)

    def put_up(self) -> None:
        """Undo `take_down`."""
        for owner, name, function, stand_in in self._places.values():
            if vars(owner).get(name) is function:
                setattr(owner, name, stand_in)

    def restore(self) -> None:
        """Put everything back, for good."""
        self._put_back()
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        self._named_ones.clear()
        self._places.clear()

    def _held(self) -> set[int]:
        """Identities of the stand-ins that are an attribute of some torch module."""
        stand_ins = {id(stand_in): stand_in for _, _, _, stand_in in self._places.values()}
        return {
            id(found)
            for attributes in gc.get_referrers(*stand_ins.values())
            if _of_a_module(attributes)
            for found in gc.get_referents(attributes)
            if id(found) in stand_ins
        }

    def _values(self, storage: MutableMapping[str, Function]) -> None:
        for name, function in list(storage.items()):
            if callable(function):
                storage[name] = self._named(name, function)
        self._undo.append(functools.partial(self._own_again, storage))

    def _named(self, name: str, function: Function) -> Function:
        if original(function) is not None:
            return function
        stand_in = self._by_name(name, function)
        self._named_ones[id(stand_in)] = stand_in, function
        return stand_in

    def _own_again(self, storage: MutableMapping[str, Function]) -> None:
        """Functions for our stand-ins, also for those registered since; what else the user put there stays."""
        for name, found in list(storage.items()):
            stand_in, function = self._named_ones.get(id(found), (None, None))
            if function is not None and stand_in is found:
                storage[name] = function

    def _replace(self, owner: Any, name: str, make: Callable[[Function], Function]) -> None:
        function = vars(owner)[name]
        if original(function) is None:
            stand_in = make(function)
            # Where pickle, torch.fx and the like look for it: the function itself may come from a compiled module.
            stand_in.__module__, stand_in.__qualname__ = owner.__name__, name
            self._put(owner, name, function, stand_in)

    def _put(self, owner: Any, name: str, function: Function, stand_in: Function) -> None:
        self._places[id(owner), name] = owner, name, function, stand_in
        setattr(owner, name, stand_in)


def _of_a_module(found: object) -> bool:
    """True for a torch module, and for the dictionary of its attributes (Python hands out either)."""
    torch = sys.modules.get("torch")  # the script's, if it has any
    if torch is None:
        return False
    module = torch.nn.Module
    if isinstance(found, module):
        return True
    return isinstance(found, dict) and any(
        isinstance(owner, module) and vars(owner) is found for owner in gc.get_referrers(found)
    )
