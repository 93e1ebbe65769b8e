"""TransformerEngine's DotProductAttention with each of its backends under it: limits, words, and how to call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from attncheck.backends.cudnn import head_size, short_keys
from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Limit, Spelling, Usable, judge
from attncheck.backends.limits import (
    asked_for,
    capability,
    half_precision,
    heads_divide,
    is_installed,
    nvidia_gpu,
    widths,
)
from attncheck.backends.spelling import numbered_pair
from attncheck.environment import Environment
from attncheck.semantics.observation import Reason, Rejected
from attncheck.semantics.spec import Alignment, Window

PACKAGE = "transformer-engine"
FLASH, FLASH_4, FUSED, UNFUSED = "te-flash", "te-flash-4", "te-fused", "te-unfused"
WORDS = {FLASH: "FlashAttention", FLASH_4: "FlashAttention", FUSED: "FusedAttention", UNFUSED: "the unfused backend"}

SELECTION = "get_attention_backend of TransformerEngine 2.20.2"
DOCSTRING = "DotProductAttention, window_size (2.20.2): inclusive"
REWRITTEN = "check_set_window_size (2.20.2): rewritten with a warning"

#: What fixes each backend. The debug variables make TransformerEngine say why it drops one; nothing else reads them.
_SPEAKING = {"NVTE_DEBUG": "1", "NVTE_DEBUG_LEVEL": "2"}
ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    FLASH: {
        **_SPEAKING,
        "NVTE_FLASH_ATTN": "1",
        "NVTE_FLASH_ATTN_V2": "1",
        "NVTE_FLASH_ATTN_V3": "0",
        "NVTE_FLASH_ATTN_V4": "0",
        "NVTE_FUSED_ATTN": "0",
        "NVTE_UNFUSED_ATTN": "0",
    },
    FLASH_4: {
        **_SPEAKING,
        "NVTE_FLASH_ATTN": "1",
        "NVTE_FLASH_ATTN_V2": "0",
        "NVTE_FLASH_ATTN_V3": "0",
        "NVTE_FLASH_ATTN_V4": "1",
        "NVTE_FUSED_ATTN": "0",
        "NVTE_UNFUSED_ATTN": "0",
    },
    FUSED: {**_SPEAKING, "NVTE_FLASH_ATTN": "0", "NVTE_FUSED_ATTN": "1", "NVTE_UNFUSED_ATTN": "0"},
    UNFUSED: {**_SPEAKING, "NVTE_FLASH_ATTN": "0", "NVTE_FUSED_ATTN": "0", "NVTE_UNFUSED_ATTN": "1"},
}
#: The flash-attention package under each flash backend.
UNDER = {FLASH: "flash-attn", FLASH_4: "flash-attn-4"}
#: Lowest compute capability.
CAPABILITY = {FLASH: (8, 0), FLASH_4: (9, 0), FUSED: (8, 0)}


def _refuses(name: str, feature: str) -> Limit:
    return Limit(
        f"{WORDS[name]} is dropped for {feature}",
        f"no {feature}",
        SELECTION,
        asked_for(feature),
    )


def limits(name: str) -> tuple[Limit, ...]:
    """Every condition of one backend, ready to be judged. name: of the API."""
    every = (is_installed(PACKAGE), *nvidia_gpu("TransformerEngine"), heads_divide(SELECTION))
    if name == UNFUSED:
        return every
    common = (*every, capability(CAPABILITY[name], SELECTION), half_precision(SELECTION))
    if name == FUSED:
        return (
            *common,
            Limit("the head size is not supported", "a head size that cuDNN has a kernel for", SELECTION, head_size),
            Limit("a window needs at least as many keys as queries", "q_len <= kv_len", SELECTION, short_keys),
            Limit(
                "FusedAttention is dropped for a window with dropout",
                "a window without dropout",
                SELECTION,
                lambda _, call: "both asked for" if call.window and call.dropout else None,
            ),
            _refuses(name, "softcap"),
        )
    lacks = ("mask", "sinks") if name == FLASH else ("mask", "sinks", "alibi", "dropout", "softcap")
    return (
        *common,
        is_installed(UNDER[name]),
        widths(8, 256, 8, SELECTION),
        *(_refuses(name, feature) for feature in lacks),
    )


def decide(name: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable when no limit of that backend is broken. Pure. name: of the API, a key of `ENVIRONMENTS`."""
    reasons = judge(limits(name), environment, call)
    return Rejected(reasons) if reasons else Usable((name,))


