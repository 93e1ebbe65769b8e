"""Watches the attention of a model during real steps, in the user's own process."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attncheck
from attncheck.checks import watched
from attncheck.environment import read_environment
from attncheck.live.script import summary
from attncheck.report import Report
from attncheck.semantics.watched import WatchedCall, WatchedModel, WatchedProcess
from attncheck.verdicts import Status

_COMPILED = (
    "parts of the model are compiled: calls inside compiled code were not seen; a few steps under "
    'torch.compiler.set_stance("force_eager") show them'
)
_OURS = os.path.dirname(os.path.abspath(attncheck.__file__))


class AttentionChanged(UserWarning):
    """What runs is not what was verified, or not what ran a step before."""


class Watching:
    """A watch at work. calls: what it has recorded. changes: what differed, a line each; of the first it warns."""

    def __init__(self, first: int, verified: Report | None) -> None:
        self.calls: list[WatchedCall] = []
        self.models: list[WatchedModel] = []
        self.failures: list[str] = []
        self.changes: list[str] = []
        self.compiled = 0
        self._first, self._verified = first, verified
        self._earlier: dict[Any, WatchedCall] = {}
        self._warned = False

    @property
    def report(self) -> Report:
        """What has been seen so far: one row for calls that are alike, and findings."""
        process = WatchedProcess(
            pid=0,
            models=tuple(self.models),
            calls=tuple(self.calls),
            compiled=self.compiled,
            failures=tuple(dict.fromkeys(self.failures)),
        )
        found = watched.conclude([process])
        return Report(
            command="watch",
            version=attncheck.__version__,
            environment=read_environment(),
            findings=found.findings,
            watch=summary([process], found.sites, self._first),
        )

    def note(self, call: WatchedCall) -> None:
        """Keep a record, and compare it with what was verified and with what ran before."""
        self.calls.append(call)
        key = call.module, call.where, call.part, call.layer, call.training, call.q_len == 1
        earlier = self._earlier.setdefault(key, call)
        if change := self._change(earlier, call):
            self._changed(f"{_place(call)} changed between steps: {change}")
        if self._verified is not None and (change := self._unverified(call, self._verified)):
            self._changed(f"{_place(call)} is not what was verified: {change}")

    def warn(self) -> None:
        """Warn of the first change, once. Raises AttentionChanged where the user's filters make it an error."""
        if self.changes and not self._warned:
            self._warned = True
            warnings.warn(f"attncheck: {self.changes[0]}", AttentionChanged, stacklevel=_outside())

    def _changed(self, text: str) -> None:
        if text not in self.changes:
            self.changes.append(text)

    def _change(self, earlier: WatchedCall, call: WatchedCall) -> str:
        """What changed for the worse, "" for nothing.

        Masks and kernels alone differ between batches with and without padding: that is usual.
        """
        if earlier is call:
            return ""
        differs = _difference(earlier, call)
        if earlier.implementation != call.implementation:
            return differs
        slug = watched.judge(call, self.models).slug
        if slug is None or watched.judge(earlier, self.models).slug is not None:
            return ""
        return f"{slug}, which was not so before" + (f" ({differs})" if differs else "")

    def _unverified(self, call: WatchedCall, verified: Report) -> str:
        """How a call differs from the report, "" when it does not."""
        if verified.watch is not None:
            return _unlike_any(call, verified)
        ran = call.implementation or call.function
        right = {entry.name: entry for entry in verified.implementations if entry.status is Status.OK}
        known = {entry.name for entry in verified.implementations}
        if call.implementation and known and ran not in known:
            return f"{ran} runs, verified was {', '.join(sorted(known))}"
        kernels = right[ran].kernels if ran in right else ()
        if kernels and call.kernel and call.kernel not in kernels:
            return f"the kernel is {call.kernel}, verified was {', '.join(kernels)}"
        slug = watched.judge(call, self.models).slug
        if slug is not None and all(finding.slug != slug for finding in verified.findings):
            return f"{slug}, which was not found then"
        return ""


