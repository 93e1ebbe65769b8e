"""flash-attention 3 (`flash-attn-3`), written from its sources alone: attncheck was never run against the package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attncheck.backends.flash_attn_2 import integer_spellings
from attncheck.backends.flash_calls import dense, shared_arguments
from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Limit, Usable, judge
from attncheck.backends.limits import (
    capability,
    half_precision,
    heads_divide,
    is_installed,
    no_argument,
    nvidia_gpu,
    on_every_gpu,
    two_widths,
)
from attncheck.backends.spelling import bottom_right_only, integer_window, lacking
from attncheck.environment import Environment
from attncheck.semantics.observation import Rejected

PACKAGE = "flash-attn-3"
INTERFACE = "hopper/flash_attn_interface.py"
_CHECKS = "hopper/flash_api.cpp"


def _value_width(environment: Environment, call: Call) -> str | None:
    """Another value width: (128, 192] with (96, 128], or at most 64 with at most 512, and on compute capability 9.x."""
    if (sizes := two_widths(call)) is None:
        return None
    width, value = call.head_dim or 0, call.head_dim_v or 0
    if not (128 < width <= 192 and 96 < value <= 128) and not (width <= 64 and value <= 512):
        return sizes
    elsewhere = on_every_gpu(environment, lambda found: found[0] != 9)
    return f"{sizes} on {elsewhere}" if elsewhere else None


def _head_dim(_: Environment, call: Call) -> str | None:
    """The q/k width alone: the value width has a limit of its own."""
    width = call.head_dim
    return str(width) if width is not None and (width > 256 or width % 8) else None


#: sm80 to sm90: what the folder builds kernels for (`hopper/setup.py`); the call itself checks for 8.0 or newer only.
LIMITS = (
    is_installed(PACKAGE),
    *nvidia_gpu(PACKAGE),
    capability((8, 0), "hopper/setup.py", (9, 0)),
    half_precision(_CHECKS),
    Limit("the head size is not supported", "a multiple of 8, at most 256", _CHECKS, _head_dim),
    Limit(
        "this value head size needs other q/k head sizes or Hopper",
        "one head size, or on 9.0: q/k 129 to 192 with v 97 to 128, or q/k <= 64 with v <= 512",
        _CHECKS,
        _value_width,
    ),
    heads_divide(_CHECKS),
    *no_argument(PACKAGE, INTERFACE, "mask", "sinks", "alibi", "dropout"),
)


def decide(_: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable when no limit is broken."""
    if reasons := judge(LIMITS, environment, call):
        return Rejected(reasons)
    return Usable((PACKAGE,), "the limits come from the package's sources; attncheck's authors never ran it")


def spell(ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """The arguments of `flash_attn_func`; defaults are left out, except causal and window_size."""
    name = "flash-attention 3"
    reasons = (
        *lacking(ask, name, INTERFACE, "mask", "sinks", "slopes", "dropout"),
        *bottom_right_only(ask, q_len, kv_len, name, INTERFACE),
    )
    if reasons:
        return Rejected(reasons)
    return shared_arguments(ask, integer_window(ask.window))


def load() -> Attend:
    """`flash_attn_interface.flash_attn_func`, as of `flash_calls.dense`: releases differ in what they return."""
    from flash_attn_interface import flash_attn_func

    return dense(flash_attn_func)


BACKEND = Backend(
    PACKAGE,
    ("flash_attention_3",),
    decide,
    (
        Api(
            "flash-attn-3",
            "flash_attn_interface.flash_attn_func",
            "bshd",
            load,
            spell,
            integer_spellings(f"{INTERFACE}, flash_attn_func"),
            serves="flash_attention_3",
        ),
    ),
)
