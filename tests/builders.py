"""Pieces of reports for tests: environments, masks, layers, cells. Small, and the same every time."""

from __future__ import annotations

from attncheck.environment import Environment, Gpu, Library
from attncheck.findings import Setting
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import CAUSAL, AttentionSpec, MaskSpec, Part, SoftmaxSpec, Window
from attncheck.verdicts import Cell, Verdict

CORE = ("plain", "left-pad", "right-pad", "decode", "chunked-prefill")
OPT_IN = ("custom-mask", "gradients", "output-attentions", "packed", "packed-batch", "static-cache")

ENVIRONMENT = Environment(
    python="3.11.7",
    platform="Linux x86_64",
    libraries=(
        Library("torch", "2.13.0+cpu", "built for CPU only"),
        Library("transformers", "5.23.0"),
        Library("flash-attn", None),
        Library("xformers", None),
    ),
    gpu_note="no NVIDIA driver: NVML Shared Library Not Found",
    torch_cuda="",
    sources={"libraries": "package metadata"},
)

GPU_ENVIRONMENT = Environment(
    python="3.12.4",
    platform="Linux x86_64",
    libraries=(
        Library("torch", "2.13.0+cu130", "built for CUDA 13.0"),
        Library("transformers", "5.23.0"),
        Library("flash-attn", "2.8.3"),
    ),
    gpus=(Gpu(0, "NVIDIA H100 80GB HBM3", (9, 0), 85_520_809_984, "580.65.06"),),
    driver="580.65.06 (CUDA 13.0)",
    variables={"CUDA_VISIBLE_DEVICES": "0"},
    torch_cuda="13.0",
    sources={"libraries": "package metadata", "gpus": "NVML (nvidia-ml-py)"},
)


def causal(tokens: int, window: int | None = None) -> KeepMask:
    """The causal mask of `tokens` tokens; window counts keys, the query's own included."""
    return KeepMask.from_rule(tokens, tokens, lambda i, j: j <= i and (window is None or i - j < window))


def packed(*lengths: int) -> KeepMask:
    """The causal mask of several documents one after another."""
    document = [number for number, length in enumerate(lengths) for _ in range(length)]
    return KeepMask.from_rule(len(document), len(document), lambda i, j: j <= i and document[i] == document[j])


def spec(layer: int = 0, part: Part = Part.DECODER, window: Window = CAUSAL, **softmax: float) -> AttentionSpec:
    """A layer with 32 heads on 8 kv heads of 128."""
    terms = SoftmaxSpec(**{"scale": 128**-0.5, **softmax})  # type: ignore[arg-type]
    return AttentionSpec(part, layer, mask=MaskSpec(window), softmax=terms, num_heads=32, num_kv_heads=8, head_dim=128)


def setting(implementation: str) -> Setting:
    """The transformers setting that selects an implementation."""
    paste = f'AutoModelForCausalLM.from_pretrained(model_id, attn_implementation="{implementation}")'
    return Setting("transformers", "attn_implementation", implementation, paste)


def cells(
    implementation: str, basis: Basis, wrong: dict[str, str], skipped: dict[str, str] | None = None
) -> tuple[Cell, ...]:
    """One cell a scenario: wrong maps scenario to slug, skipped maps scenario to the reason it did not run."""
    found = []
    for scenario in (*CORE, *OPT_IN):
        if skipped and scenario in skipped:
            found.append(
                Cell(implementation, scenario, "", Part.DECODER, (0,), Verdict.NOT_RUN, None, reason=skipped[scenario])
            )
            continue
        verdict = Verdict.MISMATCH if scenario in wrong else Verdict.OK
        found.append(
            Cell(implementation, scenario, "", Part.DECODER, (0,), verdict, basis, difference=wrong.get(scenario))
        )
    return tuple(found)