@contextmanager
def watch(model: Any, verified: Report | None = None, *, calls: int = 3, measure: bool = True) -> Iterator[Watching]:
    """Record which attention really runs while `model` runs, and warn once (AttentionChanged) when it changes.

    The first `calls` calls of each call site and kind (mask or none, training or evaluation, one token or more) are
    read: kernel, mask, causality, shapes, and which keys each query sees. Then the watch stands aside.

    model: any torch module; what a layer declares is known for transformers models. verified: what `verify` (or an
    earlier watch) reported, to compare with. measure: also repeat the calls to read the masks; that takes the memory of
    one attention call once more.

    Watches may overlap, on one model or on several: each counts its own calls.

    torch.compile: calls inside its graphs are not seen. Its guards hold the attention functions, so the first watch
    makes it compile each graph with attention in it once more, and code that is first compiled inside a watch is
    compiled once more behind it; from then on, graphs of both kinds are kept and used again. Under
    `torch.compiler.set_stance("force_eager")` (torch 2.6 and later) the calls are seen and nothing is compiled.

    The functions are put back at the end; `.report` then says what was seen.
    """
    from attncheck.probe.inside import unwrap
    from attncheck.watching import sharing
    from attncheck.watching.listeners import Listener
    from attncheck.watching.watcher import compiled_graphs

    watching = Watching(calls, verified)
    inside = _Inside(model)
    listener = Listener(
        calls,
        watching.models.append,
        watching.note,
        watching.failures.append,
        measure=measure,
        active=inside.now,
        after=watching.warn,
    )
    before = compiled_graphs()
    if unwrap.compiled(model, model) and _compiling_is_on():
        watching.failures.append(_COMPILED)
    try:
        _attach(sharing.join(listener), model)
        with inside.hooked():
            yield watching
    finally:
        sharing.leave(listener)
        watching.compiled = compiled_graphs() - before


class _Inside:
    """Whether this thread is inside the model's forward: other models of the process are not watched."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._local = threading.local()

    def now(self) -> bool:
        """True below a forward call of the model."""
        return bool(getattr(self._local, "depth", 0))

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Count the model's forward calls while it lasts."""

        def enter(*_: Any) -> None:
            self._local.depth = getattr(self._local, "depth", 0) + 1

        def leave(*_: Any) -> None:
            self._local.depth = max(0, getattr(self._local, "depth", 0) - 1)

        handles = [
            self._model.register_forward_pre_hook(enter),
            self._model.register_forward_hook(leave, always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _compiling_is_on() -> bool:
    """Whether torch.compile's wrappers run compiled code now; True too where a release does not say."""
    modules = sys.modules
    stance = getattr(getattr(modules.get("torch._dynamo.eval_frame"), "_stance", None), "stance", "default")
    return stance != "force_eager" and not getattr(modules.get("torch._dynamo.config"), "disable", False)


def _attach(watcher: Any, model: Any) -> None:
    """Stand-ins for what is loaded, also where the model's own modules have bound a function under a name."""
    from attncheck.watching.hooks import WATCHED

    for name in WATCHED:
        if (module := sys.modules.get(name)) is None:
            continue
        if name == "torch":
            watcher.replacing.module("torch.nn.functional", module.nn.functional)
        elif name == "transformers.modeling_utils":
            watcher.replacing.interface(module)
        else:
            watcher.replacing.module(name, module)
    names = {base.__module__ for kind in {type(inner) for inner in model.modules()} for base in kind.__mro__}
    for name in sorted(names):
        module = sys.modules.get(name)
        if module is not None and name.partition(".")[0] not in ("torch", "builtins", "abc", "typing"):
            watcher.replacing.modeling(module)
            watcher.replacing.bound(module)


def _outside() -> int:
    """The stack level, for a warning of the caller, of the nearest frame that is none of attncheck's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        level, frame = level + 1, frame.f_back
    return level


def _difference(earlier: WatchedCall, call: WatchedCall) -> str:
    """What differs between two calls of one module: `kernel flash -> math, mask none -> bool`."""
    pairs = (
        ("implementation", earlier.implementation, call.implementation),
        ("kernel", earlier.kernel, call.kernel),
        ("mask", earlier.mask_kind, call.mask_kind),
        ("is_causal", earlier.is_causal, call.is_causal),
    )
    return ", ".join(
        f"{name} {before or 'unknown'} -> {now or 'unknown'}" for name, before, now in pairs if before != now
    )


def _unlike_any(call: WatchedCall, verified: Report) -> str:
    """How a call differs from every row of an earlier watch; "" when a row is like it."""
    assert verified.watch is not None
    same = [
        site
        for site in verified.watch.sites
        if site.part is call.part and (call.layer is None or call.layer in site.layers)
    ]
    if not same:
        return "no such call was seen then"
    ran = call.implementation or call.function, call.kernel, call.mask_kind
    before = [(site.implementation or site.function, site.kernel, site.mask_kind) for site in same]
    if ran in before:
        return ""
    words = " or ".join(dict.fromkeys(f"{name} [{kernel}] with mask {mask}" for name, kernel, mask in before))
    return f"{ran[0]} [{ran[1]}] with mask {ran[2]} runs, seen then was {words}"


def _place(call: WatchedCall) -> str:
    where = f"layer {call.layer}" if call.layer is not None else call.module or call.where
    return f"the attention of {where}"
