"""Eager attention: matmul, softmax, matmul in the modeling file itself. Needs torch and nothing else."""

from __future__ import annotations

from attncheck.backends.interface import Backend, Call, Limit, Usable, installed, judge
from attncheck.environment import Environment
from attncheck.semantics.observation import Rejected

LIMITS = (Limit("torch is not installed", "torch installed", "package metadata", lambda e, _: installed("torch", e)),)


def decide(_: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable wherever torch is."""
    reasons = judge(LIMITS, environment, call)
    return Rejected(reasons) if reasons else Usable(("matmul-softmax",))


BACKEND = Backend("eager", ("eager",), decide)
