"""What each kernel below scaled_dot_product_attention needs, as data."""

from __future__ import annotations

from collections.abc import Mapping

from packaging.version import Version

from attncheck.backends.interface import Call, Limit
from attncheck.backends.limits import HALF, capability, half_precision, no_argument, one_width
from attncheck.backends.torch_limits import newest_capability, release
from attncheck.environment import Environment

_SDPA = "torch.nn.functional.scaled_dot_product_attention"
#: torch's own gates, read at 2.11 and later: `can_use_flash_attention`, `can_use_mem_efficient_attention`,
#: `can_use_cudnn_attention`.
_GATES = "torch aten/src/ATen/native/transformers/cuda/sdp_utils.cpp"
_CPU_GATES = "torch aten/src/ATen/native/transformers/sdp_utils_cpp.cpp; run with torch 2.13"
_MEASURED = "measured on an H100 with torch 2.11"

#: What no kernel takes, because the function has no argument for it.
SDPA_LIMITS = no_argument("scaled_dot_product_attention", _SDPA, "softcap", "sinks")


def _needs_mask(_: Environment, call: Call) -> str | None:
    """What in this call can only be handed over as a mask tensor."""
    found = [word for word, wanted in (("mask", call.mask), ("window", call.window), ("alibi", call.alibi)) if wanted]
    return ", ".join(found) or None


def _unequal_causal(_: Environment, call: Call) -> str | None:
    if not call.causal or call.mask or None in (call.q_len, call.kv_len) or call.q_len == call.kv_len:
        return None
    return f"{call.q_len} queries, {call.kv_len} keys"


def _above(call: Call, largest: int) -> str | None:
    return ", ".join(str(size) for size in _head_sizes(call) if size > largest) or None


def _not_multiple(call: Call, divisor: int) -> str | None:
    return ", ".join(str(size) for size in _head_sizes(call) if size % divisor) or None


def _head_sizes(call: Call) -> tuple[int, ...]:
    return tuple(dict.fromkeys(size for size in (call.head_dim, call.head_dim_v) if size is not None))


def _flash_too_wide(environment: Environment, call: Call) -> str | None:
    # ROCm's FLASH is AOTriton, which goes to 512 from its version 0.9 on.
    return _above(call, 512 if environment.torch_hip else 256)


def _flash_backward(environment: Environment, call: Call) -> str | None:
    """Head sizes whose backward needs more shared memory than consumer cards have."""
    gpu = newest_capability(environment)
    small = gpu is not None and ((8, 6) <= gpu <= (8, 9) or (12, 0) <= gpu <= (12, 1))
    if not call.backward or not small or call.head_dim is None or call.head_dim <= 192:
        return None
    return str(call.head_dim) if call.head_dim <= 224 or call.dropout else None


def _efficient_dtype(environment: Environment, call: Call) -> str | None:
    gpu = newest_capability(environment)
    old = gpu is not None and gpu < (8, 0)
    known = ("float16", "float32") if old else ("float16", "bfloat16", "float32")
    return None if call.dtype in known else call.dtype


def _efficient_head_size(environment: Environment, call: Call) -> str | None:
    gpu = newest_capability(environment)
    if call.dtype == "float32":
        return _not_multiple(call, 4) if gpu is None or gpu >= (8, 0) else None
    return _not_multiple(call, 8)


def _grouped(environment: Environment, call: Call) -> str | None:
    if call.num_heads is None or call.num_kv_heads is None or call.num_heads == call.num_kv_heads:
        return None
    version = release(environment.version("torch"))
    # Pull request pytorch#191085 taught it grouped heads in the summer of 2026, after the branch of 2.13.
    if version is not None and version >= Version("2.14"):
        return None
    return f"{call.num_heads} query heads, {call.num_kv_heads} kv heads"


def cudnn_version(environment: Environment) -> Version | None:
    """Version of the cuDNN that torch's wheel brings (nvidia-cudnn-cu12 or -cu13), None where none is recorded."""
    return release(environment.version("nvidia-cudnn-cu13") or environment.version("nvidia-cudnn-cu12"))


def _cudnn_too_wide(environment: Environment, call: Call) -> str | None:
    """The gate changed with torch's releases; where two of them differ the wider one counts."""
    return _above(call, _cudnn_widest(newest_capability(environment), cudnn_version(environment), call))