def spell(name: str, ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """The arguments of constructor and forward for `ask`. Both ends of a window are inclusive."""
    flash = name in UNDER
    arguments: dict[str, Any] = {"softmax_scale": ask.scale}
    if ask.mask is not None:
        if flash:
            return _cannot("FlashAttention takes no mask tensor")
        if ask.mask.dtype.is_floating_point:
            bias = {"core_attention_bias_type": "post_scale_bias", "core_attention_bias": ask.mask}
            arguments |= {"attn_mask_type": "no_mask", **bias}
        elif name == FUSED:
            return _cannot("FusedAttention is dropped for a mask of booleans")
        else:
            arguments |= {"attn_mask_type": "arbitrary", "attention_mask": ~ask.mask}
    else:
        placed = _placed(ask.window, ask.alignment, q_len, kv_len)
        causal_top_left = placed["attn_mask_type"] == "causal" or placed.get("bottom_right_diagonal") is False
        if flash and causal_top_left and q_len != kv_len:
            return _cannot("FlashAttention has a bottom-right diagonal only")
        arguments |= placed
    if ask.softcap is not None:
        if name in (FUSED, FLASH_4):
            return _cannot(f"{WORDS[name]} is dropped for softcap")
        arguments["softcap"] = ask.softcap
    if ask.sinks is not None:
        if flash:
            return _cannot("FlashAttention is dropped for sinks")
        arguments |= {"softmax_type": "learnable", "softmax_offset": ask.sinks}
    if ask.slopes is not None:
        if name == FLASH_4:
            return _cannot("FlashAttention 4 is dropped for ALiBi")
        if ask.mask is not None:
            return _cannot("ALiBi slopes and a bias exclude each other")
        arguments |= {"core_attention_bias_type": "alibi", "alibi_slopes": ask.slopes}
    if ask.dropout:
        arguments["attention_dropout"] = ask.dropout
    if ask.deterministic:
        arguments["deterministic"] = True
    return arguments


def _placed(window: Window, alignment: Alignment, q_len: int, kv_len: int) -> dict[str, Any]:
    """Mask type and window. A side that is unbounded while the other is not must be a number: one beyond every key."""
    bottom = alignment is Alignment.BOTTOM_RIGHT and q_len != kv_len
    left, right = window.left, window.right
    if right == 0:
        kind = "causal_bottom_right" if bottom else "causal"
        return {"attn_mask_type": kind, "window_size": (-1 if left is None else left, 0)}
    if left is None and right is None:
        return {"attn_mask_type": "no_mask", "window_size": (-1, -1)}
    beyond = max(q_len, kv_len)
    size = (beyond if left is None else left, beyond if right is None else right)
    aligned = {"bottom_right_diagonal": bottom} if q_len != kv_len else {}
    return {"attn_mask_type": "no_mask", "window_size": size, **aligned}


def _cannot(text: str) -> Rejected:
    return Rejected((Reason(text, source=SELECTION),))


def load(name: str) -> Attend:
    """Import TransformerEngine and return the callable of one backend.

    (q, k, v, **arguments): arguments of the constructor and of forward of `DotProductAttention`, with `softmax_offset`,
    the sinks of `softmax_type="learnable"`, and `deterministic`. Raises RuntimeError in a process without
    `ENVIRONMENTS[name]`, what the import raises, and NotImplementedError with TransformerEngine's own reasons for a
    call that it has no backend for.
    """
    from attncheck.backends.transformer_engine_call import attend

    return attend(name, ENVIRONMENTS[name])


def _row(
    question: str,
    mask_type: str,
    size: tuple[int, int] | None,
    promise: Window | None,
    *,
    alignment: Alignment | None = None,
    source: str = DOCSTRING,
    lengths: tuple[tuple[int, int], ...] = (),
) -> Spelling:
    text = f'attn_mask_type="{mask_type}"' + ("" if size is None else f", window_size={size}")
    arguments: dict[str, Any] = {"attn_mask_type": mask_type, **({} if size is None else {"window_size": size})}
    number, pattern = numbered_pair(question, text, size)
    return Spelling(question, text, arguments, promise, alignment, source, lengths, number, pattern)


_UNEQUAL = ((32, 64), (64, 32))
_TOP, _BOTTOM = Alignment.TOP_LEFT, Alignment.BOTTOM_RIGHT

SPELLINGS = (
    _row("window", "causal", (8, 0), Window(8, 0), alignment=_TOP, lengths=((32, 64),)),
    _row("window", "causal_bottom_right", (8, 0), Window(8, 0), alignment=_BOTTOM, lengths=_UNEQUAL),
    _row("window", "causal", (8, 8), Window(8, 0), alignment=_TOP, source=REWRITTEN),
    _row("two-sided", "no_mask", (8, 3), Window(8, 3), alignment=_BOTTOM, lengths=((32, 64),)),
    _row("unbounded", "causal", (-1, 0), Window(None, 0), alignment=_TOP),
    _row("unbounded", "causal", (-1, -1), Window(None, 0), alignment=_TOP, source=REWRITTEN),
    _row("unbounded", "no_mask", (-1, -1), Window(None, None)),
    _row("unbounded", "no_mask", (-1, 0), Window(None, None), source=REWRITTEN),
    _row("causal", "causal", None, Window(None, 0), alignment=_TOP, lengths=_UNEQUAL),
    _row("causal", "causal_bottom_right", None, Window(None, 0), alignment=_BOTTOM, lengths=_UNEQUAL),
)


def _api(name: str, words: str, launches: str = "", compiles: float = 0.0) -> Api:
    loaded: Callable[[], Attend] = partial(load, name)
    return Api(
        name,
        f"transformer_engine.pytorch.DotProductAttention ({words})",
        "bshd",
        loaded,
        partial(spell, name),
        SPELLINGS,
        environment=ENVIRONMENTS[name],
        launches=launches,
        compiles=compiles,
    )


BACKEND = Backend(
    "transformer-engine",
    (),
    decide,
    (
        _api(FLASH, "FlashAttention, flash-attn 2", r"(?<!\w)flash::flash_fwd"),
        _api(FLASH_4, "FlashAttention, flash-attn 4", "flash_attncuteflash_fwd", 5.0),
        _api(FUSED, "FusedAttention", "cudnn_generated_.*sdpa"),
        _api(UNFUSED, "UnfusedDotProductAttention"),
    ),
)
