"""cuDNN's attention through the Python graph API of nvidia-cudnn-frontend: limits, words, and how to call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Limit, Spelling, Usable, judge
from attncheck.backends.limits import capability, half_precision, heads_divide, is_installed, no_argument, nvidia_gpu
from attncheck.backends.spelling import lacking
from attncheck.environment import Environment
from attncheck.semantics.convention import WINDOW
from attncheck.semantics.observation import Reason, Rejected
from attncheck.semantics.spec import Alignment, Window

NAME = "cudnn-graph"
PACKAGE = "nvidia-cudnn-frontend"

#: The documentation of the operation, as of backend 9.18.1, and the checks of the frontend's 1.32.0 headers.
DOCUMENTED = "cudnn-frontend docs/operations/Attention.md"
HEADERS = "cudnn_frontend/node/sdpa_support_surface.h (1.32.0)"
BAND = "cudnn_frontend/utils/attn_score_modifiers.h: kept where column + left_bound > row"

#: Largest head size by lowest compute capability: forward, forward of a single query, backward. From the support
#: matrix of the documentation; sizes are multiples of 8.
LARGEST_HEAD = {(8, 0): (256, 128, 128), (9, 0): (256, 256, 256), (10, 0): (256, 128, 128), (12, 0): (256, 128, 128)}
#: Pairs (q/k, value) beyond those that compute capability 10.x has kernels for: of a single query, and backward.
BLACKWELL_PAIRS = {"decode": ((192, 128),), "backward": ((192, 128), (256, 256))}


def head_size(environment: Environment, call: Call) -> str | None:
    """The head sizes as text when cuDNN has no kernel for them on the newest GPU here, else None."""
    if call.head_dim is None:
        return None
    sizes = (call.head_dim, call.head_dim_v or call.head_dim)
    words = " and ".join(str(size) for size in dict.fromkeys(sizes))
    if any(size % 8 for size in sizes):
        return words
    newest = max((gpu.capability for gpu in environment.gpus), default=(9, 0))
    row = next((row for lowest, row in reversed(LARGEST_HEAD.items()) if newest >= lowest), LARGEST_HEAD[8, 0])
    kind = "backward" if call.backward else "decode" if call.q_len == 1 else "forward"
    largest = row[("forward", "decode", "backward").index(kind)]
    if max(sizes) <= largest or (newest[0] == 10 and sizes in BLACKWELL_PAIRS.get(kind, ())):
        return None
    return f"{words} ({kind}: at most {largest})"


def short_keys(_: Environment, call: Call) -> str | None:
    """The lengths as text when a window is asked of more queries than keys, else None."""
    if not call.window or call.q_len is None or call.kv_len is None or call.q_len <= call.kv_len:
        return None
    return f"{call.q_len} queries, {call.kv_len} keys"


def _one_key(_: Environment, call: Call) -> str | None:
    return "1 query, 1 key" if call.backward and (call.q_len, call.kv_len) == (1, 1) else None


LIMITS = (
    is_installed(PACKAGE),
    *nvidia_gpu("cuDNN"),
    capability((8, 0), HEADERS),
    half_precision(DOCUMENTED),
    Limit(
        "the head size is not supported",
        "a multiple of 8, at most 256 (backward and a single query: 128 on some GPUs)",
        DOCUMENTED,
        head_size,
    ),
    heads_divide(HEADERS),
    Limit("a window needs at least as many keys as queries", "q_len <= kv_len with a window", HEADERS, short_keys),
    Limit("the backward refuses one query with one key", "more than one token", "cudnn/_sdpa_validate.py", _one_key),
    *no_argument("the operation", DOCUMENTED, "softcap"),
    Limit(
        "sinks are refused for a single query",
        "more than one query with sinks",
        HEADERS,
        lambda _, call: "1 query" if call.sinks and call.q_len == 1 else None,
    ),
)


def decide(_: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable when no limit is broken. Pure."""
    reasons = judge(LIMITS, environment, call)
    return Rejected(reasons) if reasons else Usable((NAME,))


