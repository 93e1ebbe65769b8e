"""Masks in plain words: "8 keys: 7 back, 0 ahead", "all earlier keys", "reach 7 back and 7 ahead"."""

from __future__ import annotations

from collections.abc import Iterable

from attncheck.semantics.reading import Custom, Diagonal, Documents, Frame, Pads, Reading
from attncheck.semantics.spec import MaskSpec


def band(left: int | None, right: int | None) -> str:
    """A window in words; left and right as in `Window`, inclusive distances, None for unbounded."""
    if left is None and right is None:
        return "every key"
    if left is None:
        return "all earlier keys" if right == 0 else f"all earlier keys and {right} ahead"
    if right is None:
        return f"{left} back and all later keys"
    if right == 0:
        return f"{left + 1} key{'s' if left else ''}: {left} back, 0 ahead"
    if right < 0:
        return f"{max(0, left + right + 1)} keys: {left} to {-right} back, itself not"
    return f"reach {left} back and {right} ahead"


def mask(spec: MaskSpec) -> str:
    """What a layer declares, without any padding or packing: the words for a whole layer group."""
    words = band(spec.window.left, spec.window.right)
    return words if spec.chunk is None else f"{words} of its chunk of {spec.chunk}"


def reading(how: Reading, frames: Iterable[Frame], brief: bool = False) -> str:
    """A mask that `how` gives exactly, with what it means for the padding, documents and caller's mask of `frames`.

    brief: nothing about padding, documents and cache.
    """
    frames = tuple(frames)
    custom = any(frame.custom is not None for frame in frames) and how.custom is not Custom.DROPPED
    if custom and how.custom is not Custom.CAUSAL_TOO:
        words = "the caller's mask" if how.custom is Custom.KEPT else "the inverse of the caller's mask"
        if how.left is not None:
            words += f", at most {how.left} back"
    else:
        words = band(how.left, how.right) + (" of the caller's mask" if custom else "")
    if how.chunk is not None:
        words += f" of its chunk of {how.chunk}" + (", counted from token 0" if how.chunk_from_start else "")
    if how.diagonal is Diagonal.TOP_LEFT:
        words += ", counted from the first query (top-left)"
    if how.shift:
        words += f", with the diagonal moved by {how.shift:+d}"
    if how.split is not None:
        words += f", cut before token {how.split}"
    if not how.cached:
        words += ", without the keys of earlier calls"
    if brief:
        return words
    if how.only_held and any(frame.available for frame in frames):
        words += ", as far as the cache holds them"
    if any(frame.packed for frame in frames):
        words += ", own document only" if how.documents is Documents.SEPARATE else ", other documents too"
    if any(any(frame.sides_padded) for frame in frames):
        words += {
            Pads.HIDDEN: ", no padding",
            Pads.VISIBLE: ", padding too",
            Pads.LEFT_VISIBLE: ", padding on the left too",
            Pads.RIGHT_VISIBLE: ", padding on the right too",
            Pads.MIRRORED: ", padding mask the wrong way round",
        }[how.pads]
    return words


def irregular(leaked: int, missed: int, left: int | None, right: int | None) -> str:
    """A mask that no clean rule gives: what it reaches and how many cells are wrong."""
    reach = "sees nothing" if left is None else f"reaches {left} back and {right} ahead"
    return f"{reach}, {leaked} key{_s(leaked)} too many and {missed} missing"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
