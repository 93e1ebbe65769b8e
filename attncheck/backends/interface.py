"""What a kernel library needs before it can run, decided from data alone, and the one way to call each of its APIs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from attncheck import backends, discovery
from attncheck.environment import Environment
from attncheck.semantics.observation import Reason, Rejected
from attncheck.semantics.spec import CAUSAL, Alignment, Window


@dataclass(frozen=True, slots=True)
class Call:
    """The attention call in question. device: "cpu" or "cuda". dtype: torch's name. None or False: does not matter.

    head_dim is the q/k width, head_dim_v the value width (None: the same). mask: an explicit mask tensor is handed
    over. window: a sliding window is asked of the kernel itself. q_len, kv_len: tokens. backward: gradients are wanted.
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
    num_heads: int | None = None
    num_kv_heads: int | None = None
    q_len: int | None = None
    kv_len: int | None = None
    causal: bool = False
    backward: bool = False


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
class Ask:
    """What one call shall compute, in attncheck's terms; an `Api` spells it in its own.

    window: inclusive distances, None = unbounded. alignment: of the diagonal when q_len != kv_len. scale: factor on
    q.k, None = 1/sqrt(head_dim). softcap: None = none. sinks: tensor, one logit a query head. slopes: ALiBi slopes,
    float32 tensor, one a query head, bias -slope * |distance|. mask: bool tensor (True = keep) or additive float
    tensor, broadcastable to batch x heads x queries x keys; window is then part of the mask already. deterministic: ask
    for a deterministic backward where the API has a switch.
    """

    window: Window = CAUSAL
    alignment: Alignment = Alignment.BOTTOM_RIGHT
    scale: float | None = None
    softcap: float | None = None
    sinks: Any = None
    slopes: Any = None
    mask: Any = None
    dropout: float = 0.0
    deterministic: bool = False


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to write something in an API's own words: a row of the convention table.

    question: "window" (a window of 8, every spelling a user might try), "unbounded" (every way to say "no limit"),
    "causal", "two-sided". Each is read at 64 queries x 64 keys, and those with `lengths` also at the lengths given.
    text: the arguments as a user writes them. arguments: what is passed. promise: what the documentation says that this
    means, None where it says nothing; source: where it says so. alignment: promised for unequal lengths. lengths:
    further (q_len, kv_len) pairs to read. number: of the window, where the call hands the library one: 8 in
    "window_size=(8, 0)"; None without a window, and where a mask or mask function is written out, which means what it
    says whatever library runs it. pattern: the text with "{}" in the place of the window's number, also of one that is
    written out (8 there); "" without one.
    """

    question: str
    text: str
    arguments: Mapping[str, Any]
    promise: Window | None = None
    alignment: Alignment | None = None
    source: str = ""
    lengths: tuple[tuple[int, int], ...] = ()
    number: int | None = None
    pattern: str = ""


class NoOperators(ImportError):
    """A library that can be imported, but says itself that none of its kernels is there."""


#: (q, k, v, **arguments) -> output. Tensors are batch x heads x tokens x width on both sides, whatever the library's
#: own layout is: transposed views of tensors that lie in that layout cost nothing.
Attend = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Api:
    """One callable of a library.

    name: unique ("flash-attn-2", "flash-attn-2-varlen", "sdpa-cudnn"). call: how users write it
    ("flash_attn.flash_attn_func"). layout: of the library's own tensors, "bhsd", "bshd" or "thd", for who allocates
    them. load: imports the library and returns the callable; raises what the import raises. spell: the arguments that
    ask for `Ask` at these lengths (q_len, kv_len), or why the API cannot express it; imports torch only where it must.
    spellings: rows of the convention table. devices: where it can run. dtypes: that it documents. environment:
    variables that the process which loads it needs. needs_dynamo: it must run where torch.compile works. launches:
    regular expression found in the names of the CUDA kernels that it launches (seen on an H100), "" where unknown.
    serves: the implementation of transformers whose calls end here, "" for none. compiles: seconds that the first call
    of each new kind takes (seen on an H100), 0 where nothing is compiled. on_request: further devices, where it runs
    but is read only when the user names it -> seconds of a new kind of call there. stand_in: what computes in the place
    of a kernel of the library, "" where one does. Such an API shows what the library's numbers mean and nothing else:
    its features, outputs and times are not the library's.
    """

    name: str
    call: str
    layout: str
    load: Callable[[], Attend]
    spell: Callable[[Ask, int, int], Mapping[str, Any] | Rejected]
    spellings: tuple[Spelling, ...] = ()
    devices: tuple[str, ...] = ("cuda",)
    dtypes: tuple[str, ...] = ("float16", "bfloat16")
    environment: Mapping[str, str] = field(default_factory=dict)
    needs_dynamo: bool = False
    launches: str = ""
    serves: str = ""
    compiles: float = 0.0
    on_request: Mapping[str, float] = field(default_factory=dict)
    stand_in: str = ""


@dataclass(frozen=True, slots=True)
class Backend:
    """A kernel library.

    implementations: transformers' names it serves. decide: pure, no import of the library; its first argument is one of
    `implementations` or the name of one of `apis`. apis: what it can be called through directly.
    """

    name: str
    implementations: tuple[str, ...]
    decide: Callable[[str, Environment, Call], Usable | Rejected]
    apis: tuple[Api, ...] = ()


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


def apis() -> dict[str, tuple[Backend, Api]]:
    """Every API by name, with its backend. Raises ValueError when two share a name."""
    found: dict[str, tuple[Backend, Api]] = {}
    for backend in find():
        for api in backend.apis:
            if api.name in found:
                raise ValueError(f"two APIs are called {api.name}")
            found[api.name] = (backend, api)
    return found


def stand_ins() -> dict[str, str]:
    """The APIs that run no kernel of their library -> what computes instead."""
    return {name: api.stand_in for name, (_, api) in apis().items() if api.stand_in}
