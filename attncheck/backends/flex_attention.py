"""torch's flex_attention: mask and score functions, compiled where that is wanted."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from attncheck.backends.interface import Backend, Call, Limit, Usable, installed, judge
from attncheck.environment import Environment
from attncheck.semantics.observation import Rejected

#: First torch with `torch.nn.attention.flex_attention`; transformers asks for the same.
OLDEST_TORCH = "2.5"


def _too_old(environment: Environment) -> str | None:
    version = environment.version("torch")
    try:
        return version if version is not None and Version(version) < Version(OLDEST_TORCH) else None
    except InvalidVersion:
        return None


LIMITS = (
    Limit("torch is not installed", "torch installed", "package metadata", lambda e, _: installed("torch", e)),
    Limit(
        "this torch has no flex_attention",
        f"torch >= {OLDEST_TORCH}",
        "torch.nn.attention.flex_attention",
        lambda environment, _: _too_old(environment),
    ),
    Limit(
        "transformers' flex_attention raises for dropout",
        "dropout = 0",
        "transformers.integrations.flex_attention",
        lambda _, call: "dropout > 0" if call.dropout else None,
    ),
    Limit(
        "transformers' flex_attention raises for sinks on a CPU",
        "no sinks on a CPU",
        "transformers.integrations.flex_attention",
        lambda _, call: "sinks on a CPU" if call.sinks and call.device == "cpu" else None,
    ),
)


def decide(_: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable from torch 2.5 on; the note says what the first compiled call costs."""
    if reasons := judge(LIMITS, environment, call):
        return Rejected(reasons)
    # Measured: 10.6 s on an H100, 58 s on two CPU cores.
    note = "the first compiled call takes from ten seconds (GPU) to a minute (CPU); uncompiled it is correct but slow"
    return Usable(("triton",) if call.device == "cuda" else ("inductor-cpu",), note)


BACKEND = Backend("flex_attention", ("flex_attention",), decide)
