"""Kernel APIs in plain torch with known conventions, right and wrong on purpose, for the convention table to read."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, NoOperators, Spelling, Usable
from attncheck.environment import Environment
from attncheck.semantics.observation import Reason, Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window

#: Lengths besides 64 x 64.
UNEQUAL = ((32, 64), (64, 32))


def attend(
    query: Any,
    key: Any,
    value: Any,
    *,
    window: tuple[int, int] = (-1, 0),
    mask: Any = None,
    softcap: float | None = None,
    sinks: Any = None,
    slopes: Any = None,
    scale: float | None = None,
    deterministic: bool = False,
    exclusive: bool = False,
    top_left: bool = False,
    empty: str = "0",
    tiled: bool = False,
    ignores: str = "",
    minus_one: bool = False,
    broken_width: int = 0,
    odd_head: bool = False,
) -> Any:
    """window: (left, right), -1 unbounded. The arguments from `exclusive` on say what this kernel does its own way."""
    import torch

    heads, kv_heads = query.shape[1], key.shape[1]
    chosen = [h % kv_heads if tiled else h // (heads // kv_heads) for h in range(heads)]
    key, shared = key[:, chosen], value[:, chosen]
    scores = (query.float() @ key.float().transpose(-1, -2)) * (scale or query.shape[-1] ** -0.5)
    if softcap is not None and ignores != "softcap":
        scores = softcap * torch.tanh(scores / softcap)
    q_len, kv_len = scores.shape[-2:]
    shift = 0 if top_left else kv_len - q_len
    i, j = torch.arange(q_len)[:, None] + shift, torch.arange(kv_len)[None, :]
    if slopes is not None and ignores != "alibi":
        scores = scores - slopes.view(1, -1, 1, 1) * (i - j).abs()
    left, right = window
    keep = torch.ones((q_len, kv_len), dtype=torch.bool)
    if left >= 0 or minus_one:
        keep &= (i - j < left) if exclusive else (i - j <= left)
    if right >= 0:
        keep &= j - i <= right
    keep = keep.expand_as(scores)
    if odd_head:
        keep = keep.clone()
        keep[:, 1] = True
    if mask is not None:
        keep = mask.expand_as(scores) if mask.dtype == torch.bool else (mask > mask.min()).expand_as(scores)
    scores = scores.masked_fill(~keep, -torch.inf)
    if sinks is not None and ignores != "sinks":
        column = sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
        weights = torch.softmax(torch.cat((scores, column), -1), -1)[..., :-1]
    else:
        weights = torch.softmax(scores, -1)
    nothing = ~keep.any(-1, keepdim=True)
    if empty == "0":
        weights = weights.masked_fill(nothing, 0.0)
    elif empty == "mean of V":
        weights = weights.masked_fill(nothing, 1 / kv_len)
    elif empty == "first key":
        weights = torch.where(nothing, torch.nn.functional.one_hot(torch.tensor(0), kv_len).float(), weights)
    output = weights.to(value.dtype) @ shared
    return output * 1.25 if broken_width and query.shape[-1] == broken_width else output


def spell(ask: Ask, q_len: int, kv_len: int, *, lacks: tuple[str, ...] = (), only: Alignment | None = None) -> Any:
    """The arguments of `attend`. lacks: names of `Ask` without an argument. only: the alignment that the kernel has."""
    for name in lacks:
        if getattr(ask, name) is not None and getattr(ask, name) is not False:
            return Rejected((Reason(f"no argument for {name}"),))
    if q_len != kv_len and only is not None and ask.alignment is not only:
        return Rejected((Reason(f"{only.value} only"),))
    window = tuple(-1 if side is None else side for side in (ask.window.left, ask.window.right))
    asked = {"softcap": ask.softcap, "sinks": ask.sinks, "slopes": ask.slopes, "scale": ask.scale, "mask": ask.mask}
    strict = {"deterministic": True} if ask.deterministic and "deterministic" not in lacks else {}
    return {"window": window, **{name: given for name, given in asked.items() if given is not None}, **strict}


_RUNS = iter(range(1_000_000))


def noisy(query: Any, key: Any, value: Any, *, deterministic: bool = False, **arguments: Any) -> Any:
    """Its gradients differ in the last bits from run to run unless it is asked not to."""
    import torch

    class Noise(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, output: Any) -> Any:
            return output.clone()

        @staticmethod
        def backward(_: Any, upstream: Any) -> Any:
            return upstream if deterministic else upstream * (1 + 1e-6 * (next(_RUNS) % 7))

    output = attend(query, key, value, **arguments)
    return Noise.apply(output) if output.requires_grad else output


def forward_only(query: Any, key: Any, value: Any, **arguments: Any) -> Any:
    """A kernel without a backward."""
    return attend(query.detach(), key.detach(), value.detach(), **arguments)


def wrong_gradient(query: Any, key: Any, value: Any, **arguments: Any) -> Any:
    """Its gradients are twice too large in dk."""
    return attend(query, key + (key - key.detach()), value, **arguments)


def refuses(*_: Any, **__: Any) -> Any:
    """A library that announces its limit."""
    raise RuntimeError("FakeAttention only supports fp8. Buy another GPU.")


def slips(*_: Any, **__: Any) -> Any:
    """A library with a slip in its code."""
    return {}["missing"]


def knows_two_dtypes(query: Any, key: Any, value: Any, *, otherwise: str = "", **arguments: Any) -> Any:
    """A library that looks its kernels up by dtype, without a word for those it has none for.

    otherwise: in half precision it calls one all the same and breaks the device ("fault"), or the process ("death").
    """
    import torch

    if query.dtype is torch.float16 and otherwise == "fault":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    if query.dtype is torch.float16 and otherwise == "death":
        os.kill(os.getpid(), signal.SIGSEGV)
    {torch.float32: "a kernel", torch.bfloat16: "another"}[query.dtype]
    return attend(query, key, value, **arguments)


def dies(query: Any, key: Any, value: Any, **arguments: Any) -> Any:
    """A library that crashes in native code where values are wider than 64, and in the window call."""
    if query.shape[-1] == 80 or arguments.get("window") == (8, 0):
        os.kill(os.getpid(), signal.SIGSEGV)
    return attend(query, key, value, **arguments)


def ungrouped(query: Any, key: Any, value: Any, **arguments: Any) -> Any:
    """A library that wants as many kv heads as query heads."""
    if query.shape[1] != key.shape[1]:
        raise RuntimeError("No available kernel: FakeAttention requires num_heads to be equal.")
    return attend(query, key, value, **arguments)


def no_window_backward(query: Any, key: Any, value: Any, **arguments: Any) -> Any:
    """A kernel that trains without a window only."""
    if query.requires_grad and arguments["window"] != (-1, 0):
        raise RuntimeError("FakeAttention has no backward with a window.")
    return attend(query, key, value, **arguments)


def bounded(query: Any, key: Any, value: Any, *, window: tuple[int, int] = (-1, 0), **arguments: Any) -> Any:
    """An unbounded side reaches back as far as there are keys, which is too little from the top left."""
    left = key.shape[2] if window[0] == -1 else window[0]
    return attend(query, key, value, window=(left, window[1]), top_left=True, **arguments)


def no_operators() -> Attend:
    """A library that can be imported and holds nothing."""
    raise NoOperators("imports, but none of its operators can be used: built for torch 1, here torch 2")


def no_file() -> Attend:
    """An import that fails."""
    raise ImportError("libfake.so: cannot open shared object file: No such file or directory")


def spellings(
    *, inclusive: bool = True, alignment: Alignment = Alignment.BOTTOM_RIGHT, minus_one: bool = False
) -> tuple[Spelling, ...]:
    """Rows with a promise as an API's documentation gives it."""
    return (
        Spelling(
            "window",
            "window=(8, 0)",
            {"window": (8, 0)},
            Window(8 if inclusive else 7, 0),
            alignment,
            "docs",
            UNEQUAL,
            8,
            "window=({}, 0)",
        ),
        Spelling("causal", "window=(-1, 0)", {"window": (-1, 0)}, CAUSAL, alignment, "docs", UNEQUAL),
        Spelling("unbounded", "window=(-1, -1)", {"window": (-1, -1)}, FULL, alignment, "docs", UNEQUAL),
        Spelling("two-sided", "window=(8, 3)", {"window": (8, 3)}, Window(8 if inclusive else 7, 3), alignment, "docs"),
        Spelling("window", "window=(8, 0), undocumented", {"window": (8, 0)}),
    )


