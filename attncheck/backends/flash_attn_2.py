"""flash-attention 2 (`flash-attn`): what it needs, how it is called, and how its users write a window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attncheck.backends.flash_calls import dense, row, shared_arguments, varlen
from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Limit, Spelling, Usable, judge
from attncheck.backends.limits import (
    capability,
    half_precision,
    heads_divide,
    is_installed,
    no_argument,
    nvidia_gpu,
    on_every_gpu,
    one_width,
    softcap_without_dropout,
    widths,
)
from attncheck.backends.spelling import bottom_right_only, integer_window, lacking
from attncheck.environment import Environment
from attncheck.semantics.observation import Reason, Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Window

PACKAGE = "flash-attn"
INTERFACE = "flash_attn 2.8.3 flash_attn_interface.py"
_CHECKS = "flash_attn 2.8.3 flash_api.cpp"
_README = "flash_attn 2.8.3 README"

#: `setup.py` of 2.8.3 compiles for these unless FLASH_ATTN_CUDA_ARCHS says otherwise. Binaries for 8.0 serve every
#: 8.x and those for 10.0 and 12.0 their later minors; without PTX a card of another generation finds nothing to load.
_DEFAULT_BINARIES = (8, 9, 10, 12)


def _small_shared_memory(call: Call, environment: Environment) -> str | None:
    if not (call.backward and call.dropout and (call.head_dim or 0) > 192):
        return None
    return on_every_gpu(environment, lambda found: found in ((8, 6), (8, 9)) or found[0] == 12)


#: No upper compute capability: the code checks for 8.0 or newer only. Head sizes need not be multiples of 8: the Python
#: functions pad them.
LIMITS = (
    is_installed(PACKAGE),
    *nvidia_gpu(PACKAGE, rocm=True),
    capability((8, 0), _CHECKS),
    half_precision(_CHECKS),
    widths(1, 256, 1, _CHECKS),
    one_width(_CHECKS),
    heads_divide(_CHECKS),
    softcap_without_dropout(_CHECKS),
    Limit(
        "the backward pass with dropout needs more shared memory for this head size",
        "compute capability 8.0 or 9.0, no dropout, or head size <= 192",
        _README,
        lambda environment, call: _small_shared_memory(call, environment),
    ),
    *no_argument(PACKAGE, INTERFACE, "mask", "sinks"),
)


def decide(_: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable when no limit is broken."""
    if reasons := judge(LIMITS, environment, call):
        return Rejected(reasons)
    return Usable((PACKAGE,), _note(environment))


def _note(environment: Environment) -> str:
    if not environment.gpus:
        return "on ROCm: written for MI200 and MI300 (README); which card is here was not read"
    if odd := on_every_gpu(environment, lambda found: found[0] not in (8, 9)):
        built = ", ".join(f"{major}.x" for major in _DEFAULT_BINARIES)
        return (
            f"compiled for {built} by default (setup.py, FLASH_ATTN_CUDA_ARCHS): a build without binaries for {odd} "
            "stops with 'no kernel image is available'"
        )
    return ""


def spell(ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """The arguments of both functions; what `Ask` leaves at its default is left out, except causal and window_size."""
    name = "flash-attention 2"
    reasons = (
        *lacking(ask, name, INTERFACE, "mask", "sinks"),
        *bottom_right_only(ask, q_len, kv_len, name, INTERFACE),
    )
    if ask.softcap is not None and ask.dropout:
        reasons += (
            Reason("softcap and dropout exclude each other", "softcap without dropout", "both asked for", _CHECKS),
        )
    if reasons:
        return Rejected(reasons)
    arguments = shared_arguments(ask, integer_window(ask.window))
    if ask.slopes is not None:
        arguments["alibi_slopes"] = ask.slopes
    if ask.dropout:
        arguments["dropout_p"] = ask.dropout
    return arguments


def load_dense() -> Attend:
    """`flash_attn.flash_attn_func`, as of `flash_calls.dense`."""
    from flash_attn import flash_attn_func

    return dense(flash_attn_func)


def load_varlen() -> Attend:
    """`flash_attn.flash_attn_varlen_func`, as of `flash_calls.varlen`."""
    from flash_attn import flash_attn_varlen_func

    return varlen(flash_attn_varlen_func)


def integer_spellings(source: str) -> tuple[Spelling, ...]:
    """Every way to write a window where -1 is unbounded and both ends are inclusive (flash-attention 2 and 3)."""

    def written(
        question: str, causal: bool, window: tuple[int, int] | None, promise: Window, *, lengths: bool = False
    ) -> Spelling:
        return row(question, causal, window, promise, source, lengths=lengths)

    return (
        written("window", False, (8, 0), Window(8, 0), lengths=True),
        written("window", True, (8, 0), Window(8, 0), lengths=True),
        written("window", True, (8, 8), Window(8, 0)),
        written("window", True, (8, -1), Window(8, 0)),
        written("two-sided", False, (8, 3), Window(8, 3), lengths=True),
        written("two-sided", False, (8, -1), Window(8, None)),
        written("unbounded", False, (-1, -1), FULL),
        written("unbounded", False, (-1, 0), CAUSAL),
        written("unbounded", True, (-1, -1), CAUSAL),
        written("unbounded", True, (-1, 0), CAUSAL),
        written("causal", True, None, CAUSAL, lengths=True),
    )


#: Not `pytorch_flash::`, which is torch's own copy of the same kernels.
LAUNCHES = r"(?<!\w)flash::flash_fwd"

BACKEND = Backend(
    PACKAGE,
    ("flash_attention_2",),
    decide,
    (
        Api(
            "flash-attn-2",
            "flash_attn.flash_attn_func",
            "bshd",
            load_dense,
            spell,
            integer_spellings(f"{INTERFACE}, flash_attn_func"),
            launches=LAUNCHES,
            serves="flash_attention_2",
        ),
        Api(
            "flash-attn-2-varlen",
            "flash_attn.flash_attn_varlen_func",
            "thd",
            load_varlen,
            spell,
            integer_spellings(f"{INTERFACE}, flash_attn_varlen_func"),
            launches=LAUNCHES,
            serves="flash_attention_2",
        ),
    ),
)
