"""Calls of the attention functions that transformers looks up by name, in common words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from attncheck.watching.apis import Api, Ask

INTERFACE = Api("transformers", "transformers", "attention function", "bhsd")
#: What others register may talk to other processes, and a repetition there could hang: only transformers' own functions
#: are repeated, of others the kernel below.
_OWN = ("transformers.", "transformers_modules.")
_COMPILED = ("flex_attention", "paged|eager")
_NAMES = ("module", "query", "key", "value", "attention_mask")
_TENSORS = ("query", "key", "value")
#: Arguments off which flash functions read where documents begin.
_PACKING = ("position_ids", "cu_seq_lens_q", "cu_seqlens_q")


def is_own(function: Callable[..., Any]) -> bool:
    """True for a function of transformers itself, or of a model's own code."""
    return str(getattr(function, "__module__", "")).startswith(_OWN)


def module_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The attention module that makes the call."""
    return args[0] if args else kwargs.get("module")


def ask(name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ask:
    """What a call `function(module, query, key, value, attention_mask, ...)` says; name: it is registered under."""
    named = dict(zip(_NAMES, args)) | kwargs
    causal = kwargs.get("is_causal")
    causal = getattr(named["module"], "is_causal", None) if causal is None else causal
    window, scale = kwargs.get("sliding_window"), kwargs.get("scaling")
    why = f"{name} is not repeated: it would be compiled again" if name in _COMPILED else ""

    def repeat(query: Any, key: Any, value: Any) -> Any:
        quiet = {given: found for given, found in kwargs.items() if given not in ("cache", "output_attentions")}
        if quiet.get("dropout"):
            quiet["dropout"] = 0.0
        made = dict(zip(_TENSORS, (query, key, value)))
        placed = [made.get(given, found) for given, found in zip(_NAMES, args)]
        quiet |= {given: tensor for given, tensor in made.items() if given in kwargs}
        with _without_dropout(named["module"]):
            return heads_first(function(*placed, *args[len(_NAMES) :], **quiet), query)

    return Ask(
        api=INTERFACE,
        query=named["query"],
        key=named["key"],
        value=named["value"],
        mask=named.get("attention_mask"),
        is_causal=causal if isinstance(causal, bool) else None,
        window=(window,) if isinstance(window, int) else None,
        scale=scale if isinstance(scale, float) else None,
        softcap=kwargs.get("softcap"),
        dropout=float(kwargs.get("dropout") or 0.0),
        segments=(None, None) if any(kwargs.get(given) is not None for given in _PACKING) else None,
        repeat=None if why else repeat,
        why_not=why,
    )


@contextmanager
def _without_dropout(module: Any) -> Iterator[None]:
    """Functions of some releases call the module's own dropout layers, whatever rate they get (GPT-2's eager)."""
    from torch.nn.modules.dropout import _DropoutNd

    active = [inner for inner in module.modules() if isinstance(inner, _DropoutNd) and inner.training]
    try:
        for inner in active:
            inner.training = False
        yield
    finally:
        for inner in active:
            inner.training = True


def heads_first(output: Any, query: Any) -> Any:
    """The output as batch x heads x tokens x width: those functions put tokens first, some with heads in the width."""
    result = output[0] if isinstance(output, tuple) else output
    batch, heads, length = query.shape[:3]
    return result.reshape(batch, length, heads, -1).transpose(1, 2)
