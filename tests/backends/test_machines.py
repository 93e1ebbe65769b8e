"""Every kernel API on every stored machine with every library: the verdict and, where it is no, each reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from attncheck.backends.interface import Call, apis
from tests.backends.deciding import decided
from tests.backends.environments import ENVIRONMENTS, H100, KERNEL_LIBRARIES, SOFTWARE, with_libraries

RECORDED = Path(__file__).parents[1] / "gpu" / "recorded" / "doctor.json"

#: The call of most language models on a GPU.
GPU = Call("cuda", "bfloat16", head_dim=64)

Found = tuple[str, ...] | list[tuple[str, str]]
FROM_AMPERE = ("H100", "A100", "L4", "B200", "RTX 5090")
NVIDIA = ("T4", *FROM_AMPERE)

NO_DRIVER = "no NVIDIA driver: NVML Shared Library Not Found"
NO_TORCH = [("torch installed", "not installed")]
NO_GPU = [("a visible CUDA GPU", NO_DRIVER)]
UNUSED_GPU = "a GPU, and torch built for it"
CPU_BUILD = [(UNUSED_GPU, "torch is built for CPU only")]
TURING, LOVELACE = "Tesla T4 7.5", "NVIDIA L4 8.9"
TOO_OLD = [("compute capability 8.0 or newer", TURING)]
TOO_OLD_FOR_TORCH = [("compute capability 8.0 to 12.1", TURING)]

#: What no attention of torch runs on, and what no library beside it runs on.
BARE: dict[str, Found] = {
    "CPU": CPU_BUILD,
    "no torch": [*NO_TORCH, (UNUSED_GPU, NO_DRIVER)],
    "H100, torch for CPU": CPU_BUILD,
    "H100, no torch": NO_TORCH,
}
BARE_BESIDE: dict[str, Found] = {**BARE, "MI300": NO_GPU, "CPU": NO_GPU, "no torch": [*NO_TORCH, *NO_GPU]}


def torchs(kernels: Found, machines: Sequence[str], **others: Found) -> dict[str, Found]:
    """Verdicts of an attention of torch: these kernels on those machines and an AMD card."""
    return {**BARE, **dict.fromkeys((*machines, "MI300"), kernels), **others}


def beside(kernels: Found, machines: Sequence[str], **others: Found) -> dict[str, Found]:
    """Verdicts of a library beside torch that has none for AMD cards."""
    return {**BARE_BESIDE, **dict.fromkeys(machines, kernels), **others}


FLASH_2 = beside(("flash-attn",), FROM_AMPERE, T4=TOO_OLD, MI300=("flash-attn",))
FLASH_4 = beside(("flash-attn-4",), FROM_AMPERE, T4=[("compute capability 8.0 to 12.9", TURING)])

#: Name -> machine -> kernels left, or the (limit, actual) of every reason against it. For `GPU`.
EXPECTED: dict[str, dict[str, Found]] = {
    "eager": torchs(("matmul-softmax",), NVIDIA),
    "sdpa": torchs(("flash", "cudnn", "efficient", "math"), FROM_AMPERE, T4=("math",))
    | {"MI300": ("flash", "efficient", "math")},
    "sdpa-math": torchs(("math",), NVIDIA),
    "sdpa-flash": torchs(("flash",), FROM_AMPERE, T4=TOO_OLD_FOR_TORCH),
    "sdpa-efficient": torchs(
        ("efficient",), FROM_AMPERE, T4=[("float16, float32, and bfloat16 from compute capability 8.0 on", "bfloat16")]
    ),
    "sdpa-cudnn": torchs(("cudnn",), FROM_AMPERE, T4=TOO_OLD_FOR_TORCH)
    | {"MI300": [("a CUDA build of torch", "ROCm 7.2.26015")]},
    "flex_attention": torchs(("triton",), FROM_AMPERE, T4=[("compute capability >= 7.0, for bfloat16 >= 8.0", TURING)])
    | {name: [*BARE[name], ("triton installed", "not installed")] for name in ("CPU", "no torch")},
    "varlen_attn": torchs(("flash",), FROM_AMPERE, T4=TOO_OLD_FOR_TORCH)
    | {name: [*BARE[name], *NO_GPU] for name in ("CPU", "no torch")},
    "flash-attn-2": FLASH_2,
    "flash-attn-2-varlen": FLASH_2,
    "flash-attn-3": beside(("flash-attn-3",), ("H100", "A100", "L4"))
    | {
        card: [("compute capability 8.0 to 9.0", name)]
        for card, name in (("T4", TURING), ("B200", "NVIDIA B200 10.0"), ("RTX 5090", "NVIDIA GeForce RTX 5090 12.0"))
    },
    "flash-attn-4": FLASH_4,
    "flash-attn-4-varlen": FLASH_4,
    "flashinfer": beside(("flashinfer-python",), NVIDIA),
    "cudnn-graph": beside(("cudnn-graph",), FROM_AMPERE, T4=TOO_OLD),
    "te-flash": beside(("te-flash",), FROM_AMPERE, T4=TOO_OLD),
    "te-flash-4": beside(("te-flash-4",), ("H100", "B200", "RTX 5090"))
    | {
        card: [("compute capability 9.0 or newer", name)]
        for card, name in (("T4", TURING), ("A100", "NVIDIA A100-SXM4-80GB 8.0"), ("L4", LOVELACE))
    },
    "te-fused": beside(("te-fused",), FROM_AMPERE, T4=TOO_OLD),
    "te-unfused": beside(("te-unfused",), NVIDIA),
    "xformers": beside(("fa3", "fa2", "cutlass"), ("H100", "A100", "L4"), B200=("fa2",))
    | {
        "RTX 5090": ("fa2",),
        "T4": [
            ("compute capability 8.0 to 9.0", TURING),
            ("compute capability 8.0 or newer", TURING),
            ("compute capability 8.0 for bfloat16", f"bfloat16 on {TURING}"),
        ],
    },
    # Its mask class alone: runs wherever torch does.
    "xformers-mask": dict.fromkeys(ENVIRONMENTS, ("torch matmul-softmax",))
    | dict.fromkeys(("no torch", "H100, no torch"), NO_TORCH),
}


def test_every_api_is_expected() -> None:
    assert EXPECTED.keys() == {*apis(), "eager", "sdpa"}
    assert all(verdicts.keys() == ENVIRONMENTS.keys() for verdicts in EXPECTED.values())


@pytest.mark.parametrize("machine", ENVIRONMENTS)
@pytest.mark.parametrize("name", EXPECTED)
def test_every_api_on_every_machine(name: str, machine: str) -> None:
    environment = with_libraries(ENVIRONMENTS[machine], KERNEL_LIBRARIES)
    assert decided(name, environment, GPU) == EXPECTED[name][machine]


@pytest.mark.parametrize("machine", ENVIRONMENTS)
def test_an_implementation_of_transformers_is_decided_as_its_api(machine: str) -> None:
    environment = with_libraries(ENVIRONMENTS[machine], KERNEL_LIBRARIES)
    served = {api.serves: name for name, (_, api) in apis().items() if api.serves.startswith("flash")}
    assert served.keys() == {"flash_attention_2", "flash_attention_3", "flash_attention_4"}
    for implementation, name in served.items():
        assert decided(implementation, environment, GPU) == EXPECTED[name][machine]


@pytest.mark.parametrize(
    ("library", "names"),
    [
        ("flash-attn", ("flash-attn-2", "flash-attn-2-varlen", "te-flash")),
        ("flash-attn-3", ("flash-attn-3",)),
        ("flash-attn-4", ("flash-attn-4", "flash-attn-4-varlen", "te-flash-4")),
        ("flashinfer-python", ("flashinfer",)),
        ("nvidia-cudnn-frontend", ("cudnn-graph",)),
        ("transformer-engine", ("te-flash", "te-flash-4", "te-fused", "te-unfused")),
        ("xformers", ("xformers", "xformers-mask")),
    ],
)
def test_a_library_that_is_not_installed_is_the_one_reason(library: str, names: tuple[str, ...]) -> None:
    environment = with_libraries(H100, {**KERNEL_LIBRARIES, library: None})
    for name in EXPECTED:
        if name in names:
            assert decided(name, environment, GPU) == [(f"{library} installed", "not installed")]
        else:
            assert decided(name, environment, GPU) == EXPECTED[name]["H100"]


@pytest.mark.parametrize("machine", ENVIRONMENTS)
def test_every_other_call_has_a_verdict_too(machine: str) -> None:
    environment = with_libraries(ENVIRONMENTS[machine], KERNEL_LIBRARIES)
    for name in apis():
        for call in (
            Call("cpu", "float32", head_dim=64),
            replace(GPU, backward=True, causal=True, window=True, q_len=1, kv_len=7),
        ):
            found = decided(name, environment, call)
            assert found
            if environment.version("torch") is None:
                assert ("torch installed", "not installed") in found, name


def test_a_torch_for_amd_cards_does_not_use_nvidias() -> None:
    environment = replace(with_libraries(H100, KERNEL_LIBRARIES), torch_cuda="", torch_hip="7.2.26015")
    assert decided("flash-attn-3", environment, GPU) == [(UNUSED_GPU, "torch is built for ROCm 7.2.26015")]


def test_the_stored_h100_is_the_recorded_one() -> None:
    recorded = json.loads(RECORDED.read_text())["environment"]
    versions = {entry["name"]: entry["version"] for entry in recorded["libraries"]}
    assert {name: version for name, version in versions.items() if version} == {
        **{name: version for name, version in SOFTWARE.items() if version},
        "xformers": "0.0.35",
    }
    (card,), (gpu,) = H100.gpus, recorded["gpus"]
    capability = f"{card.capability[0]}.{card.capability[1]}"
    assert gpu == {
        "index": card.index,
        "name": card.name,
        "capability": capability,
        "memory_bytes": card.memory,
        "driver": card.driver,
    }
    for field in ("python", "platform", "driver", "torch_cuda", "torch_hip"):
        assert recorded[field] == getattr(H100, field), field
