"""How a stored report spells what kernels do at true sizes, and how that is read back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis
from attncheck.semantics.shape import ShapeReading, WrongCells
from attncheck.stored.decoding import Decoder, Special


def reading(read: Decoder, found: Any, where: str) -> ShapeReading:
    """JSON has no NaN: `nan` says which numbers are."""
    entry = read.entries(found, where)
    basis = read.of(Basis | None, entry, "basis", where)
    absent = {"basis": basis, "outcome": Outcome.NOT_RUN if basis is None else Outcome.READ}
    seen = read.record(ShapeReading, entry, where, **{k: v for k, v in absent.items() if k not in entry})
    if seen.kernel is None:
        return seen
    lost = {name: math.nan for name in ("dq", "dk", "dv") if name in seen.nan and getattr(seen.kernel, name) is None}
    return dataclasses.replace(seen, kernel=dataclasses.replace(seen.kernel, **lost))


def wrong(read: Decoder, found: Any, where: str) -> WrongCells:
    """The first cell stands there as query and key."""
    entry = read.entries(found, where)
    first = tuple(read.value(int, entry.get(name), f"{where}.{name}") for name in ("query", "key"))
    return read.record(WrongCells, entry, where, first=first)


SPECIALS: Mapping[type, Special] = {ShapeReading: reading, WrongCells: wrong}
