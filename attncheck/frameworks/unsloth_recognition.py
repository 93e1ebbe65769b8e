"""Recognises live models that Unsloth patched, by where the code of their attention modules comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Package of the fast paths; package or folder names of the modules that the compiled route writes.
FAST, COMPILED = "unsloth.models", ("unsloth_compiled_module_", "unsloth_compiled_cache")
#: What `implementation` is called where the fast path runs; `config._attn_implementation` means nothing there.
NAME = "unsloth"


@dataclass(frozen=True, slots=True)
class Patched:
    """How Unsloth has its hand in a model.

    fast: modules whose attention forward is Unsloth's own ("unsloth.models.llama"). compiled: generated modules that
    replaced those of transformers. says: `config._attn_implementation`, which the fast path does not read.
    """

    fast: tuple[str, ...] = ()
    compiled: tuple[str, ...] = ()
    says: str = ""

    @property
    def route(self) -> str:
        """In words, for reports."""
        if self.fast:
            return f"Unsloth's fast path ({', '.join(self.fast)})"
        return "Unsloth's compiled route"


def patched(model: Any) -> Patched | None:
    """What Unsloth did to a torch module's attention; None where nothing of it is Unsloth's."""
    fast: dict[str, None] = {}
    compiled: dict[str, None] = {}
    for module in model.modules():
        kind = type(module)
        if "att" not in kind.__name__.lower():
            continue
        where = _source(module)
        if where.startswith(FAST):
            fast[where] = None
        elif any(mark in place for mark in COMPILED for place in (where, kind.__module__)):
            compiled[where] = None
    if not fast and not compiled:
        return None
    said = getattr(getattr(model, "config", None), "_attn_implementation", None)
    return Patched(tuple(fast), tuple(compiled), said if isinstance(said, str) else "")


def _source(module: Any) -> str:
    """The Python module that holds the forward which really runs: the instance's own, else the class's."""
    forward = vars(module).get("forward") or type(module).forward
    while hasattr(forward, "__wrapped__"):
        forward = forward.__wrapped__
    return str(getattr(forward, "__module__", "") or "")
