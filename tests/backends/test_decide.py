"""torch's own backends on stored machines, call by call: the kernels left and, where there are none, each reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attncheck.backends.interface import Call, find
from tests.backends.deciding import decided
from tests.backends.environments import (
    A100,
    B200,
    CPU_ONLY,
    ENVIRONMENTS,
    H100,
    L4,
    MI300,
    NO_TORCH,
    RTX_5090,
    T4,
    with_libraries,
)

#: The call of most language models on a GPU, and the same on a CPU.
GPU = Call("cuda", "bfloat16", head_dim=64)
CPU = Call("cpu", "float32", head_dim=64)

CPU_BUILD = [("a GPU, and torch built for it", "torch is built for CPU only")]


@pytest.mark.parametrize("environment", [e for e in ENVIRONMENTS.values() if e.version("torch")])
def test_calls_on_a_cpu_do_not_depend_on_the_gpu(environment):
    assert decided("eager", environment, CPU) == ("matmul-softmax",)
    assert decided("sdpa", environment, CPU) == ("flash-cpu", "math")
    assert decided("sdpa-flash", environment, CPU) == ("flash-cpu",)
    assert decided("sdpa-efficient", environment, CPU) == [("a GPU", "cpu")]
    assert decided("sdpa-cudnn", environment, CPU) == [("a GPU", "cpu")]
    assert decided("flex_attention", environment, CPU) == ("inductor-cpu",)


@pytest.mark.parametrize(
    ("name", "environment", "call", "expected"),
    [
        # FLASH, measured on the H100: no mask, so no window and no ALiBi either; no is_causal with unequal lengths.
        ("sdpa-flash", H100, replace(GPU, mask=True), [("no mask tensor", "mask")]),
        ("sdpa-flash", H100, replace(GPU, window=True, alibi=True), [("no mask tensor", "window, alibi")]),
        (
            "sdpa-flash",
            H100,
            replace(GPU, causal=True, q_len=32, kv_len=64),
            [("q_len = kv_len", "32 queries, 64 keys")],
        ),
        ("sdpa-flash", H100, replace(GPU, causal=True, q_len=64, kv_len=64), ("flash",)),
        ("sdpa-flash", H100, replace(GPU, dtype="float32"), [("float16 or bfloat16", "float32")]),
        ("sdpa-flash", H100, replace(GPU, head_dim=512), [("at most 256 (512 on ROCm)", "512")]),
        ("sdpa-flash", MI300, replace(GPU, head_dim=512), ("flash",)),
        ("sdpa-flash", H100, replace(GPU, head_dim=192, head_dim_v=128), [("one head size", "192 and 128")]),
        ("sdpa-flash", H100, replace(GPU, head_dim=224, backward=True), ("flash",)),
        *(
            ("sdpa-flash", card, replace(GPU, head_dim=size, backward=True, dropout=dropout), expected)
            for card in (L4, RTX_5090)
            for size, dropout, expected in (
                (192, True, ("flash",)),
                (224, False, [("at most 192, or 225 to 256 without dropout", "224")]),
                (256, False, ("flash",)),
                (256, True, [("at most 192, or 225 to 256 without dropout", "256")]),
            )
        ),
        # EFFICIENT: alignment of the heads, dtypes by generation, grouped heads late.
        ("sdpa-efficient", T4, replace(GPU, dtype="float16"), ("efficient",)),
        ("sdpa-efficient", T4, replace(GPU, dtype="float32", head_dim=33), ("efficient",)),
        (
            "sdpa-efficient",
            A100,
            replace(GPU, dtype="float32", head_dim=34),
            [("a multiple of 8, of 4 in float32", "34")],
        ),
        ("sdpa-efficient", A100, replace(GPU, head_dim=68), [("a multiple of 8, of 4 in float32", "68")]),
        ("sdpa-efficient", A100, replace(GPU, head_dim=512, mask=True, window=True), ("efficient",)),
        (
            "sdpa-efficient",
            H100,
            replace(GPU, num_heads=32, num_kv_heads=8),
            [("num_kv_heads = num_heads", "32 query heads, 8 kv heads")],
        ),
        (
            "sdpa-efficient",
            with_libraries(H100, {"torch": "2.14.0+cu130"}),
            replace(GPU, num_heads=32, num_kv_heads=8),
            ("efficient",),
        ),
        # CUDNN: head sizes by generation and cuDNN.
        ("sdpa-cudnn", H100, replace(GPU, head_dim=256, mask=True), ("cudnn",)),
        ("sdpa-cudnn", H100, replace(GPU, dtype="float32"), [("float16 or bfloat16", "float32")]),
        ("sdpa-cudnn", H100, replace(GPU, head_dim=100), [("a multiple of 8", "100")]),
        ("sdpa-cudnn", H100, replace(GPU, kv_len=1), [("kv_len > 1", "1 key")]),
        ("sdpa-cudnn", B200, replace(GPU, head_dim=192, head_dim_v=128), ("cudnn",)),
        *(
            (
                "sdpa-cudnn",
                card,
                replace(GPU, head_dim=256),
                [("at most 128; 256 on compute capability 9.0 (cuDNN >= 9.10) and 10.x (cuDNN > 9.22)", "256")],
            )
            for card in (A100, L4, B200, RTX_5090, with_libraries(H100, {"nvidia-cudnn-cu13": "9.8.0.87"}))
        ),
        ("sdpa-cudnn", with_libraries(B200, {"nvidia-cudnn-cu13": "9.23.0.1"}), replace(GPU, head_dim=256), ("cudnn",)),
        (
            "sdpa-cudnn",
            with_libraries(H100, {"nvidia-cudnn-cu13": None, "nvidia-cudnn-cu12": "8.9.7.29"}),
            GPU,
            [("cuDNN >= 9.0", "cuDNN 8.9.7.29")],
        ),
        (
            "sdpa-cudnn",
            with_libraries(H100, {"nvidia-cudnn-cu13": "9.12.0.46"}),
            replace(GPU, dropout=True),
            [("cuDNN outside 9.11 to 9.13, more than one query", "dropout with cuDNN 9.12.0.46")],
        ),
        ("sdpa-math", H100, replace(GPU, mask=True, dtype="float64", head_dim=7), ("math",)),
        (
            "sdpa-math",
            H100,
            replace(GPU, softcap=True, sinks=True),
            [("no softcap", "softcap asked for"), ("no sinks", "sinks asked for")],
        ),
        # What is left for the implementation as a whole.
        ("sdpa", H100, replace(GPU, window=True), ("cudnn", "efficient", "math")),
        ("sdpa", T4, replace(GPU, dtype="float16"), ("efficient", "math")),
        ("sdpa", H100, replace(GPU, num_heads=32, num_kv_heads=8), ("flash", "cudnn", "math")),
        ("sdpa", CPU_ONLY, replace(CPU, dropout=True), ("math",)),
        ("sdpa", CPU_ONLY, replace(CPU, head_dim_v=32), ("math",)),
        ("sdpa", CPU_ONLY, replace(CPU, mask=True, causal=True, q_len=4, kv_len=8), ("flash-cpu", "math")),
        # flex_attention: what the compiler needs on a GPU, what nothing does on a CPU.
        ("flex_attention", T4, replace(GPU, dtype="float16"), ("triton",)),
        ("flex_attention", H100, replace(GPU, head_dim=8), [("at least 16", "8")]),
        (
            "flex_attention",
            H100,
            replace(GPU, softcap=True, sinks=True, alibi=True, window=True, mask=True),
            ("triton",),
        ),
        ("flex_attention", with_libraries(H100, {"triton": None}), GPU, [("triton installed", "not installed")]),
        ("flex_attention", CPU_ONLY, replace(CPU, backward=True), [("no gradients on a CPU", "on a CPU")]),
        ("flex_attention", with_libraries(H100, {"torch": "2.4.1+cu121"}), GPU, [("torch >= 2.5", "2.4.1")]),
        # varlen_attn: by torch release.
        ("varlen_attn", H100, replace(GPU, window=True), ("flash",)),
        ("varlen_attn", with_libraries(H100, {"torch": "2.10.0"}), GPU, ("flash",)),
        (
            "varlen_attn",
            with_libraries(H100, {"torch": "2.10.0"}),
            replace(GPU, window=True),
            [("torch >= 2.11", "2.10.0")],
        ),
        ("varlen_attn", with_libraries(H100, {"torch": "2.9.1"}), GPU, [("torch >= 2.10", "2.9.1")]),
        ("varlen_attn", H100, replace(GPU, head_dim=100), [("a multiple of 8, at most 256", "100")]),
        ("varlen_attn", H100, CPU, [("a visible CUDA GPU", "a call on the CPU"), ("float16 or bfloat16", "float32")]),
        ("varlen_attn", H100, replace(GPU, softcap=True), [("no softcap", "softcap asked for")]),
        # A GPU that torch cannot use.
        ("eager", replace(H100, torch_cuda=""), GPU, CPU_BUILD),
        # One card of two is enough: a process may pick it.
        ("sdpa-flash", replace(H100, gpus=(*T4.gpus, *H100.gpus)), GPU, ("flash",)),
    ],
)
def test_limits(name, environment, call, expected):
    assert decided(name, environment, call) == expected


def test_a_rocm_verdict_says_what_it_does_not_know():
    for name in ("sdpa", "sdpa-flash", "varlen_attn"):
        verdict = next(b for b in find() if name.startswith(b.name[:4])).decide(name, MI300, GPU)
        assert "AMD card" in verdict.note
    assert decided("sdpa", NO_TORCH, CPU) == [("torch installed", "not installed")]
