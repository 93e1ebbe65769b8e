"""xformers: which of its operators could run a call, how it is called, and its mask classes without any operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Limit, NoOperators, Usable, judge
from attncheck.backends.limits import (
    HALF,
    Capability,
    asked_for,
    capability,
    half_precision,
    heads_divide,
    is_installed,
    no_argument,
    nvidia_gpu,
    on_every_gpu,
    one_width,
    two_widths,
    widths,
)
from attncheck.backends.spelling import lacking, rows_first
from attncheck.backends.xformers_masks import SPELLINGS, Mask, chosen
from attncheck.environment import Environment
from attncheck.semantics.observation import Reason, Rejected

PACKAGE = "xformers"
FUNCTION = "memory_efficient_attention"
_FMHA = "xformers 0.0.35 ops/fmha"
_SOURCE = f"{_FMHA}/__init__.py, {FUNCTION}"
_STAND_IN = "the mask classes of xformers, applied by plain torch: no operator of xformers runs"


def _when(name: str, source: str) -> Limit:
    """The operator does not take what that field of `Call` stands for."""
    words = {"mask": "mask classes only, no tensor"}.get(name, f"no {name}")
    return Limit(f"no {name}", words, source, asked_for(name))


def _two_widths_before_hopper(environment: Environment, call: Call) -> str | None:
    return two_widths(call) if on_every_gpu(environment, lambda found: found < (9, 0)) else None


def _bfloat16_before_ampere(environment: Environment, call: Call) -> str | None:
    if call.dtype != "bfloat16":
        return None
    cards = on_every_gpu(environment, lambda found: found < (8, 0))
    return f"bfloat16 on {cards}" if cards else None


def _flash3(highest: Capability) -> tuple[Limit, ...]:
    source = f"{_FMHA}/flash3.py"
    return (
        capability((8, 0), source, highest),
        half_precision(source),
        widths(32, 256, 8, source),
        Limit(
            "one head size before Hopper", "one head size, or compute capability 9.0", source, _two_widths_before_hopper
        ),
        Limit(
            "the backward pass needs wider heads",
            "head size at least 64",
            source,
            lambda _, call: str(call.head_dim) if call.backward and call.head_dim and call.head_dim < 64 else None,
        ),
        _when("dropout", source),
        _when("mask", source),
    )


#: Operator -> what it needs, in the order in which xformers tries them. The split-KV operators are left out: they are
#: picked for single-token decoding only.
OPERATORS: Mapping[str, tuple[Limit, ...]] = {
    "fa3": _flash3((9, 0)),
    "fa2": (
        capability((8, 0), f"{_FMHA}/flash.py"),
        half_precision(f"{_FMHA}/flash.py"),
        widths(1, 256, 8, f"{_FMHA}/flash.py"),
        one_width(f"{_FMHA}/flash.py"),
        _when("mask", f"{_FMHA}/flash.py"),
    ),
    "cutlass": (
        capability((5, 0), f"{_FMHA}/cutlass.py", (9, 0)),
        Limit(
            "bfloat16 needs Ampere",
            "compute capability 8.0 for bfloat16",
            f"{_FMHA}/common.py",
            _bfloat16_before_ampere,
        ),
        Limit(
            "the dtype is not supported",
            "float32, float16 or bfloat16",
            f"{_FMHA}/cutlass.py",
            lambda _, call: None if call.dtype in ("float32", *HALF) else call.dtype,
        ),
    ),
}

LIMITS = (
    is_installed(PACKAGE),
    *nvidia_gpu(PACKAGE),
    heads_divide(_SOURCE),
    Limit(
        "grouped kv heads have no backward pass",
        "as many kv heads as query heads, or the forward pass alone",
        f"{_SOURCE}: MQA/GQA is supported only for the forward pass",
        lambda _, call: (
            f"{call.num_heads} query heads, {call.num_kv_heads} kv heads"
            if call.backward and call.num_heads and call.num_kv_heads and call.num_heads != call.num_kv_heads
            else None
        ),
    ),
    *no_argument(PACKAGE, _SOURCE, "softcap", "sinks", "alibi"),
)
MASK_LIMITS = (
    is_installed("torch"),
    is_installed(PACKAGE),
    *no_argument(PACKAGE, _SOURCE, "softcap", "sinks", "alibi"),
)


def decide(name: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable with the operators left over, in xformers' own order. name: "xformers" or "xformers-mask".

    An installed xformers whose extension was built for another torch has none of them: only calling it shows that.
    """
    if name == "xformers-mask":
        reasons = judge(MASK_LIMITS, environment, call)
        return Rejected(reasons) if reasons else Usable(("torch matmul-softmax",), _STAND_IN)
    if reasons := judge(LIMITS, environment, call):
        return Rejected(reasons)
    broken = {operator: judge(limits, environment, call) for operator, limits in OPERATORS.items()}
    left = tuple(operator for operator, reasons in broken.items() if not reasons)
    if left:
        return Usable(left, "whether its extension fits this torch shows at the first call")
    return Rejected(
        tuple(
            Reason(f"operator {operator}: {reason.text}", reason.limit, reason.actual, reason.source)
            for operator, reasons in broken.items()
            for reason in reasons
        )
    )


