"""What a kernel library needs before it can run, as limits with their sources, decided from data alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attncheck import backends, discovery
from attncheck.environment import Environment
from attncheck.semantics.observation import Reason, Rejected


@dataclass(frozen=True, slots=True)
class Call:
    """The attention call in question. device: "cpu" or "cuda". dtype: torch's name. None or False: does not matter.

    head_dim is the q/k width, head_dim_v the value width (None: the same). mask: an explicit mask tensor is handed
    over. window: a sliding window is asked of the kernel itself.
    """

    device: str = "cpu"
    dtype: str = "float32"
    head_dim: int | None = None
    head_dim_v: int | None = None
    mask: bool = False
    window: bool = False
    softcap: bool = False
    sinks: bool = False
    alibi: bool = False
    dropout: bool = False


@dataclass(frozen=True, slots=True)
class Usable:
    """Nothing known speaks against it. kernels: those that may serve the call, in the library's own words."""

    kernels: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """One condition: `broken` gives the offending value as text, or None when the condition holds."""

    text: str
    limit: str
    source: str
    broken: Callable[[Environment, Call], str | None]


@dataclass(frozen=True, slots=True)
class Backend:
    """A kernel library. implementations: transformers' names it serves. decide: pure, no import of the library."""

    name: str
    implementations: tuple[str, ...]
    decide: Callable[[str, Environment, Call], Usable | Rejected]


def judge(limits: tuple[Limit, ...], environment: Environment, call: Call) -> tuple[Reason, ...]:
    """Every limit that is broken, with the value that breaks it."""
    return tuple(
        Reason(limit.text, limit.limit, actual, limit.source)
        for limit in limits
        if (actual := limit.broken(environment, call)) is not None
    )


def installed(distribution: str, environment: Environment) -> str | None:
    """None when the distribution is there; else what to print as the actual value."""
    return None if environment.version(distribution) is not None else "not installed"


def find() -> tuple[Backend, ...]:
    """Every backend of this package: each module that defines `BACKEND`."""
    return discovery.plugins(backends, "BACKEND", Backend)


def decide(implementation: str, environment: Environment, call: Call) -> Usable | Rejected | None:
    """The verdict of the backend behind one of transformers' names, None when no backend serves it."""
    for backend in find():
        if implementation in backend.implementations:
            return backend.decide(implementation, environment, call)
    return None
