"""Kernel names for display, as profilers and libraries really spell them."""

from __future__ import annotations

import pytest

from attncheck.semantics.kernel_names import BRIEF, shortened

CUDNN = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_cga1x1x1_kernel0_0"
CUTE = (
    "kernel_cutlass_kernel_flash_attncuteflash_fwd_sm90FlashAttentionForwardSm90_object_at__tensorptrbf16gmemalign16"
    "odiv81281i64div8i64div8i64div8_0"
)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (
            "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128>, false>(pytorch_flash::Params)",
            "pytorch_flash::flash_fwd_kernel",
        ),
        ("void (anonymous namespace)::softmax_warp_forward<float, 6>(float*)", "anonymous::softmax_warp_forward"),
        ("void at::native::vectorized::elementwise_kernel<4>(int)", "vectorized::elementwise_kernel"),
        (CUTE, "kernel_flash_attncuteflash_fwd_sm90FlashAttentionForwardSm90"),
        (CUDNN, CUDNN),
        ("flash-cpu", "flash-cpu"),
        ("", ""),
    ],
)
def test_what_is_left_of_a_name(raw: str, shown: str) -> None:
    assert shortened(raw) == shown


def test_a_long_name_is_cut_where_it_stands_among_others() -> None:
    assert shortened(CUDNN, BRIEF) == f"{CUDNN[:BRIEF]}..."
    assert shortened("flash", BRIEF) == "flash"
