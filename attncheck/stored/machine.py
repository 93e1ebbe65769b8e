"""How a stored report spells what `doctor` measures: conventions, installed files, torch's state, the incident."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attncheck.installed.inventory import Clobbered, Copies
from attncheck.installed.state import TorchState
from attncheck.semantics.convention import Convention, Outcome
from attncheck.semantics.incident import WindowIncident
from attncheck.semantics.observation import Basis
from attncheck.stored.decoding import Decoder, Fault, Special


def convention(read: Decoder, found: Any, where: str) -> Convention:
    """The contract asks for the API and its call only."""
    entry = read.entries(found, where)
    basis = read.of(Basis | None, entry, "basis", where)
    absent = {
        "question": "",
        "q_len": 0,
        "kv_len": 0,
        "basis": basis,
        "outcome": Outcome.NOT_RUN if basis is None else Outcome.READ,
    }
    return read.record(Convention, entry, where, **{k: v for k, v in absent.items() if k not in entry})


def clobbered(read: Decoder, found: Any, where: str) -> Clobbered:
    """The owners are objects there."""
    entry = read.entries(found, where)
    owners = read.rows(entry, "owners", where, "name", "version")
    if len(owners) != 2:
        raise Fault(f"{where}.owners has {len(owners)} entries, not 2")
    return read.record(Clobbered, entry, where, owners=owners)


def copies(read: Decoder, found: Any, where: str) -> Copies:
    """The places are objects there."""
    entry = read.entries(found, where)
    return read.record(Copies, entry, where, places=read.rows(entry, "places", where, "folder", "version"))


def torch(read: Decoder, found: Any, where: str) -> TorchState:
    """Devices and changed switches are objects there."""
    entry = read.entries(found, where)
    return read.record(
        TorchState,
        entry,
        where,
        devices=read.rows(entry, "devices", where, "name", "capability"),
        changed_by_import=read.rows(entry, "changed_by_import", where, "library", "flag", "before", "after"),
    )


def incident(read: Decoder, found: Any, where: str) -> WindowIncident:
    """The contract asks for the two kernels and their differences only."""
    entry = read.entries(found, where)
    absent: dict[str, Any] = {"shape": "", "cells": 0, "cells_after": 0, "distance": None, "first_query": None}
    absent |= dict.fromkeys(("usual_before", "usual_after"), float("nan"))
    return read.record(WindowIncident, entry, where, **{k: v for k, v in absent.items() if k not in entry})


SPECIALS: Mapping[type, Special] = {
    Convention: convention,
    Clobbered: clobbered,
    Copies: copies,
    TorchState: torch,
    WindowIncident: incident,
}
