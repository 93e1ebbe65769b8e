"""Reads torch's own state, and what libraries change in it when they are imported, from throw-away processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attncheck.environment import Environment
from attncheck.installed.state import TorchState
from attncheck.installed.trial import ImportTrial
from attncheck.probe.imports import LIMIT, side_by_side, try_import
from attncheck.semantics.observation import Crashed

#: What an import trial of torch must try for `of`; of `probe.importing.OPERATIONS`.
OPERATION = "torch-state"
#: Distribution -> module of libraries that patch torch when imported; each costs an import of its own. Not among
#: them are transformers, flash-attn, xformers, FlashInfer, TransformerEngine and cudnn-frontend: their sources set
#: no global flag at import.
PATCHING: Mapping[str, str] = {"deepspeed": "deepspeed", "unsloth": "unsloth"}


def read(limit: float = LIMIT) -> TorchState | Crashed:
    """What torch says of itself, or how importing or asking it broke. limit: seconds."""
    return of(try_import("torch", operation=OPERATION, limit=limit))


def of(trial: ImportTrial) -> TorchState | Crashed:
    """The same out of a trial of torch with `OPERATION`: torch takes seconds to import, so once must do."""
    if trial.failure is not None:
        return trial.failure
    if (broken := trial.operation_failure) is not None:
        return Crashed(broken.kind, f"torch was imported, but asking for its state broke: {broken.reason}")
    answer: dict[str, Any] = json.loads(trial.operation)
    return TorchState(
        **{
            **answer,
            "architectures": tuple(answer["architectures"]),
            "devices": tuple((name, capability) for name, capability in answer["devices"]),
            "problems": tuple(answer["problems"]),
        }
    )


def with_changes(state: TorchState, environment: Environment, limit: float = LIMIT) -> TorchState:
    """The state with `changed_by_import` filled: every installed library of `PATCHING`, each in its own process.

    A library that cannot be imported changes nothing that could be seen; its failure is another check's business.
    """
    present = [name for name in PATCHING if environment.version(name) is not None]
    with side_by_side(2) as pool:
        left = list(pool.map(lambda name: _flags_after(PATCHING[name], limit), present))
    return replace(
        state,
        changed_by_import=tuple(
            (library, flag, state.flags[flag], after)
            for library, flags in zip(present, left)
            for flag, after in flags.items()
            if state.flags.get(flag, after) != after
        ),
    )


def _flags_after(module: str, limit: float) -> dict[str, str]:
    """The flags in a process that imported `module`; empty where that failed, or torch was not imported with it."""
    tried = try_import(module, operation="torch-flags", limit=limit)
    if tried.failure is not None or tried.operation_failure is not None:
        return {}
    found: dict[str, str] = json.loads(tried.operation)
    return found
