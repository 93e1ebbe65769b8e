"""Each backend's limits: usable here or not, with the limit, the value and the source; nothing imported."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from attncheck.backends.interface import Call, Usable, decide, find
from attncheck.environment import Environment, Gpu, Library
from attncheck.semantics.observation import Rejected

GPU = Environment(
    "3.11",
    "Linux",
    (
        Library("torch", "2.13.0"),
        Library("flash-attn", "2.8.3"),
        Library("flash-attn-3", "3.0.0"),
        Library("flash-attn-4", "4.0.0"),
    ),
    (Gpu(0, "H100", (9, 0), 80 << 30),),
    torch_cuda="13.0",
)
CPU = Environment("3.11", "Linux", (Library("torch", "2.13.0"),), gpu_note="no NVIDIA driver", torch_cuda="")
HALF = Call("cuda", "bfloat16", head_dim=64)


def on(capability):
    return replace(GPU, gpus=(Gpu(0, "card", capability, 8 << 30),))


def test_every_backend_is_found_and_serves_its_names():
    served = [name for backend in find() for name in backend.implementations]
    assert sorted(served) == [
        "eager",
        "flash_attention_2",
        "flash_attention_3",
        "flash_attention_4",
        "flex_attention",
        "sdpa",
    ]
    assert decide("some_plugin", GPU, HALF) is None


@pytest.mark.parametrize("name", ["eager", "sdpa", "flex_attention"])
def test_torch_implementations_run_on_a_cpu(name):
    assert isinstance(decide(name, CPU, Call()), Usable)
    assert isinstance(decide(name, Environment("3.11", "Linux"), Call()), Rejected)


def test_flash_says_all_that_is_missing():
    verdict = decide("flash_attention_2", CPU, Call(head_dim=512))
    assert isinstance(verdict, Rejected)
    assert [(reason.limit, reason.actual) for reason in verdict.reasons] == [
        ("flash-attn installed", "not installed"),
        ("a visible CUDA GPU", "no NVIDIA driver"),
        ("float16 or bfloat16", "float32"),
        ("at most 256", "512"),
    ]
    assert all(reason.text and reason.source for reason in verdict.reasons)


@pytest.mark.parametrize("name", ["flash_attention_2", "flash_attention_3", "flash_attention_4"])
def test_flash_usable_on_a_hopper_card(name):
    assert isinstance(decide(name, GPU, HALF), Usable)


@pytest.mark.parametrize(
    ("name", "environment", "call", "limit"),
    [
        ("flash_attention_2", on((7, 5)), HALF, "compute capability 8.0 or newer"),
        ("flash_attention_3", on((10, 0)), HALF, "compute capability 8.0 to 9.0"),
        ("flash_attention_2", GPU, replace(HALF, head_dim=512), "at most 256"),
        ("flash_attention_2", GPU, replace(HALF, head_dim=192, head_dim_v=128), "one head size"),
        ("flash_attention_2", GPU, replace(HALF, sinks=True), "no sinks"),
        ("flash_attention_2", GPU, replace(HALF, softcap=True, dropout=True), "softcap without dropout"),
        ("flash_attention_3", GPU, replace(HALF, dropout=True), "no dropout"),
        ("flash_attention_4", GPU, replace(HALF, alibi=True), "no alibi"),
        ("sdpa", GPU, replace(HALF, softcap=True), "no softcap"),
        ("sdpa", GPU, replace(HALF, sinks=True), "no sinks"),
        ("flex_attention", CPU, Call(sinks=True), "no sinks on a CPU"),
        ("flex_attention", CPU, Call(dropout=True), "no dropout"),
        ("flex_attention", replace(CPU, libraries=(Library("torch", "2.4.1"),)), Call(), "torch >= 2.5"),
    ],
)
def test_limits(name, environment, call, limit):
    verdict = decide(name, environment, call)
    assert isinstance(verdict, Rejected)
    assert [reason.limit for reason in verdict.reasons] == [limit]


def test_features_that_are_there_are_not_refused():
    assert isinstance(decide("flash_attention_4", GPU, replace(HALF, sinks=True, softcap=True)), Usable)
    assert isinstance(decide("flash_attention_2", GPU, replace(HALF, alibi=True, window=True)), Usable)
    assert isinstance(decide("flash_attention_3", GPU, replace(HALF, head_dim=192, head_dim_v=128)), Usable)


@pytest.mark.parametrize(
    ("call", "kernels"),
    [
        (HALF, ("flash", "cudnn", "efficient", "math")),
        (replace(HALF, mask=True), ("cudnn", "efficient", "math")),
        (replace(HALF, dtype="float32"), ("efficient", "math")),
        (replace(HALF, head_dim=192, head_dim_v=128), ("cudnn", "efficient", "math")),
    ],
)
def test_sdpa_kernels_left_for_a_call(call, kernels):
    assert decide("sdpa", GPU, call).kernels == kernels


def test_no_heavy_import():
    code = (
        "import sys; from attncheck.backends import interface; interface.find(); "
        "sys.exit(bool({'torch', 'transformers', 'flash_attn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