#: The same window given by another number, and written out: neither says what 8 means.
OTHER_WINDOWS = (
    Spelling("window", "window=(7, 0)", {"window": (7, 0)}, Window(7, 0), None, "docs", (), 7, "window=({}, 0)"),
    Spelling("window", "keep=(i - j < 8)", {"window": (7, 0)}, Window(7, 0), pattern="keep=(i - j < {})"),
)


def _api(
    name: str,
    function: Callable[..., Any] = attend,
    *,
    own: Mapping[str, Any] | None = None,
    rows: tuple[Spelling, ...] | None = None,
    lacks: tuple[str, ...] = (),
    only: Alignment | None = None,
    load: Callable[[], Attend] | None = None,
    layout: str = "bhsd",
    devices: tuple[str, ...] = ("cpu", "cuda"),
    environment: Mapping[str, str] | None = None,
    compiles: float = 0.0,
    stand_in: str = "",
) -> Api:
    return Api(
        name,
        f"fake.{name}",
        layout,
        load or (lambda: partial(function, **(own or {}))),
        partial(spell, lacks=lacks, only=only),
        spellings() if rows is None else rows,
        devices,
        ("float32", "bfloat16"),
        environment or {},
        compiles=compiles,
        stand_in=stand_in,
    )


def decide(name: str, _: Environment, call: Call) -> Usable | Rejected:
    """One of them says that this machine is not for it, one that grouped heads are not."""
    if name == "fake-ungrouped" and call.num_heads != call.num_kv_heads:
        return Rejected((Reason("FakeAttention has no grouped heads", "num_kv_heads = num_heads", "4, 2", "docs"),))
    if name == "fake-rejected":
        return Rejected((Reason("FakeAttention needs compute capability 42", "cc 42", "cc 9.0", "docs"),))
    return Usable()


