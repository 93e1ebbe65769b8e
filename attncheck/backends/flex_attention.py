"""torch's flex_attention: mask and score functions, compiled where that is wanted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from attncheck.backends.flex_functions import (
    Function,
    banded,
    hidden_beyond_eight,
    looked_up,
    lower_right,
    resolved,
    scored,
)
from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Limit, Spelling, Usable, installed, judge
from attncheck.backends.limits import no_argument, on_every_gpu
from attncheck.backends.masks import shift
from attncheck.backends.spelling import lacking
from attncheck.backends.torch_limits import TORCH_LIMITS, older
from attncheck.environment import Environment
from attncheck.semantics.observation import Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window

_MODULE = "torch.nn.attention.flex_attention"
_TRANSFORMERS = "transformers.integrations.flex_attention"
_TEMPLATE = "torch/_inductor/kernel/flex/flex_attention.py"
#: First torch with `torch.nn.attention.flex_attention`; transformers asks for the same.
OLDEST_TORCH = "2.5"
#: Cells of queries x keys from which the block mask is built by a compiled function: uncompiled, the indices of every
#: cell lie in memory at once (8 bytes each).
_LARGE = 1 << 28


def load(compiled: bool = True) -> Attend:
    """flex_attention as `attend(q, k, v, ...)`; imports torch.

    compiled: through torch.compile, as users run it; a first call takes from seconds to a minute. Shapes as in
    `sdpa.load`. mask_mod(batch, head, query, key) -> visible; score_mod(score, batch, head, query, key) -> score, both
    as torch has them, or a function of (q_len, kv_len) marked with `by_lengths` that gives one. sinks: one logit a
    query head. scale as torch has it. Raises what flex_attention and the compiler raise.
    """
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    # dynamic=False: one kernel a shape, and no guess of the compiler enters a reading.
    run = torch.compile(flex_attention, dynamic=False, fullgraph=True) if compiled else flex_attention
    seen: list[Any] = []  # the kind of the last call, and its block mask

    def blocks(mask_mod: Function, query: Any, q_len: int, kv_len: int) -> Any:
        large = compiled and q_len * kv_len > _LARGE
        create = torch.compile(create_block_mask) if large else create_block_mask
        per_batch, per_head = getattr(mask_mod, "axes", (False, False))
        rows, heads = query.shape[0] if per_batch else None, query.shape[1] if per_head else None
        return create(mask_mod, rows, heads, q_len, kv_len, device=query.device)

    def attend(
        query: Any,
        key: Any,
        value: Any,
        *,
        mask_mod: Function | None = None,
        score_mod: Function | None = None,
        sinks: Any = None,
        scale: float | None = None,
    ) -> Any:
        lengths = query.shape[-2], key.shape[-2]
        mask_mod, score_mod = resolved(mask_mod, *lengths), resolved(score_mod, *lengths)
        shapes = (query.shape, key.shape, value.shape, query.dtype, query.device)
        kind = (mask_mod, score_mod, sinks is None, scale, *shapes)
        if seen[:1] != [kind]:
            # Every new function is a new graph; past its limit of graphs the compiler would quietly stop compiling.
            torch._dynamo.reset()
            seen[:] = [kind, None if mask_mod is None else blocks(mask_mod, query, *lengths)]
        block_mask = seen[1]  # kept as users keep it: made once for all layers
        further: dict[str, Any] = {"enable_gqa": query.shape[1] != key.shape[1], "scale": scale}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if sinks is None:
                return run(query, key, value, score_mod, block_mask, **further)
            output, logsumexp = _with_logsumexp(run, query, key, value, score_mod, block_mask, **further)
        # A sink is one more logit without a value: it takes exp(sink) of the sum and leaves the rest in proportion.
        kept = torch.sigmoid(logsumexp - sinks.to(logsumexp).view(1, -1, 1))
        return (output * kept[..., None]).to(output.dtype)

    return attend


def _with_logsumexp(run: Function, *arguments: Any, **further: Any) -> tuple[Any, Any]:
    """(output, natural logarithm of the sum of exp(logits): batch x heads x queries), under either of torch's names."""
    from torch.nn.attention import flex_attention

    request = getattr(flex_attention, "AuxRequest", None)
    if request is None:
        output, logsumexp = run(*arguments, return_lse=True, **further)
        return output, logsumexp
    output, auxiliary = run(*arguments, return_aux=request(lse=True), **further)
    return output, auxiliary.lse