def _cudnn_widest(gpu: tuple[int, int] | None, version: Version | None, call: Call) -> int:
    if gpu is None or version is None:
        return 256
    if gpu == (9, 0):
        return 256 if version >= Version("9.10") else 128
    if gpu[0] == 10 and version > Version("9.22"):
        return 256
    deepseek = (call.head_dim, call.head_dim_v) == (192, 128)
    return 192 if gpu[0] == 10 and version >= Version("9.11") and deepseek else 128


def _cudnn_too_old(environment: Environment, _: Call) -> str | None:
    version = cudnn_version(environment)
    return f"cuDNN {version}" if version is not None and version < Version("9.0") else None


def _cudnn_dropout(environment: Environment, call: Call) -> str | None:
    version = cudnn_version(environment)
    if not call.dropout:
        return None
    if version is not None and Version("9.11") < version < Version("9.14"):
        return f"dropout with cuDNN {version}"
    return "dropout with one query" if call.q_len == 1 else None


_AMPERE_ON = capability((8, 0), _GATES, (12, 1))

#: By kernel, for calls on a GPU. FLASH comes first and math last, the order in which torch tries them (cuDNN moves to
#: the front on compute capability 9.x and 10.x from cuDNN 9.15.1 on).
CUDA_LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "flash": (
        _AMPERE_ON,
        half_precision(_MEASURED),
        Limit("FLASH refuses every attn_mask", "no mask tensor", _MEASURED, _needs_mask),
        Limit("FLASH refuses is_causal when the lengths differ", "q_len = kv_len", _MEASURED, _unequal_causal),
        Limit("the head size is not supported", "at most 256 (512 on ROCm)", _GATES, _flash_too_wide),
        one_width(_GATES),
        Limit(
            "FLASH cannot train this head size on compute capability 8.6 to 8.9 and 12.x",
            "at most 192, or 225 to 256 without dropout",
            _GATES,
            _flash_backward,
        ),
    ),
    "cudnn": (
        Limit(
            "torch is built without cuDNN attention",
            "a CUDA build of torch",
            _GATES,
            lambda environment, _: f"ROCm {environment.torch_hip}" if environment.torch_hip else None,
        ),
        _AMPERE_ON,
        half_precision(_MEASURED),
        Limit("cuDNN is too old for attention", "cuDNN >= 9.0", _GATES, _cudnn_too_old),
        Limit("the head size is not supported", "a multiple of 8", _GATES, lambda _, call: _not_multiple(call, 8)),
        Limit(
            "the head size is not supported",
            "at most 128; 256 on compute capability 9.0 (cuDNN >= 9.10) and 10.x (cuDNN > 9.22)",
            _GATES,
            _cudnn_too_wide,
        ),
        Limit(
            "CUDNN refuses a single key", "kv_len > 1", _GATES, lambda _, call: "1 key" if call.kv_len == 1 else None
        ),
        Limit("CUDNN cannot drop out here", "cuDNN outside 9.11 to 9.13, more than one query", _GATES, _cudnn_dropout),
    ),
    "efficient": (
        capability((5, 0), _GATES, (12, 1)),
        Limit(
            "EFFICIENT does not take this dtype",
            "float16, float32, and bfloat16 from compute capability 8.0 on",
            _GATES,
            _efficient_dtype,
        ),
        Limit("the head size is not supported", "a multiple of 8, of 4 in float32", _GATES, _efficient_head_size),
        Limit("EFFICIENT has no grouped heads before torch 2.14", "num_kv_heads = num_heads", _GATES, _grouped),
    ),
    "math": (),
}


def _cuda_only(kernel: str) -> tuple[Limit, ...]:
    return (Limit(f"{kernel} has no CPU version", "a GPU", _CPU_GATES, lambda _, call: call.device),)


#: By kernel, for calls on a CPU; "flash" is torch's fused CPU kernel, which takes masks and unequal lengths.
CPU_LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "flash": (
        Limit(
            "the fused CPU kernel does not take this dtype",
            "a floating dtype",
            _CPU_GATES,
            lambda _, call: None if call.dtype in (*HALF, "float32", "float64") else call.dtype,
        ),
        *no_argument("the fused CPU kernel", _CPU_GATES, "dropout"),
        one_width(_CPU_GATES),
    ),
    "cudnn": _cuda_only("CUDNN"),
    "efficient": _cuda_only("EFFICIENT"),
    "math": (),
}
