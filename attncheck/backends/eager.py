"""Eager attention: matmul, softmax, matmul in the modeling file itself. Needs torch and nothing else."""

from __future__ import annotations

from attncheck.backends.interface import Backend, Call, Usable, judge
from attncheck.backends.torch_limits import TORCH_LIMITS
from attncheck.environment import Environment
from attncheck.semantics.observation import Rejected


def decide(_: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable wherever torch is, and has the device."""
    reasons = judge(TORCH_LIMITS, environment, call)
    return Rejected(reasons) if reasons else Usable(("matmul-softmax",))


BACKEND = Backend("eager", ("eager",), decide)
