"""What `doctor` adds to the JSON object: domain types in, the wire types of `wire_doctor.py` out."""

from __future__ import annotations

import math
from collections.abc import Mapping

from attncheck.installed.inventory import Build, Inventory
from attncheck.installed.state import TorchState
from attncheck.render import wire_doctor as wire
from attncheck.semantics.convention import Ability, Convention, Outcome
from attncheck.semantics.incident import WindowIncident


def convention(entry: Convention) -> wire.ConventionEntry:
    """One reading of the convention table."""
    seen = entry.outcome is Outcome.READ and entry.empty_rows < entry.q_len
    return {
        "api": entry.api,
        "call": entry.call,
        "question": entry.question,
        "q_len": entry.q_len,
        "kv_len": entry.kv_len,
        "outcome": entry.outcome.value,
        "basis": None if entry.basis is None else entry.basis.value,
        "left": entry.left if seen else None,
        "right": entry.right if seen else None,
        "unknown": [] if seen else ["left", "right"],
        "keys": entry.keys,
        "alignment": None if entry.alignment is None else entry.alignment.value,
        "empty_rows": entry.empty_rows,
        "expected": entry.expected,
        "agrees": entry.agrees,
        "kernel": entry.kernel,
        "detail": entry.detail,
        "figures": figures(entry.figures),
        "number": entry.number,
        "pattern": entry.pattern,
    }


def ability(entry: Ability) -> wire.AbilityEntry:
    """One feature of one API."""
    return {
        "api": entry.api,
        "feature": entry.feature,
        "value": entry.value,
        "outcome": entry.outcome.value,
        "basis": None if entry.basis is None else entry.basis.value,
        "agrees": entry.agrees,
        "kernel": entry.kernel,
        "detail": entry.detail,
        "figures": figures(entry.figures),
    }


def inventory(entry: Inventory) -> wire.InventoryEntry:
    """Builds, files with two owners, several copies."""
    return {
        "builds": {name: _build(build) for name, build in entry.builds.items()},
        "clobbered": [
            {
                "owners": [{"name": name, "version": version} for name, version in found.owners],
                "files": found.files,
                "intact": found.intact,
                "example": found.example,
            }
            for found in entry.clobbered
        ],
        "copies": [
            {
                "name": found.name,
                "places": [{"folder": folder, "version": version} for folder, version in found.places],
            }
            for found in entry.copies
        ],
    }


def _build(build: Build) -> wire.BuildEntry:
    return {
        "torch": build.torch,
        "cuda": build.cuda,
        "cxx11abi": build.cxx11abi,
        "python": build.python,
        "architectures": list(build.architectures),
        "needed": list(build.needed),
        "source": build.source,
    }


def torch(state: TorchState) -> wire.TorchEntry:
    """What an imported torch says of itself."""
    return {
        "version": state.version,
        "cuda": state.cuda,
        "cudnn": state.cudnn,
        "architectures": list(state.architectures),
        "cuda_available": state.cuda_available,
        "cuda_error": state.cuda_error,
        "cxx11abi": state.cxx11abi,
        "flags": dict(state.flags),
        "devices": [{"name": name, "capability": capability} for name, capability in state.devices],
        "changed_by_import": [
            {"library": library, "flag": flag, "before": before, "after": after}
            for library, flag, before, after in state.changed_by_import
        ],
        "problems": list(state.problems),
    }


def incident(entry: WindowIncident) -> wire.IncidentEntry:
    """Two kernels given one window number."""
    return {
        "window": entry.window,
        "shape": entry.shape,
        "first": entry.first,
        "second": entry.second,
        "before": finite(entry.before),
        "after": finite(entry.after),
        "usual_before": finite(entry.usual_before),
        "usual_after": finite(entry.usual_after),
        "cells": entry.cells,
        "distance": entry.distance,
        "first_query": entry.first_query,
        "cells_after": entry.cells_after,
        "versions": dict(entry.versions),
        "kernels": dict(entry.kernels),
        "reproduced": entry.reproduced,
        "exact": entry.exact,
        "heads_agree": entry.heads_agree,
        "keys": dict(entry.keys),
        "words": {name: list(pair) for name, pair in entry.words.items()},
        "others": {pair: finite(value) for pair, value in entry.others.items()},
        "remarks": list(entry.remarks),
    }


def figures(values: Mapping[str, float | int | str]) -> wire.Figures:
    """Raw figures as JSON can hold them."""
    return {name: value if isinstance(value, (str, int)) else finite(value) for name, value in values.items()}


def finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity: they become null."""
    return value if value is not None and math.isfinite(value) else None
