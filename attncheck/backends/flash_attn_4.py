"""flash-attention 4 (`flash-attn-4`, `flash_attn.cute`): what it needs, how it is called, how a window is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attncheck.backends.flash_calls import Pair, dense, row, shared_arguments, varlen
from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Limit, Spelling, Usable, judge
from attncheck.backends.limits import (
    Capability,
    capability,
    half_precision,
    heads_divide,
    is_installed,
    no_argument,
    nvidia_gpu,
    on_every_gpu,
    two_widths,
)
from attncheck.backends.spelling import bottom_right_only, lacking, optional_window
from attncheck.environment import Environment
from attncheck.semantics.observation import Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Window

PACKAGE = "flash-attn-4"
INTERFACE = "flash_attn/cute/interface.py 4.0.0b36"
_MODULE = "flash_attn.cute"
_HEADS = f"{INTERFACE}, _validate_head_dims"
_BACKWARD = f"{INTERFACE}, _flash_attn_bwd"
_UNBOUNDED = f"{INTERFACE}, _resolve_causal_local_window"
_BLACKWELL = (10, 11)
_GEFORCE_BLACKWELL = 12


def _unfit(found: Capability, width: int, value: int) -> bool:
    """True when cards of this compute capability refuse the pair of head sizes; 8.x and 12.x want multiples of 8."""
    if width % 8 or value % 8:
        return True
    if found[0] == 9:
        return not (8 <= width <= 256 and 8 <= value <= 256)
    if found[0] in _BLACKWELL:
        usual = 8 <= width <= 128 and 8 <= value <= 128
        return not (usual or (width, value) in ((192, 128), (256, 256), (64, 512), (512, 512)))
    return False


def _head_sizes(environment: Environment, call: Call) -> str | None:
    if call.head_dim is None:
        return None
    width, value = call.head_dim, call.head_dim_v or call.head_dim
    if not environment.gpus:
        return None if width % 8 == 0 and value % 8 == 0 else f"{width} and {value}"
    cards = on_every_gpu(environment, lambda found: _unfit(found, width, value))
    return f"{two_widths(call) or width} on {cards}" if cards else None


def _backward(environment: Environment, call: Call) -> str | None:
    return on_every_gpu(environment, lambda found: found[0] == 8) if call.backward else None


def _backward_terms(environment: Environment, call: Call) -> str | None:
    """Softcap and sinks in the backward pass: neither on 12.x, neither at head size 256 on 10.x and 11.x."""
    asked = [name for name in ("softcap", "sinks") if getattr(call, name)]
    if not (call.backward and asked):
        return None

    def wrong(found: Capability) -> bool:
        return found[0] == _GEFORCE_BLACKWELL or (found[0] in _BLACKWELL and call.head_dim == 256)

    cards = on_every_gpu(environment, wrong)
    return f"{' and '.join(asked)} on {cards}" if cards else None


LIMITS = (
    is_installed(PACKAGE),
    *nvidia_gpu(PACKAGE),
    capability((8, 0), INTERFACE, (12, 9)),
    half_precision(INTERFACE),
    Limit(
        "the head size is not supported",
        "multiples of 8; on 9.0 at most 256; on 10.x and 11.x at most 128, (192, 128) or (256, 256)",
        _HEADS,
        _head_sizes,
    ),
    heads_divide(INTERFACE),
    Limit("there is no backward pass for this GPU", "compute capability 9.0 or newer", _BACKWARD, _backward),
    Limit(
        "the backward pass for this GPU has no softcap and no sinks",
        "neither on 12.x, nor at head size 256 on 10.x and 11.x",
        _BACKWARD,
        _backward_terms,
    ),
    *no_argument(PACKAGE, INTERFACE, "mask", "alibi", "dropout"),
)


def decide(_: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable when no limit is broken."""
    reasons = judge(LIMITS, environment, call)
    return Rejected(reasons) if reasons else Usable((PACKAGE,))


def spell(ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """The arguments of both functions; an unbounded side is None, never -1. Defaults are left out, except causal and
    window_size. Sinks go in as they are: float16, bfloat16 or float32, one a query head.
    """
    name = "flash-attention 4"
    reasons = (
        *lacking(ask, name, INTERFACE, "mask", "slopes", "dropout"),
        *bottom_right_only(ask, q_len, kv_len, name, INTERFACE),
    )
    if reasons:
        return Rejected(reasons)
    arguments = shared_arguments(ask, optional_window(ask.window))
    if ask.sinks is not None:
        arguments["learnable_sink"] = ask.sinks
    return arguments


def load_dense() -> Attend:
    """`flash_attn.cute.flash_attn_func`, as of `flash_calls.dense`."""
    from flash_attn.cute import flash_attn_func

    return dense(flash_attn_func)


def load_varlen() -> Attend:
    """`flash_attn.cute.flash_attn_varlen_func`, as of `flash_calls.varlen`."""
    from flash_attn.cute import flash_attn_varlen_func

    return varlen(flash_attn_varlen_func)


def _row(question: str, causal: bool, window: Pair | None, promise: Window, *, lengths: bool = False) -> Spelling:
    # The package documents None for "unbounded" and says nothing of -1, which every earlier generation documents.
    negative = window is not None and any(side is not None and side < 0 for side in window)
    source = "-1 as flash-attention 2 and 3 document it (flash_attn_interface.py)" if negative else _UNBOUNDED
    return row(question, causal, window, promise, source, lengths=lengths)


SPELLINGS = (
    _row("window", False, (8, 0), Window(8, 0), lengths=True),
    _row("window", True, (8, 0), Window(8, 0), lengths=True),
    _row("window", True, (8, 8), Window(8, 0)),
    _row("window", True, (8, None), Window(8, 0)),
    _row("window", True, (8, -1), Window(8, 0)),
    _row("two-sided", False, (8, 3), Window(8, 3), lengths=True),
    _row("two-sided", False, (8, None), Window(8, None)),
    _row("unbounded", False, (None, None), FULL),
    _row("unbounded", False, (-1, -1), FULL),
    _row("unbounded", False, (None, 0), CAUSAL),
    _row("unbounded", False, (-1, 0), CAUSAL),
    _row("unbounded", True, (None, None), CAUSAL),
    _row("unbounded", True, (None, 0), CAUSAL),
    _row("unbounded", True, (-1, -1), CAUSAL),
    _row("unbounded", True, (-1, 0), CAUSAL),
    _row("causal", True, None, CAUSAL, lengths=True),
)


def _api(name: str, function: str, layout: str, load: Callable[[], Attend]) -> Api:
    return Api(
        name,
        f"{_MODULE}.{function}",
        layout,
        load,
        spell,
        SPELLINGS,
        launches="flash_attncuteflash_fwd",
        serves="flash_attention_4",
        compiles=5.0,
    )


BACKEND = Backend(
    PACKAGE,
    ("flash_attention_4",),
    decide,
    (
        _api("flash-attn-4", "flash_attn_func", "bshd", load_dense),
        _api("flash-attn-4-varlen", "flash_attn_varlen_func", "thd", load_varlen),
    ),
)
