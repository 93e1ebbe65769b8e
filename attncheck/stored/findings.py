"""How a stored report spells findings, their evidence and their settings, and how they are read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attncheck.findings import Evidence, Recommendation, Setting
from attncheck.semantics.keepmask import KeepMask
from attncheck.stored.decoding import Decoder, Special
from attncheck.verdicts import Recommended


def evidence(read: Decoder, found: Any, where: str) -> Evidence:
    """The first difference is an object there, and the masks stand together."""
    entry = dict(read.entries(found, where))
    first, masks = entry.pop("first_difference", None), entry.get("masks")
    given: dict[str, Any] = {}
    if first is not None:
        place = f"{where}.first_difference"
        cell = read.entries(first, place)
        names = ("row", "query", "key")
        given["first_difference"] = tuple(read.value(int, cell.get(name), f"{place}.{name}") for name in names)
    if masks is not None:
        place = f"{where}.masks"
        both = read.entries(masks, place)
        for name in ("declared", "effective", *(["requested"] if "requested" in both else [])):
            given[f"{name}_mask"] = read.value(KeepMask, both.get(name), f"{place}.{name}")
    return read.record(Evidence, entry, where, **given)


def recommendation(read: Decoder, found: Any, where: str) -> Recommendation:
    """A text and its settings."""
    entry = read.entries(found, where)
    return Recommendation(read.of(str, entry, "text", where, ""), _settings(read, entry, where))


def recommended(read: Decoder, found: Any, where: str) -> Recommended:
    """The recommendation's parts stand beside the implementation."""
    return read.record(Recommended, found, where, recommendation=recommendation(read, found, where))


def _settings(read: Decoder, entry: Mapping[str, Any], where: str) -> tuple[Setting, ...]:
    """By framework: keys with values, and lines to paste in the same order.

    Several ways to paste one setting stand there under one key: the lines that are left over are further ways.
    """
    keys = read.of(Mapping[str, Mapping[str, str]], entry, "settings", where, {})
    pastes = read.of(Mapping[str, tuple[str, ...]], entry, "paste", where, {})
    found: list[Setting] = []
    for framework, pairs in keys.items():
        lines = pastes.get(framework) or tuple(f"{key}={value}" for key, value in pairs.items())
        spelled = list(pairs.items())[: len(lines)]
        spelled += [spelled[-1]] * (len(lines) - len(spelled)) if spelled else []
        found += [Setting(framework, key, value, line) for (key, value), line in zip(spelled, lines)]
    return tuple(found)


SPECIALS: Mapping[type, Special] = {Evidence: evidence, Recommendation: recommendation, Recommended: recommended}
