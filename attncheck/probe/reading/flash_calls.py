"""Watching the flash functions that modeling files call directly: before 4.48 all of them, later some."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor

#: The one name since 4.36: at first a method of each flash class, from 4.43 a function that the files import.
NAME = "_flash_attention_forward"
_OURS = ("query_states", "key_states", "value_states", "attention_mask", "self")
#: What the arguments are called by transformers' attention functions, where that is another name.
SCALE = "softmax_scale"
_SPELLED = {SCALE: "scaling"}


@dataclass(slots=True)
class Call:
    """One call. query, key, value: batch x tokens x heads x width. mask: 2D padding mask, or None.

    module: the attention module where the function is its method, else None. arguments: by the names of transformers'
    attention functions. bound: the call itself.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Any
    module: Any
    arguments: Mapping[str, Any]
    function: Callable[..., Any]
    bound: inspect.BoundArguments

    def repeated(self, factor: float) -> Callable[..., Any]:
        """The call with other operands, batch x heads x tokens x width; the query is multiplied by `factor`.

        scaling: the factor on q.k where the call names none, for operands of another width.
        """

        def function(
            module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any = None, scaling: Any = None, **_: Any
        ) -> Any:
            given = dict(self.bound.arguments)
            if scaling is not None and given.get(SCALE) is None:
                given[SCALE] = scaling
            extra = given.pop("kwargs", {})
            given |= {
                "query_states": (query * factor).transpose(1, 2),
                "key_states": key.transpose(1, 2),
                "value_states": value.transpose(1, 2),
                "attention_mask": mask,
            }
            return self.function(**given, **extra)

        return function


Observer = Callable[[Call, Callable[[], Any]], Any]


@contextmanager
def watched(model: Any, observer: Observer) -> Iterator[None]:
    """Every call goes to `observer(call, run)`, which must give back `run()`; all names are put back."""
    with ExitStack() as undo:
        done: set[tuple[int, str]] = set()
        for cls in {type(module): None for module in model.modules()}:
            owner = next((base for base in cls.__mro__ if NAME in vars(base)), None)
            if owner is not None and (id(owner), NAME) not in done:
                done.add((id(owner), NAME))
                _replace(undo, owner, vars(owner)[NAME], observer)
            source = sys.modules.get(cls.__module__)
            if source is not None and callable(vars(source).get(NAME)) and (id(source), NAME) not in done:
                done.add((id(source), NAME))
                _replace(undo, source, vars(source)[NAME], observer)
        yield


def _replace(undo: ExitStack, owner: type | ModuleType, original: Callable[..., Any], observer: Observer) -> None:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments
        arguments = {
            _SPELLED.get(name, name): value
            for name, value in {**given, **given.get("kwargs", {})}.items()
            if name not in (*_OURS, "kwargs")
        }
        seen = Call(
            given["query_states"],
            given["key_states"],
            given["value_states"],
            given.get("attention_mask"),
            given.get("self"),
            arguments,
            original,
            bound,
        )
        return observer(seen, lambda: original(*args, **kwargs))

    setattr(owner, NAME, call)
    undo.callback(setattr, owner, NAME, original)
