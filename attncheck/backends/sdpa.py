"""torch's scaled_dot_product_attention: which of its kernels may serve a call."""

from __future__ import annotations

from attncheck.backends.interface import Backend, Call, Limit, Usable, installed, judge
from attncheck.environment import Environment
from attncheck.semantics.observation import Rejected

HALF = ("float16", "bfloat16")

LIMITS = (
    Limit("torch is not installed", "torch installed", "package metadata", lambda e, _: installed("torch", e)),
    Limit(
        "scaled_dot_product_attention has no softcap argument",
        "no softcap",
        "torch.nn.functional.scaled_dot_product_attention",
        lambda _, call: "softcap asked for" if call.softcap else None,
    ),
    Limit(
        "scaled_dot_product_attention has no argument for sinks",
        "no sinks",
        "torch.nn.functional.scaled_dot_product_attention",
        lambda _, call: "sinks asked for" if call.sinks else None,
    ),
)

#: What each CUDA kernel needs on top; measured on an H100 with torch 2.11 (FLASH and CUDNN refuse float32, FLASH
#: refuses any mask) and read in torch's `sdp_utils.cpp` (FLASH: head size at most 256, one head size).
KERNEL_LIMITS = {
    "flash": (
        Limit("", "float16 or bfloat16", "measured", lambda _, call: None if call.dtype in HALF else call.dtype),
        Limit("", "no mask tensor", "measured", lambda _, call: "mask" if call.mask else None),
        Limit("", "head size <= 256", "sdp_utils.cpp", lambda _, call: _above(call.head_dim, 256)),
        Limit("", "one head size for q, k, v", "sdp_utils.cpp", lambda _, call: _two_sizes(call)),
    ),
    "cudnn": (
        Limit("", "float16 or bfloat16", "measured", lambda _, call: None if call.dtype in HALF else call.dtype),
    ),
    "efficient": (),
    "math": (),
}


def _above(size: int | None, largest: int) -> str | None:
    return str(size) if size is not None and size > largest else None


def _two_sizes(call: Call) -> str | None:
    if call.head_dim_v is None or call.head_dim_v == call.head_dim:
        return None
    return f"{call.head_dim} and {call.head_dim_v}"


def decide(_: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable with the kernels left over. On a CPU torch has the fused CPU kernel ("flash") and the math one."""
    if reasons := judge(LIMITS, environment, call):
        return Rejected(reasons)
    if call.device == "cpu":
        return Usable(("flash-cpu", "math"))
    return Usable(tuple(name for name, limits in KERNEL_LIMITS.items() if not judge(limits, environment, call)))


BACKEND = Backend("sdpa", ("sdpa",), decide)
