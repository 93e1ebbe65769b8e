"""Stands in for attention functions: records the first calls of each site, then stands aside.

A stand-in costs a look-up a call once its site is known; after a while without anything new the functions themselves
are put back. Nothing here may change or break a call: failures of the watch's own go into the record.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Any

import torch

from attncheck.semantics.watched import WatchedCall
from attncheck.watching import context as contexts
from attncheck.watching import interface, reader
from attncheck.watching.apis import APIS, Api, Ask, ask
from attncheck.watching.listeners import Claims, Listener, Listeners
from attncheck.watching.replacing import Function, Replacing
from attncheck.watching.sites import number_of

#: Calls of closed sites in a row after which the functions themselves are put back.
QUIET = 2048
#: Frames between transformers' attention function and the kernel library's.
_BELOW = 8
_SDPA = APIS[0]


class _Local(threading.local):
    """What this thread is doing. quiet: repeating a call; inner: calls below the transformers function that runs."""

    quiet = False
    inner: list[tuple[Ask, str]] | None = None


class Watcher:
    """What stands in for the attention functions of this process, for one listener or several at once."""

    def __init__(self, *listeners: Listener) -> None:
        self.replacing = Replacing(self.stand_in, self.named_stand_in)
        self.listeners = Listeners()
        self.asleep = False
        self.quiet = QUIET
        self._down = False
        self._reader = reader.Reader()
        self._contexts = contexts.Contexts()
        self._local = _Local()
        self._internal: set[int] = set()
        self._scripted: list[int] = []
        for listener in listeners:
            self.join(listener)

    def join(self, listener: Listener) -> None:
        """Tell this one too, from now on."""
        self.listeners.add(listener)
        self.wake()

    def leave(self, listener: Listener) -> bool:
        """Tell it nothing more. Returns whether others listen; else everything has been put back, for good."""
        self.listeners.remove(listener)
        if not self.listeners:
            self.end()
        return bool(self.listeners)

    @contextmanager
    def deaf(self) -> Iterator[None]:
        """Calls of this thread are nobody's business while it lasts."""
        before, self._local.quiet = self._local.quiet, True
        try:
            yield
        finally:
            self._local.quiet = before

    def wake(self) -> None:
        """Look again: the script has switched between training and evaluation, where masks may be others."""
        self.listeners.reopen()
        self.quiet = QUIET
        if not self.asleep or self.listeners.full:
            return
        if self._down and compiled_graphs():  # made meanwhile, with the functions themselves
            self.listeners.fail(
                "code was compiled while the watch stood aside: what came later was not read", once=True
            )
            return
        self.asleep = self._down = False
        self.replacing.put_up()

    def sleep(self) -> None:
        """Stand aside, until `wake`."""
        if self.asleep:
            return
        self.asleep = True
        # Graphs of torch.compile check that functions are the same as when they were made: they would be made anew.
        self._down = not compiled_graphs()
        if self._down:
            self.replacing.take_down()

    def end(self) -> None:
        """Put everything back, for good."""
        self.asleep = True
        self.replacing.restore()
        with suppress(Exception):  # its table goes by identity: a later function at the same address is no attention
            from torch.jit import _builtins

            for number in self._scripted:
                _builtins._get_builtin_table().pop(number, None)

    def stand_in(self, api: Api, function: Function) -> Function:
        """What does the same as a kernel library's function, and records its first calls."""
        return self._stand_in(function, functools.partial(self._below, api, function))

    def named_stand_in(self, name: str, function: Function) -> Function:
        """The same for a function that transformers knows by that name."""
        return self._stand_in(function, functools.partial(self._above, name, function))

    def _stand_in(
        self, function: Function, look: Callable[[tuple[Any, ...], dict[str, Any], FrameType], Any]
    ) -> Function:
        watcher, closed, frame_of = self, self.listeners.closed, sys._getframe
        # In a graph of torch.compile the first line is all there is: it answers True while the graph is made.
        compiling = getattr(torch.compiler, "is_dynamo_compiling", None) or torch.compiler.is_compiling

        @functools.wraps(function)
        def attention(*args: Any, **kwargs: Any) -> Any:
            if compiling() or watcher.asleep:
                return function(*args, **kwargs)
            frame = frame_of(1)
            if id(frame.f_code) + frame.f_lasti in closed:
                watcher.quiet -= 1
                if watcher.quiet < 0:
                    watcher.sleep()
                return function(*args, **kwargs)
            return look(args, kwargs, frame)

        attention._attncheck = function  # type: ignore[attr-defined]
        with suppress(Exception):  # torch.jit.script knows builtins by their identity
            from torch.jit import _builtins

            if (operator := _builtins._find_builtin(function)) is not None:
                _builtins._register_builtin(attention, operator)
                self._scripted.append(id(attention))
        return attention

    def _below(
        self, api: Api, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType
    ) -> Any:
        """A call of a kernel library's function."""
        local = self._local
        if local.quiet or self._left_alone(api.attribute, (*args, *kwargs.values())):
            return function(*args, **kwargs)
        if local.inner is None and _inside(frame):
            self._internal.add(number_of(frame))
            self.listeners.passed(frame)
            return function(*args, **kwargs)
        begun: tuple[Claims, WatchedCall, Ask, contexts.Context] | None = None
        try:
            asking = ask(api, function, args, kwargs)
            kernel = reader.sdpa_kernel(asking) if api is _SDPA else ""
            if local.inner is not None:
                local.inner.append((asking, kernel))
            elif claims := self._claim(frame, contexts.nearest_module(frame), asking):
                context = self._contexts.of(frame)
                call = WatchedCall(api.name, api.attribute, kernel=kernel, where=context.where)
                begun = claims, call, asking, context
        except Exception as error:
            self._failed(api.attribute, error)
        output = function(*args, **kwargs)
        if begun is not None:
            self._record(*begun, output)
        return output

    def _above(
        self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType
    ) -> Any:
        """A call of a function of transformers' interface."""
        local = self._local
        if local.quiet or local.inner is not None or self._left_alone(name, (*args[1:], *kwargs.values())):
            return function(*args, **kwargs)
        begun: tuple[Claims, WatchedCall, Ask, contexts.Context] | None = None
        try:
            asking = interface.ask(name, function, args, kwargs)
            module = interface.module_of(args, kwargs)
            if claims := self._claim(frame, module, asking):
                context = self._contexts.of(frame, module)
                title = getattr(function, "__name__", type(function).__name__)
                call = WatchedCall("transformers", title, implementation=name, where=context.where)
                begun = claims, call, asking, context
        except Exception as error:
            self._failed(f"transformers' {name}", error)
        if begun is None:
            return function(*args, **kwargs)
        local.inner = []
        self.listeners.expect(self._internal)  # what this call makes below it is to be seen
        try:
            output = function(*args, **kwargs)
        finally:
            inner, local.inner = local.inner, None
        claims, call, asking, context = begun
        if inner:  # where torch chose no kernel of its own, the library's function names it
            call = replace(call, kernel=inner[0][1] or inner[0][0].api.attribute)
        if inner and (asking.repeat is None or not interface.is_own(function)):
            self._record(claims, call, inner[0][0], context, None)
        else:
            self._record(claims, call, asking, context, output)
        return output

    def _claim(self, frame: FrameType, module: Any, asking: Ask) -> Claims:
        """As `Listeners.claim`; nobody's where checkpointing runs a layer once more."""
        return () if _in_backward() else self.listeners.claim(frame, module, asking)

    def _record(self, claims: Claims, call: WatchedCall, asking: Ask, context: contexts.Context, output: Any) -> None:
        """Read the call and hand the record on; failures go into the record too."""
        self._local.quiet = True
        self.quiet = QUIET
        try:
            with torch._C.DisableTorchFunction():  # a default device of the script's shall not move what is made here
                self._read(claims, call, asking, context, output)
        except Exception as error:
            self._failed(call.function, error)
        finally:
            self._local.quiet = False
        for listener, _ in claims:
            if listener.after is not None:
                listener.after()

    def _read(self, claims: Claims, call: WatchedCall, asking: Ask, context: contexts.Context, output: Any) -> None:
        part, layer = context.place()
        module = context.module
        switch = getattr(module, "is_causal", None)
        name = getattr(getattr(module, "config", None), "_attn_implementation", None)
        gradients = torch.is_grad_enabled() and bool(getattr(asking.query, "requires_grad", False))
        call = replace(
            call,
            module=context.path,
            module_class="" if module is None else type(module).__name__,
            part=part,
            layer=layer,
            switched=switch if isinstance(switch, bool) else None,
            configured=name if isinstance(name, str) else "",
            training=bool(getattr(module, "training", gradients)),
        )
        if asking.api is interface.INTERFACE:
            output = interface.heads_first(output, asking.query)
        measure = any(listener.measure for listener, _ in claims)
        call = self._reader.read(call, asking, context, output, measure=measure)
        for listener, number in claims:
            listener.take(call, number, context)

    def _left_alone(self, what: str, values: tuple[Any, ...]) -> bool:
        """True for a call that must not even be looked at; said once for each reason."""
        try:
            reason = reader.untouchable(values)
        except Exception as error:  # private functions of torch
            reason = reader.said(error)
        if reason:
            self.listeners.fail(f"calls of {what} were not looked at: {reason}", once=True)
        return bool(reason)

    def _failed(self, what: str, error: BaseException) -> None:
        self.listeners.fail(f"{what}: {reader.said(error)}")


def compiled_graphs() -> int:
    """Graphs that torch.compile has made in this process, as its release counts them: no call inside them is seen."""
    counters = getattr(sys.modules.get("torch._dynamo.utils"), "counters", None) or {}
    try:
        return int(counters.get("stats", {}).get("unique_graphs", 0) or counters.get("frames", {}).get("ok", 0))
    except Exception:  # a private table
        return 0


def _inside(frame: FrameType | None) -> bool:
    """True below a stand-in for a transformers function: the call is that function's own."""
    for _ in range(_BELOW):
        if frame is None:
            return False
        if frame.f_code.co_filename == __file__:
            return True
        frame = frame.f_back
    return False


def _in_backward() -> bool:
    task = getattr(torch._C, "_current_graph_task_id", None)
    return task is not None and task() != -1
