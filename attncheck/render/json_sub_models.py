"""Sub-models and the answer to `--without flash` as JSON: domain types in, the types of `wire_sub_models.py` out."""

from __future__ import annotations

from attncheck.render import wire_sub_models as wire
from attncheck.render.json_doctor import finite
from attncheck.semantics.sub_models import Asked, AskedRun, Deviation, SubModelRun, WithoutFlash


def run(entry: AskedRun) -> wire.AskedRunEntry:
    """What came of one way to ask for attention."""
    return {
        "asked": _asked(entry.asked),
        "sub_models": [_sub_model(sub) for sub in entry.sub_models],
        "failure": entry.failure,
        "basis": entry.basis.value,
        "flash": True if entry.flash else False if entry.proven else None,
    }


def without(answer: WithoutFlash) -> wire.WithoutEntry:
    """The whole answer."""
    return {
        "asked": [run(entry) for entry in answer.asked],
        "ways": [run(entry) for entry in answer.ways],
        "costs": [
            {
                "name": cost.name,
                "length": cost.length,
                "seconds": finite(cost.seconds),
                "memory": cost.memory,
                "detail": cost.detail,
            }
            for cost in answer.costs
        ],
        "device": answer.device,
        "dtype": answer.dtype,
        "heads": answer.heads,
        "head_dims": [[key, width] for key, width in answer.head_dims],
        "notes": list(answer.notes),
    }


def _asked(asked: Asked) -> wire.AskedEntry:
    given = asked.implementation
    return {
        "name": asked.name,
        "implementation": [list(pair) for pair in given] if isinstance(given, tuple) else given,
        "switches": list(asked.switches),
        "predicted": asked.predicted,
    }


def _sub_model(sub: SubModelRun) -> wire.SubModelEntry:
    return {
        "key": sub.key,
        "title": sub.title,
        "module": sub.module,
        "part": sub.part.value,
        "requested": sub.requested,
        "config": sub.config,
        "reached": list(sub.reached),
        "effective": sub.effective,
        "phases": [
            {
                "name": phase.name,
                "kernels": list(phase.kernels),
                "flash": list(phase.flash),
                "failure": phase.failure,
            }
            for phase in sub.phases
        ],
        "deviation": None if sub.deviation is None else _deviation(sub.deviation),
        "missing": sub.missing,
    }


def _deviation(found: Deviation) -> wire.DeviationEntry:
    return {
        "largest": finite(found.largest),
        "typical": finite(found.typical),
        "spread": finite(found.spread),
        "positions": found.positions,
        "top1": finite(found.top1),
    }
