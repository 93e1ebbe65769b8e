"""From the number a config writes to the window it means: on or off, causal, and the bidirectional conventions.

Conventions for a number W, all measured (field survey, 2.3):
  causal      q - k < W: W keys with the query's own                          -> Window(W - 1, 0)
  inclusive   abs(q - k) <= W: the shared bidirectional mask function          -> Window(W, W)
  exclusive   abs(q - k) <= W - 1: what flash-attention gets for a plain W     -> Window(W - 1, W - 1)
  total       W keys, (W + 1) // 2 - 1 back and W // 2 ahead: t5gemma2 encoder -> asymmetric for even W
  half        abs(q - k) <= W // 2: gemma3 with use_bidirectional_attention
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attncheck.declared.families import Family
from attncheck.declared.values import MISSING, Found, Keys, as_int
from attncheck.semantics.spec import CAUSAL, FULL, Window

#: Further spellings of a window in the wild; met without a rule in families.toml, they make the window unknown.
OTHER_SPELLINGS = (
    "sliding_window_size",
    "attention_window",
    "attention_window_size",
    "attention_windows",
    "window_size",
    "local_attention",
    "local_attention_window_len",
    "local_window_size",
    "window",
    "sliding_windows",
)

#: The convention of the shared bidirectional mask function, which is what reads `is_causal: false`: it holds for every
#: decoder that is switched that way, whatever the type makes of a switch of its own. It knows one spelling only.
SHARED, SHARED_KEY = "inclusive", "sliding_window"


@dataclass(frozen=True, slots=True)
class DeclaredWindow:
    """The window of a stack before it meets a layer.

    size: W in the convention of its key, None when there is none. on: it is set and not switched off.
    written: the key as found. off_why: why a written positive number is off. why: why the window is unknown.
    foreign: unknown because of a key that no rule reads, so that layers of every type are in doubt.
    """

    size: int | None = None
    on: bool = False
    written: Found = MISSING
    off_why: str = ""
    why: str = ""
    foreign: bool = False


def declared_window(keys: Keys, known: Family) -> DeclaredWindow:
    """Read the window of one stack. Zero, null, negative and `use_sliding_window: false` are off."""
    names = tuple(known.window.get("keys", ("sliding_window",)))
    found = keys.find_set(*names) if len(names) > 1 else keys.find(*names)
    if not known.window.get("keys") and (why := _foreign(keys, known, found)):
        return DeclaredWindow(written=found, why=why, foreign=True)
    if found.missing and keys.defaults is None and known.window.get("class_default"):
        return DeclaredWindow(why=f"{keys.prefix}{names[0]} is missing and the class default is not known")
    if found.missing or found.value is None or found.value is False:
        return DeclaredWindow(written=found)
    number = as_int(found.value)
    if number is None:
        return DeclaredWindow(written=found, why=f"{found.key} is {found.value!r}, not one number")
    spelling = found.key.rpartition(".")[2]
    size = number + known.window.get("add", {}).get(spelling, 0)
    if spelling in known.window.get("halve", ()):
        size = number // 2
    if size <= 0:
        return DeclaredWindow(written=found)
    switch = keys.flag("use_sliding_window")
    if switch is None and known.window.get("switch"):
        return DeclaredWindow(
            size, written=found, why=f"{keys.prefix}use_sliding_window is missing and its class default is not known"
        )
    if (
        switch is False
        and keys.defaults is not None
        and "use_sliding_window" not in keys.defaults
        and not known.window.get("switch")
    ):
        return DeclaredWindow(
            size, written=found, why=f"{keys.prefix}use_sliding_window is false, but this model type has no such switch"
        )
    if switch is False:
        return DeclaredWindow(size, False, found, f"{keys.prefix}use_sliding_window is false")
    return DeclaredWindow(size, True, found)


def _foreign(keys: Keys, known: Family, found: Found) -> str:
    """Why a window key cannot be read: an unlisted spelling, or a key that the class does not have."""
    for name in OTHER_SPELLINGS:
        if name in known.window.get("elsewhere", ()):
            continue
        other = keys.find(name).value
        # gemma-2-9b writes sliding_window_size beside an equal sliding_window
        if other not in (None, 0, False) and other != found.value:
            return f"the window key {keys.prefix}{name} is not known for this model type"
    in_class = keys.defaults is None or "sliding_window" in keys.defaults
    if not in_class and not known.pattern and (as_int(found.value) or 0) > 0:
        return f"the class of this model type has no {found.key}"
    return ""


def causal_window(size: int) -> Window:
    """W keys, the query's own included."""
    return Window(size - 1, 0)


def bidirectional_window(size: int, convention: str) -> Window | None:
    """The reach of a window of a bidirectional layer; None when the convention is not known."""
    if convention == "inclusive":
        return Window(size, size)
    if convention == "exclusive":
        return Window(size - 1, size - 1)
    if convention == "total":
        return Window((size + 1) // 2 - 1, size // 2)
    if convention == "half":
        return Window(size // 2, size // 2)
    return None


def open_window(direction: str) -> Window:
    """The unbounded window of a direction."""
    return CAUSAL if direction == "causal" else FULL


def chunk_of(keys: Keys) -> int | None:
    """Tokens of a chunk; None when none is declared."""
    size: Any = keys.integer("attention_chunk_size")
    return size if size is not None and size > 0 else None
