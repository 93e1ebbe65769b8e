"""torch.nn.attention.varlen.varlen_attn: torch's own FLASH kernel on packed sequences."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Limit, Spelling, Usable, judge
from attncheck.backends.limits import capability, half_precision, no_argument, on_gpu, one_width, widths
from attncheck.backends.spelling import Bounds, bottom_right_only, integer_window, lacking, packed, unpacked
from attncheck.backends.torch_limits import TORCH_LIMITS, older, rocm_note
from attncheck.environment import Environment
from attncheck.semantics.observation import Reason, Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Window

_FUNCTION = "torch.nn.attention.varlen.varlen_attn"
#: First torch release whose function has the argument (its documentation, release by release; 2.10 has `is_causal`
#: instead of a window).
SINCE: Mapping[str, str] = {"varlen_attn": "2.10", "scale": "2.11", "window_size": "2.11", "enable_gqa": "2.12"}
_FLASH = "torch aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp"


def load() -> Attend:
    """The function as `attend(q, k, v, **its own arguments)`; imports torch, raises ImportError before 2.10.

    q: batch x num_heads x q_len x head_dim; k, v: batch x num_kv_heads x kv_len x head_dim. Every sequence of the batch
    has the full length unless `bounds` of queries and keys say otherwise; the packed tensors (tokens x heads x width)
    are views where the memory lies that way.
    """
    from torch.nn.attention.varlen import varlen_attn

    groups_are_announced = "enable_gqa" in inspect.signature(varlen_attn).parameters

    def attend(
        query: Any, key: Any, value: Any, *, bounds: tuple[Bounds, Bounds] | None = None, **arguments: Any
    ) -> Any:
        q_ends, k_ends = bounds or (None, None)
        if groups_are_announced and query.shape[1] != key.shape[1]:
            arguments.setdefault("enable_gqa", True)
        (flat_query, query_ends, q_len), (flat_key, key_ends, kv_len) = packed(query, q_ends), packed(key, k_ends)
        flat_value, _, _ = packed(value)
        output = varlen_attn(flat_query, flat_key, flat_value, query_ends, key_ends, q_len, kv_len, **arguments)
        return unpacked(output, query.shape[0])

    return attend


def _parameters() -> frozenset[str] | None:
    """Arguments of the installed function, None where there is none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return frozenset(inspect.signature(varlen_attn).parameters)


def spell(ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """`window_size` as flash-attn has it: inclusive distances, -1 unbounded, the diagonal at the bottom right."""
    reasons = lacking(ask, "varlen_attn", _FUNCTION, "mask", "sinks", "slopes", "softcap", "dropout")
    if reasons := reasons + bottom_right_only(ask, q_len, kv_len, "varlen_attn", _FLASH):
        return Rejected(reasons)
    arguments: dict[str, Any] = {} if ask.scale is None else {"scale": ask.scale}
    if ask.window != FULL:
        arguments["window_size"] = integer_window(ask.window)
    parameters = _parameters()
    if parameters is not None and "window_size" not in parameters and ask.window == CAUSAL:
        # torch 2.10: a causal mask has a flag of its own.
        del arguments["window_size"]
        arguments["is_causal"] = True
    unknown = [] if parameters is None else [name for name in arguments if name not in parameters]
    if unknown:
        limit = f"torch >= {SINCE[unknown[0]]}"
        return Rejected((Reason(f"this torch's varlen_attn has no {unknown[0]}", limit, unknown[0], _FUNCTION),))
    return arguments


_DOC = f"{_FUNCTION}: "
_SIZE = _DOC + "(W, 0) is causal attention with a sliding window of size W"

SPELLINGS = (
    Spelling(
        "window",
        "window_size=(8, 0)",
        {"window_size": (8, 0)},
        Window(7, 0),
        source=_SIZE,
        number=8,
        pattern="window_size=({}, 0)",
    ),
    Spelling(
        "window",
        "window_size=(7, 0)",
        {"window_size": (7, 0)},
        Window(6, 0),
        source=_SIZE,
        number=7,
        pattern="window_size=({}, 0)",
    ),
    Spelling(
        "unbounded",
        "window_size=(-1, -1)",
        {"window_size": (-1, -1)},
        FULL,
        source=_DOC + "(-1, -1) is full attention",
    ),
    Spelling("unbounded", "window_size=(8, -1)", {"window_size": (8, -1)}, source=_DOC + "(left, right)"),
    Spelling(
        "causal",
        "window_size=(-1, 0)",
        {"window_size": (-1, 0)},
        CAUSAL,
        source=_DOC + "(-1, 0) is causal attention",
        lengths=((32, 64), (64, 32)),
    ),
    Spelling("two-sided", "window_size=(8, 8)", {"window_size": (8, 8)}, source=_DOC + "(left, right)"),
)

LIMITS = (
    *TORCH_LIMITS,
    Limit("this torch has no varlen_attn", f"torch >= {SINCE['varlen_attn']}", _FUNCTION, older("torch", "2.10")),
    on_gpu("varlen_attn", rocm=True),
    capability((8, 0), _FLASH, (12, 1)),
    half_precision(_FLASH),
    widths(8, 256, 8, _FLASH),
    one_width(_FLASH),
    Limit(
        "this torch's varlen_attn has no window_size",
        f"torch >= {SINCE['window_size']}",
        _FUNCTION,
        lambda e, call: older("torch", SINCE["window_size"])(e, call) if call.window else None,
    ),
    *no_argument("varlen_attn", _FUNCTION, "mask", "sinks", "alibi", "softcap", "dropout"),
)


def decide(_: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable from torch 2.10 on, on GPUs; windows from 2.11 on."""
    reasons = judge(LIMITS, environment, call)
    return Rejected(reasons) if reasons else Usable(("flash",), rocm_note(environment, call))


BACKEND = Backend(
    "varlen_attn",
    (),
    decide,
    (Api("varlen_attn", _FUNCTION, "thd", load, spell, SPELLINGS, launches="pytorch_flash::"),),
)
