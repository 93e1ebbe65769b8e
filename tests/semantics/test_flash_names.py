"""Which names are flash kernels: names as a profiler gave them on an H100 and on CPUs."""

import pytest

from attncheck.semantics.flash_names import flash, owner

FA4 = (
    "kernel_cutlass_kernel_flash_attncuteflash_fwd_sm90FlashAttentionForwardSm90_object_at__tensor0000o21112102113_"
    "tensor0000o11101213"
)
CUDNN = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x64_4x1x1_cga1x1x1_kernel0_0"
SDPA = (
    "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, false, false, cutlass::bfloat16_t, "
    "Flash_kernel_traits<64, 128, 128, 4, cutlass::bfloat16_t> >, false, true>(pytorch_flash::Flash_fwd_params)"
)
FA2 = "void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, false, false>>(flash::Flash_fwd_params)"
EFFICIENT = (
    "fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel<cutlass::bfloat16_t>::Params)"
)


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        (FA4, "flash-attn 4"),
        (CUDNN, "cuDNN"),
        (SDPA, "SDPA's own"),
        (FA2, "flash-attn 2"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "for CPUs"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "for CPUs"),
        ("aten::_flash_attention_forward", "SDPA's own"),
        ("aten::_scaled_dot_product_cudnn_attention", "cuDNN"),
        ("my_own_flash_thing", "calls itself flash"),
    ],
)
def test_flash_kernels_and_whose_they_are(name: str, whose: str) -> None:
    assert whose in owner(name)


@pytest.mark.parametrize(
    "name",
    [
        EFFICIENT,
        "aten::_scaled_dot_product_attention_math",
        "aten::_scaled_dot_product_efficient_attention",
        "aten::scaled_dot_product_attention",
        "aten::softmax",
        "void (anonymous namespace)::softmax_warp_forward<float, float, float, 5, false, false>(float*)",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x64x64",
    ],
)
def test_other_kernels_are_none(name: str) -> None:
    assert owner(name) == ""


def test_those_of_a_list_keep_their_order() -> None:
    assert flash((EFFICIENT, CUDNN, "aten::softmax", SDPA)) == (CUDNN, SDPA)
