"""Conditions that several kernel libraries share, ready to be put into a list of limits."""

from __future__ import annotations

from collections.abc import Callable

from attncheck.backends.interface import Call, Limit, installed
from attncheck.environment import Environment

HALF = ("float16", "bfloat16")

Capability = tuple[int, int]
#: What breaks a limit, as text; None when nothing does.
Broken = Callable[[Environment, Call], str | None]


def is_installed(distribution: str) -> Limit:
    """The distribution is there."""
    return Limit(
        f"{distribution} is not installed",
        f"{distribution} installed",
        "package metadata",
        lambda environment, _: installed(distribution, environment),
    )


def nvidia_gpu(library: str, *, rocm: bool = False) -> tuple[Limit, ...]:
    """There is torch and an NVIDIA GPU, the call runs on it, and torch is built for it. rocm: as of `on_gpu`.

    For libraries that are called with torch's tensors. On a machine without a GPU nothing is said of torch's build.
    """

    def broken(environment: Environment, call: Call) -> str | None:
        if not environment.gpus or call.device == "cpu":
            return None
        return torch_without_gpus(environment, rocm=rocm)

    usable = Limit("torch cannot use a GPU here", "a GPU, and torch built for it", "torch/version.py", broken)
    return is_installed("torch"), on_gpu(library, rocm=rocm), usable


def torch_without_gpus(environment: Environment, *, rocm: bool) -> str | None:
    """The build of torch as text when it cannot use such GPUs, else None. rocm: one for AMD cards will do."""
    if environment.torch_hip:
        return None if rocm else f"torch is built for ROCm {environment.torch_hip}"
    return "torch is built for CPU only" if environment.torch_cuda == "" else None


def on_gpu(library: str, *, rocm: bool = False) -> Limit:
    """There is an NVIDIA GPU and the call runs on it; with `rocm` a ROCm build of torch will do, whose cards NVML
    does not list.
    """

    def broken(environment: Environment, call: Call) -> str | None:
        if environment.gpus:
            return "a call on the CPU" if call.device == "cpu" else None
        return no_gpu(environment, rocm=rocm)

    text = f"{library} runs on {'GPUs' if rocm else 'NVIDIA GPUs'} only"
    return Limit(text, "a visible CUDA GPU", "NVML", broken)


def no_gpu(environment: Environment, *, rocm: bool) -> str | None:
    """Why there is no card. rocm: a ROCm build of torch will do, whose cards NVML does not list."""
    if environment.gpus or (rocm and environment.torch_hip):
        return None
    return environment.gpu_note or "no GPU"


def on_every_gpu(environment: Environment, wrong: Callable[[Capability], bool]) -> str | None:
    """The GPUs as text when every one is wrong, else None: a process may pick the right one."""
    if not environment.gpus or not all(wrong(gpu.capability) for gpu in environment.gpus):
        return None
    return ", ".join(f"{gpu.name} {written(gpu.capability)}" for gpu in environment.gpus)


def capability(lowest: Capability, source: str, highest: Capability | None = None) -> Limit:
    """Compute capability at least `lowest` and at most `highest`, both inclusive; None: the library states no end."""
    bounds = f"{written(lowest)} or newer" if highest is None else f"{written(lowest)} to {written(highest)}"

    def wrong(found: Capability) -> bool:
        return found < lowest or (highest is not None and found > highest)

    return Limit(
        "the GPU is of the wrong generation",
        f"compute capability {bounds}",
        source,
        lambda environment, _: on_every_gpu(environment, wrong),
    )


def half_precision(source: str) -> Limit:
    """The call is in float16 or bfloat16."""
    return Limit(
        "only half precision is supported",
        " or ".join(HALF),
        source,
        lambda _, call: None if call.dtype in HALF else call.dtype,
    )


def widths(smallest: int, largest: int, multiple: int, source: str) -> Limit:
    """head_dim and head_dim_v lie between `smallest` and `largest`, inclusive, and are multiples of `multiple`."""
    words = [f"a multiple of {multiple}"] * (multiple > 1) + [f"at least {smallest}"] * (smallest > multiple)

    def broken(_: Environment, call: Call) -> str | None:
        sizes = [size for size in (call.head_dim, call.head_dim_v) if size is not None]
        wrong = [size for size in sizes if not smallest <= size <= largest or size % multiple]
        return ", ".join(map(str, wrong)) or None

    return Limit("the head size is not supported", ", ".join([*words, f"at most {largest}"]), source, broken)


def two_widths(call: Call) -> str | None:
    """Both sizes as text when the value width differs from the q/k width, else None."""
    if call.head_dim_v is None or call.head_dim is None or call.head_dim_v == call.head_dim:
        return None
    return f"{call.head_dim} and {call.head_dim_v}"


def one_width(source: str) -> Limit:
    """The value width is the q/k width."""
    return Limit("q, k and v must have one head size", "one head size", source, lambda _, call: two_widths(call))


def heads_divide(source: str) -> Limit:
    """The query heads can share the kv heads evenly."""

    def broken(_: Environment, call: Call) -> str | None:
        if not call.num_heads or not call.num_kv_heads or call.num_heads % call.num_kv_heads == 0:
            return None
        return f"{call.num_heads} query heads, {call.num_kv_heads} kv heads"

    return Limit("the kv heads must divide the query heads", "query heads a multiple of kv heads", source, broken)


def no_argument(library: str, source: str, *names: str) -> tuple[Limit, ...]:
    """One limit for each field of `Call` among `names` that the library has no argument for."""

    def missing(name: str) -> Limit:
        return Limit(
            f"{library} has no argument for {name}",
            f"no {name}",
            source,
            asked_for(name),
        )

    return tuple(missing(name) for name in names)


def asked_for(name: str) -> Broken:
    """Broken by a call with that field of `Call`."""
    return lambda _, call: f"{name} asked for" if getattr(call, name) else None


def softcap_without_dropout(source: str) -> Limit:
    """Softcap and dropout are not asked for together."""
    return Limit(
        "softcap and dropout exclude each other",
        "softcap without dropout",
        source,
        lambda _, call: "both asked for" if call.softcap and call.dropout else None,
    )


def written(found: Capability) -> str:
    """(9, 0) -> "9.0"."""
    return f"{found[0]}.{found[1]}"