def spell(ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """A mask function for window, alignment and mask; a score function for softcap, slopes and additive masks.

    Tensors in `ask` must lie on the device of the call: the functions read them where they are.
    """
    if reasons := lacking(ask, "flex_attention", _MODULE, "dropout"):
        return Rejected(reasons)
    arguments: dict[str, Any] = {"scale": ask.scale} if ask.scale is not None else {}
    if ask.sinks is not None:
        arguments["sinks"] = ask.sinks
    diagonal = shift(ask.alignment, q_len, kv_len)
    additive = None
    if ask.mask is not None and str(ask.mask.dtype) == "torch.bool":
        arguments["mask_mod"] = looked_up(ask.mask)
    elif ask.mask is not None:
        additive = ask.mask
    elif ask.window != FULL:
        arguments["mask_mod"] = banded(ask.window, diagonal)
    if ask.softcap is not None or ask.slopes is not None or additive is not None:
        arguments["score_mod"] = scored(ask.softcap, ask.slopes, diagonal, additive)
    return arguments


_MASK = f"{_MODULE}.create_block_mask: mask_mod is True where attention is allowed"
_SCORE = f"{_MODULE}.flex_attention: score_mod modifies the score before softmax"
_UNEQUAL = ((32, 64), (64, 32))

SPELLINGS = (
    Spelling(
        "window",
        "mask_mod=(q >= kv) & (q - kv < 8)",
        {"mask_mod": lambda b, h, q, kv: (q >= kv) & (q - kv < 8)},
        Window(7, 0),
        source=_MASK,
        pattern="mask_mod=(q >= kv) & (q - kv < {})",
    ),
    Spelling(
        "window",
        "mask_mod=(q >= kv) & (q - kv <= 8)",
        {"mask_mod": lambda b, h, q, kv: (q >= kv) & (q - kv <= 8)},
        Window(8, 0),
        source=_MASK,
        pattern="mask_mod=(q >= kv) & (q - kv <= {})",
    ),
    Spelling(
        "window",
        "score_mod=where((q >= kv) & (q - kv < 8), score, -inf)",
        {"score_mod": hidden_beyond_eight},
        Window(7, 0),
        source=_SCORE,
        pattern="score_mod=where((q >= kv) & (q - kv < {}), score, -inf)",
    ),
    Spelling("unbounded", "block_mask=None", {}, FULL, source=_MASK),
    Spelling(
        "causal",
        "mask_mod=q >= kv",
        {"mask_mod": lambda b, h, q, kv: q >= kv},
        CAUSAL,
        Alignment.TOP_LEFT,
        _MASK,
        _UNEQUAL,
    ),
    Spelling(
        "causal",
        "mask_mod=q + kv_len - q_len >= kv",
        {"mask_mod": lower_right},
        CAUSAL,
        Alignment.BOTTOM_RIGHT,
        _MASK,
        _UNEQUAL,
    ),
    Spelling(
        "two-sided",
        "mask_mod=(q - kv).abs() <= 8",
        {"mask_mod": lambda b, h, q, kv: (q - kv).abs() <= 8},
        Window(8, 8),
        source=_MASK,
    ),
)


def _no_triton(environment: Environment, call: Call) -> str | None:
    # ROCm builds bring Triton under another name, and other systems than Linux have none of this name.
    if call.device != "cuda" or environment.torch_hip or not environment.platform.startswith("Linux"):
        return None
    return installed("triton", environment)


def _narrow(_: Environment, call: Call) -> str | None:
    sizes = [size for size in (call.head_dim, call.head_dim_v) if size is not None and size < 16]
    return ", ".join(map(str, sizes)) if sizes and call.device == "cuda" else None


def _too_old(environment: Environment, call: Call) -> str | None:
    if call.device != "cuda":
        return None
    oldest = (8, 0) if call.dtype == "bfloat16" else (7, 0)
    return on_every_gpu(environment, lambda found: found < oldest)


def _on_cpu(name: str) -> Callable[[Environment, Call], str | None]:
    return lambda _, call: "on a CPU" if getattr(call, name) and call.device == "cpu" else None


LIMITS = (
    *TORCH_LIMITS,
    Limit("this torch has no flex_attention", f"torch >= {OLDEST_TORCH}", _MODULE, older("torch", OLDEST_TORCH)),
    *no_argument("flex_attention", _MODULE, "dropout"),
    Limit(
        "transformers' flex_attention raises for sinks on a CPU", "no sinks on a CPU", _TRANSFORMERS, _on_cpu("sinks")
    ),
    Limit("flex_attention has no backward on a CPU", "no gradients on a CPU", _MODULE, _on_cpu("backward")),
    Limit("torch.compile needs Triton on a GPU", "triton installed", "package metadata", _no_triton),
    # Below 8.0 torch.compile skips functions in bfloat16, and flex_attention then runs unfused.
    Limit(
        "the GPU is too old for Triton",
        "compute capability >= 7.0, for bfloat16 >= 8.0",
        "torch/_dynamo/device_interface.py, torch/_inductor/compile_fx.py",
        _too_old,
    ),
    Limit("the compiled kernel needs wider heads", "at least 16", _TEMPLATE, _narrow),
)


def decide(_: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable from torch 2.5 on; the note says what the first compiled call costs."""
    if reasons := judge(LIMITS, environment, call):
        return Rejected(reasons)
    # Measured: 10.6 s on an H100, 58 s on two CPU cores.
    note = "the first compiled call takes from ten seconds (GPU) to a minute (CPU); uncompiled it is correct but slow"
    return Usable(("triton",) if call.device == "cuda" else ("inductor-cpu",), note)


BACKEND = Backend(
    "flex_attention",
    ("flex_attention",),
    decide,
    (
        # On a CPU the compiler takes ten seconds for each new function or shape (two cores), and has no backward.
        Api(
            "flex_attention",
            f"torch.compile({_MODULE}.flex_attention)",
            "bhsd",
            partial(load, True),
            spell,
            SPELLINGS,
            devices=("cuda",),
            dtypes=("float16", "bfloat16", "float32"),
            needs_dynamo=True,
            launches="triton_tem_fused",
            compiles=8.0,
            on_request={"cpu": 10.0},
        ),
    ),
)
