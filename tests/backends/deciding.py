"""What a backend decides for a call on a stored machine, short enough to compare."""

from __future__ import annotations

from attncheck.backends.interface import Call, Usable, find
from attncheck.environment import Environment


def decided(name: str, environment: Environment, call: Call) -> tuple[str, ...] | list[tuple[str, str]]:
    """Kernels, or (limit, actual) of each reason; every reason says what and where. name: as of `Backend.decide`."""
    for backend in find():
        if name in backend.implementations or name in [api.name for api in backend.apis]:
            verdict = backend.decide(name, environment, call)
            if isinstance(verdict, Usable):
                return verdict.kernels
            assert all(reason.text and reason.limit and reason.actual and reason.source for reason in verdict.reasons)
            return [(reason.limit, reason.actual) for reason in verdict.reasons]
    raise KeyError(name)