def spell(ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """attn_bias, and scale and p where `Ask` sets them. attn_bias: a `Mask`, the mask tensor as it is, or None."""
    if reasons := lacking(ask, FUNCTION, _SOURCE, "softcap", "sinks", "slopes"):
        return Rejected(reasons)
    bias = ask.mask if ask.mask is not None else chosen(ask, q_len, kv_len)
    if isinstance(bias, Rejected):
        return bias
    arguments: dict[str, Any] = {"attn_bias": bias}
    if ask.scale is not None:
        arguments["scale"] = ask.scale
    if ask.dropout:
        arguments["p"] = ask.dropout
    return arguments


def load() -> Attend:
    """`xformers.ops.memory_efficient_attention` over batch x heads x tokens x width tensors.

    Grouped kv heads go in as batch x tokens x groups x heads of a group x width with the keys expanded, as documented;
    block-diagonal masks get all batch rows in one. Raises `NoOperators` where its own extension could not be loaded.
    """
    _require_operators()
    from xformers.ops import memory_efficient_attention

    def attend(q: Any, k: Any, v: Any, attn_bias: Any = None, **arguments: Any) -> Any:
        batch, heads, q_len, _ = q.shape
        kv_heads, kv_len = k.shape[1:3]
        query, key, value = (rows_first(tensor) for tensor in (q, k, v))
        if isinstance(attn_bias, Mask):
            bias = attn_bias.build(batch, q_len, kv_len, q.device)
            if attn_bias.in_blocks:
                query, key, value = (tensor.reshape(1, -1, *tensor.shape[2:]) for tensor in (query, key, value))
        else:
            bias = None if attn_bias is None else _additive(attn_bias, q, kv_len)
        if heads != kv_heads:
            group = heads // kv_heads
            query = query.unflatten(2, (kv_heads, group))
            key, value = (tensor.unsqueeze(3).expand(-1, -1, -1, group, -1) for tensor in (key, value))
            bias = bias if bias is None or isinstance(attn_bias, Mask) else bias.unflatten(1, (kv_heads, group))
        out = memory_efficient_attention(query, key, value, attn_bias=bias, **arguments)
        return rows_first(out.reshape(batch, q_len, heads, v.shape[-1]))

    return attend


def _require_operators() -> None:
    """Raise `NoOperators` when xformers says that its extension is missing or was built for another torch.

    It then imports with a warning, and refuses every call on a GPU: "xFormers wasn't build with CUDA support" (0.0.35
    ops/fmha/common.py), also those that flash-attn or torch could serve.
    """
    import torch
    import xformers

    failure = getattr(getattr(xformers, "_cpp_lib", None), "_cpp_library_load_exception", None)
    if failure is None:
        return
    build = getattr(failure, "build_info", None)
    why = f"built for torch {build.torch_version}" if build is not None else "it was built without its extension"
    text = f"imports, but none of its operators can be used: {why}, here torch {torch.__version__}"
    raise NoOperators(text) from failure


def _additive(mask: Any, q: Any, kv_len: int) -> Any:
    """The mask as batch x heads x queries x keys in the type of q, -inf where a bool mask hides.

    xformers does not broadcast, and wants rows that start at multiples of 16 bytes: they are cut from wider ones.
    """
    import torch

    batch, heads, q_len, _ = q.shape
    wide = q.new_zeros(batch, heads, q_len, -(-kv_len // 8) * 8)
    bias = wide[..., :kv_len]
    if mask.dtype == torch.bool:
        bias.masked_fill_(~mask.to(q.device), float("-inf"))
    else:
        bias.copy_(mask.to(q))
    return bias


def load_mask() -> Attend:
    """The mask class materialised by xformers itself, applied by plain torch in float32: no operator runs.

    Rows without a visible key give 0 here; what an operator makes of them this cannot tell.
    """
    import torch
    import xformers.ops.fmha.attn_bias  # noqa: F401  # its absence is this API's absence

    def attend(q: Any, k: Any, v: Any, attn_bias: Any = None, scale: float | None = None, p: float = 0.0) -> Any:
        batch, heads, q_len, width = q.shape
        group, kv_len = heads // k.shape[1], k.shape[2]
        query = q.float()
        key, value = (tensor.repeat_interleave(group, dim=1).float() for tensor in (k, v))
        bias: Any = 0.0
        if isinstance(attn_bias, Mask):
            if attn_bias.in_blocks:
                query, key, value = (_in_one_row(tensor) for tensor in (query, key, value))
            built = attn_bias.build(batch, q_len, kv_len, q.device)
            bias = built.materialize((query.shape[2], key.shape[2]), dtype=torch.float32, device=q.device)
        elif attn_bias is not None:
            bias = _additive(attn_bias, q, kv_len).float()
        scores = query @ key.transpose(-1, -2) * (width**-0.5 if scale is None else scale) + bias
        empty = (scores == -torch.inf).all(-1, keepdim=True)
        weights = scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)
        out = torch.nn.functional.dropout(weights, p) @ value
        return rows_first(rows_first(out).reshape(batch, q_len, heads, v.shape[-1])).to(q.dtype)

    return attend


def _in_one_row(tensor: Any) -> Any:
    """Batch x heads x tokens x width -> 1 x heads x (batch * tokens) x width."""
    flat = rows_first(tensor)
    return rows_first(flat.reshape(1, -1, *flat.shape[2:]))


BACKEND = Backend(
    PACKAGE,
    (),
    decide,
    (
        Api(
            "xformers",
            f"xformers.ops.{FUNCTION}",
            "bshd",
            load,
            spell,
            SPELLINGS,
            dtypes=("float32", "float16", "bfloat16"),
        ),
        Api(
            "xformers-mask",
            "xformers.ops.fmha.attn_bias, materialised: no operator runs",
            "bhsd",
            load_mask,
            spell,
            SPELLINGS,
            devices=("cpu", "cuda"),
            dtypes=("float32", "float16", "bfloat16"),
            stand_in=_STAND_IN,
        ),
    ),
)
