"""The flash-attention packages 2, 3 and 4: what each needs, as data."""

from __future__ import annotations

from dataclasses import dataclass

from attncheck.backends.interface import Backend, Call, Limit, Usable, installed, judge
from attncheck.environment import Environment
from attncheck.semantics.observation import Rejected

HALF = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Generation:
    """The limits of one generation.

    capability: lowest and highest compute capability, inclusive. lacks: fields of `Call` that it has no argument for.
    """

    distribution: str
    capability: tuple[tuple[int, int], tuple[int, int]]
    largest_head: int
    one_head_size: bool
    lacks: tuple[str, ...]
    source: str


#: Read in the packages' own checks: 2.8.3 `flash_api.cpp` (sm80 and newer, head size <= 256), `hopper/flash_api.cpp`
#: (sm80 to sm90, value heads may be wider), 4.0.0b36 `cute/interface.py` (8.x to 12.x; sm90 heads up to 256).
GENERATIONS = {
    "flash_attention_2": Generation(
        "flash-attn", ((8, 0), (12, 9)), 256, True, ("mask", "sinks"), "flash_attn 2.8.3 flash_api.cpp"
    ),
    "flash_attention_3": Generation(
        "flash-attn-3", ((8, 0), (9, 0)), 256, False, ("mask", "sinks", "alibi", "dropout"), "hopper/flash_api.cpp"
    ),
    "flash_attention_4": Generation(
        "flash-attn-4", ((8, 0), (12, 9)), 256, False, ("mask", "alibi", "dropout"), "flash_attn/cute/interface.py"
    ),
}


def limits(generation: Generation) -> tuple[Limit, ...]:
    """Every condition of one generation, ready to be judged."""
    lowest, highest = generation.capability
    package, source = generation.distribution, generation.source

    def capability(environment: Environment, _: Call) -> str | None:
        outside = [gpu for gpu in environment.gpus if not lowest <= gpu.capability <= highest]
        if not outside or len(outside) < len(environment.gpus):
            return None
        return ", ".join(f"{gpu.name} {gpu.capability[0]}.{gpu.capability[1]}" for gpu in outside)

    def head_size(_: Environment, call: Call) -> str | None:
        sizes = [size for size in (call.head_dim, call.head_dim_v) if size is not None]
        wrong = [size for size in sizes if size > generation.largest_head or size % 8]
        return ", ".join(map(str, wrong)) or None

    def two_sizes(_: Environment, call: Call) -> str | None:
        if not generation.one_head_size or call.head_dim_v is None or call.head_dim_v == call.head_dim:
            return None
        return f"{call.head_dim} and {call.head_dim_v}"

    def feature(name: str) -> Limit:
        return Limit(
            f"{package} has no argument for {name}",
            f"no {name}",
            source,
            lambda _, call: f"{name} asked for" if getattr(call, name) else None,
        )

    bounds = f"compute capability {lowest[0]}.{lowest[1]} to {highest[0]}.{highest[1]}"
    return (
        Limit(
            f"{package} is not installed",
            f"{package} installed",
            "package metadata",
            lambda e, _: installed(package, e),
        ),
        Limit(
            f"{package} runs on NVIDIA GPUs only",
            "a visible CUDA GPU",
            "NVML",
            lambda e, _: None if e.gpus else e.gpu_note or "no GPU",
        ),
        Limit("the GPU is of the wrong generation", bounds, source, capability),
        Limit(
            "only half precision is supported",
            " or ".join(HALF),
            source,
            lambda _, call: None if call.dtype in HALF else call.dtype,
        ),
        Limit(
            "the head size is not supported", f"a multiple of 8, at most {generation.largest_head}", source, head_size
        ),
        Limit("q, k and v must have one head size", "one head size", source, two_sizes),
        Limit(
            "softcap and dropout exclude each other",
            "softcap without dropout",
            source,
            lambda _, call: "both asked for" if call.softcap and call.dropout else None,
        ),
        *(feature(name) for name in generation.lacks),
    )


def decide(implementation: str, environment: Environment, call: Call) -> Usable | Rejected:
    """Usable when no limit of that generation is broken. implementation: a key of `GENERATIONS`."""
    generation = GENERATIONS[implementation]
    reasons = judge(limits(generation), environment, call)
    return Rejected(reasons) if reasons else Usable((generation.distribution,))


BACKEND = Backend("flash-attn", tuple(GENERATIONS), decide)