def spell(ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """The arguments for `ask`. The left bound is exclusive and the right one inclusive; left out means unbounded."""
    if reasons := lacking(ask, "cudnn.pygraph.sdpa", DOCUMENTED, "softcap"):
        return Rejected(reasons)
    if ask.slopes is not None:
        return _cannot("use_alibi_mask takes no slopes, it computes its own")
    arguments: dict[str, Any] = {"attn_scale": ask.scale}
    if ask.mask is not None:
        arguments["bias"] = ask.mask
    else:
        left, right = ask.window.left, ask.window.right
        bottom = ask.alignment is Alignment.BOTTOM_RIGHT and q_len != kv_len
        if bottom and q_len > kv_len and (left is not None or right is not None):
            return _cannot("a bottom-right diagonal needs at least as many keys as queries")
        if left is not None or right is not None:
            arguments["diagonal_alignment"] = "BOTTOM_RIGHT" if bottom else "TOP_LEFT"
        if left is not None:
            arguments["diagonal_band_left_bound"] = left + 1
        if right is not None:
            arguments["diagonal_band_right_bound"] = right
    if ask.sinks is not None:
        arguments["sink_token"] = ask.sinks
    if ask.dropout:
        arguments["dropout"] = ask.dropout
    if ask.deterministic:
        arguments["use_deterministic_algorithm"] = True
    return arguments


def _cannot(text: str) -> Rejected:
    return Rejected((Reason(text, source=DOCUMENTED),))


def load() -> Attend:
    """Import the frontend and return the callable.

    (q, k, v, **arguments): arguments as of `cudnn.pygraph.sdpa`; `diagonal_alignment` by the name of its value, `bias`
    and `sink_token` as torch tensors (a bias of booleans is a mask, True = keep), `dropout` as a probability.
    `attn_scale` left out or None is 1/sqrt(head_dim); cuDNN's own default is 1.0. Raises what the import raises,
    NotImplementedError for what cuDNN declines.
    """
    from attncheck.backends.cudnn_graph import attend

    return attend()


def _band(alignment: str, left: int | None, right: int | None) -> dict[str, Any]:
    bounds = {"diagonal_band_left_bound": left, "diagonal_band_right_bound": right}
    return {"diagonal_alignment": alignment, **{name: value for name, value in bounds.items() if value is not None}}


_UNEQUAL = ((32, 64), (64, 32))
_SLIDING = f"{DOCUMENTED}: (pos - sliding_window_length, pos]"
_TOP, _BOTTOM = Alignment.TOP_LEFT, Alignment.BOTTOM_RIGHT

SPELLINGS = (
    Spelling(
        "window",
        "use_causal_mask=True, sliding_window_length=8",
        {"use_causal_mask": True, "sliding_window_length": 8},
        Window(7, 0),
        _TOP,
        _SLIDING,
        ((32, 64),),
        WINDOW,
        "use_causal_mask=True, sliding_window_length={}",
    ),
    Spelling(
        "window",
        "use_causal_mask_bottom_right=True, sliding_window_length=8",
        {"use_causal_mask_bottom_right": True, "sliding_window_length": 8},
        Window(7, 0),
        _BOTTOM,
        _SLIDING,
        ((32, 64),),
        WINDOW,
        "use_causal_mask_bottom_right=True, sliding_window_length={}",
    ),
    Spelling(
        "window",
        "TOP_LEFT, left_bound=8, right_bound=0",
        _band("TOP_LEFT", 8, 0),
        Window(7, 0),
        _TOP,
        BAND,
        _UNEQUAL,
        WINDOW,
        "TOP_LEFT, left_bound={}, right_bound=0",
    ),
    Spelling(
        "window",
        "BOTTOM_RIGHT, left_bound=8, right_bound=0",
        _band("BOTTOM_RIGHT", 8, 0),
        Window(7, 0),
        _BOTTOM,
        BAND,
        _UNEQUAL,
        WINDOW,
        "BOTTOM_RIGHT, left_bound={}, right_bound=0",
    ),
    Spelling(
        "window",
        "TOP_LEFT, left_bound=9, right_bound=0",
        _band("TOP_LEFT", 9, 0),
        Window(8, 0),
        _TOP,
        BAND,
        number=9,
        pattern="TOP_LEFT, left_bound={}, right_bound=0",
    ),
    Spelling(
        "window",
        "TOP_LEFT, left_bound=8",
        _band("TOP_LEFT", 8, None),
        Window(7, None),
        _TOP,
        BAND,
        number=WINDOW,
        pattern="TOP_LEFT, left_bound={}",
    ),
    Spelling(
        "two-sided", "TOP_LEFT, left_bound=9, right_bound=2", _band("TOP_LEFT", 9, 2), Window(8, 2), _TOP, BAND, ()
    ),
    Spelling(
        "two-sided",
        "BOTTOM_RIGHT, left_bound=9, right_bound=2",
        _band("BOTTOM_RIGHT", 9, 2),
        Window(8, 2),
        _BOTTOM,
        BAND,
        ((32, 64),),
    ),
    Spelling("unbounded", "no bound", {}, Window(None, None), None, DOCUMENTED, _UNEQUAL),
    Spelling("unbounded", "TOP_LEFT, right_bound=0", _band("TOP_LEFT", None, 0), Window(None, 0), _TOP, DOCUMENTED, ()),
    Spelling(
        "unbounded", "TOP_LEFT, left_bound=-1, right_bound=0", _band("TOP_LEFT", -1, 0), None, _TOP, DOCUMENTED, ()
    ),
    Spelling("causal", "use_causal_mask=True", {"use_causal_mask": True}, Window(None, 0), _TOP, DOCUMENTED, _UNEQUAL),
    Spelling(
        "causal",
        "use_causal_mask_bottom_right=True",
        {"use_causal_mask_bottom_right": True},
        Window(None, 0),
        _BOTTOM,
        DOCUMENTED,
        _UNEQUAL,
    ),
    Spelling(
        "causal", "TOP_LEFT, right_bound=0", _band("TOP_LEFT", None, 0), Window(None, 0), _TOP, DOCUMENTED, _UNEQUAL
    ),
    Spelling(
        "causal",
        "BOTTOM_RIGHT, right_bound=0",
        _band("BOTTOM_RIGHT", None, 0),
        Window(None, 0),
        _BOTTOM,
        DOCUMENTED,
        _UNEQUAL,
    ),
)

BACKEND = Backend(
    "cudnn",
    (),
    decide,
    (
        Api(
            NAME,
            "cudnn.pygraph.sdpa",
            "bshd",
            load,
            spell,
            SPELLINGS,
            launches="cudnn_generated_.*sdpa",
        ),
    ),
)