TOP_LEFT = Alignment.TOP_LEFT

BACKEND = Backend(
    "fake",
    (),
    decide,
    (
        _api("fake-inclusive", layout="bshd"),
        _api("fake-exclusive", own={"exclusive": True}, rows=spellings(inclusive=False)),
        _api("fake-top-left", own={"top_left": True}, rows=spellings(alignment=TOP_LEFT), only=TOP_LEFT),
        _api("fake-off-by-one", own={"exclusive": True}),
        _api("fake-wrong-corner", own={"top_left": True}),
        _api("fake-minus-one", own={"minus_one": True}),
        _api("fake-nan", own={"empty": "NaN"}),
        _api("fake-uniform", own={"empty": "mean of V"}),
        _api("fake-first-key", own={"empty": "first key"}),
        _api("fake-tiled", own={"tiled": True}),
        _api("fake-odd-head", own={"odd_head": True}),
        _api("fake-no-softcap", own={"ignores": "softcap"}),
        _api("fake-no-sinks", own={"ignores": "sinks"}),
        _api("fake-no-alibi", own={"ignores": "alibi"}),
        _api("fake-lacking", lacks=("softcap", "sinks", "slopes", "mask", "deterministic")),
        _api("fake-width-80", own={"broken_width": 80}),
        _api("fake-noisy", noisy),
        _api("fake-forward-only", forward_only),
        _api("fake-gradient", wrong_gradient),
        _api("fake-refusing", refuses),
        _api("fake-slipping", slips),
        _api("fake-two-dtypes", knows_two_dtypes),
        _api("fake-half-faults", knows_two_dtypes, own={"otherwise": "fault"}),
        _api("fake-half-dies", knows_two_dtypes, own={"otherwise": "death"}),
        _api("fake-dying", dies),
        _api("fake-unloadable", load=no_file),
        _api("fake-rejected"),
        _api("fake-no-operators", load=no_operators),
        _api("fake-ungrouped", ungrouped),
        _api("fake-no-window-backward", no_window_backward),
        _api("fake-bounded", bounded, rows=spellings(alignment=TOP_LEFT), only=TOP_LEFT),
        _api("fake-other-windows", rows=(*spellings(), *OTHER_WINDOWS)),
        _api("fake-compiled", compiles=5.0),
        _api("fake-slow", compiles=100.0),
        _api("fake-stand-in", stand_in="fake masks, applied by plain torch"),
        _api("fake-gpu", devices=("cuda",)),
        _api("fake-variable", environment={"FAKE_SWITCH": "1"}),
    ),
)
