"""Names of kernels: which of those launched did the attention, and how they are shown."""

from __future__ import annotations

import pytest
import torch

from attncheck.probe.kernels.launched import attention_kernel, launched, shortened

FLASH = (
    "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, false, false, cutlass::bfloat16_t, "
    "Flash_kernel_traits<64, 128, 128, 4, cutlass::bfloat16_t> >, false, true, false>(pytorch_flash::Flash_fwd_params)"
)
COUNTED = "void (anonymous namespace)::elementwise_kernel_with_index<int, at::native::arange_cuda_out()>(int)"
SOFTMAX = "void (anonymous namespace)::softmax_warp_forward<float, 6>(float*)"
COPY = "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl<float>(int)>(int, float)"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (FLASH, "pytorch_flash::flash_fwd_kernel"),
        ("fmha_cutlassF_f16_sm80(PyTorchMemEffAttention::Params)", "fmha_cutlassF_f16_sm80"),
        (SOFTMAX, "anonymous::softmax_warp_forward"),
        ("triton_tem_fused_0", "triton_tem_fused_0"),
        ("aten::_scaled_dot_product_attention_math", "aten::_scaled_dot_product_attention_math"),
        ("", ""),
    ],
)
def test_a_name_for_display(raw: str, shown: str) -> None:
    assert shortened(raw) == shown


def test_the_attention_among_what_was_launched() -> None:
    assert attention_kernel((COPY, "Memset (Device)", FLASH)) == FLASH
    assert attention_kernel((COUNTED, COPY, SOFTMAX)) == SOFTMAX
    assert attention_kernel((COPY,)) == COPY
    assert attention_kernel(()) == ""


def test_operators_on_a_cpu() -> None:
    q = torch.randn(1, 2, 16, 8)
    assert launched(lambda: q + q) == ()
    assert launched(lambda: torch.softmax(q @ q.transpose(-1, -2), -1) @ q)[0] == "aten::softmax"
    names = launched(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert names[0].startswith("aten::_scaled_dot_product")


@pytest.mark.gpu
def test_kernels_on_a_gpu() -> None:
    q = torch.randn(1, 4, 1024, 64, device="cuda", dtype=torch.bfloat16)
    with torch.nn.attention.sdpa_kernel([torch.nn.attention.SDPBackend.FLASH_ATTENTION]):
        names = launched(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert "flash" in attention_kernel(names)
