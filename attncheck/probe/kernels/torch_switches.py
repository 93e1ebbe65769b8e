"""torch's switches for the kernels below scaled_dot_product_attention, thrown for a while and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def switched(names: Sequence[str]) -> Iterator[None]:
    """With these switches of `semantics.sub_models.SWITCHES` in force. Raises KeyError for a name that is none."""
    with ExitStack() as stack:
        for name in names:
            if name == "efficient-or-math":
                from torch.nn.attention import SDPBackend, sdpa_kernel

                stack.enter_context(sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]))
            else:
                stack.enter_context(_off(*_FLAGS[name]))
        yield


#: Switch -> what reads the flag, and what sets it; looked up when used, since older versions of torch lack cuDNN's.
_FLAGS = {
    "no-flash": ("flash_sdp_enabled", "enable_flash_sdp"),
    "no-cudnn": ("cudnn_sdp_enabled", "enable_cudnn_sdp"),
}


@contextmanager
def _off(reads: str, sets: str) -> Iterator[None]:
    enabled: Callable[[], bool] = getattr(torch.backends.cuda, reads)
    enable: Callable[[bool], None] = getattr(torch.backends.cuda, sets)
    before = enabled()
    enable(False)
    try:
        yield
    finally:
        enable(before)
