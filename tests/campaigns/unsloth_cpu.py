"""Lets the real Unsloth run its GPU code on a CPU: devices are redirected, the slowest Triton kernels replaced.

Unsloth's own switch `UNSLOTH_ALLOW_CPU=1` makes it believe in CUDA; Triton runs interpreted. Tensors meant for CUDA go
to the CPU, and rotary embedding and RMS norm, whose kernels take minutes when interpreted, are written in plain torch.
Forwards, masks and the dispatcher of attention stay Unsloth's own; only SDPA can run.
"""

from __future__ import annotations

import os
import sys
from typing import Any

VARIABLES = {
    "UNSLOTH_ALLOW_CPU": "1",
    "TRITON_INTERPRET": "1",
    "UNSLOTH_COMPILE_DISABLE": "1",
    "TORCHDYNAMO_DISABLE": "1",
}
_FITTED: list[Any] = []


def prepare() -> None:
    """Environment variables; before Unsloth is imported."""
    os.environ.update(VARIABLES)


def fit() -> None:
    """Everything else; after Unsloth is imported. It lasts for the process."""
    if _FITTED:
        return
    import torch
    import unsloth.models.llama as llama
    from torch.overrides import TorchFunctionMode

    class OnCpu(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = {name: _device(value) if name == "device" else value for name, value in (kwargs or {}).items()}
            return func(
                *(_device(value) if isinstance(value, str | torch.device) else value for value in args), **kwargs
            )

    def _device(value: Any) -> Any:
        cuda = value == 0 if isinstance(value, int) else str(value).startswith("cuda")
        return torch.device("cpu") if cuda and value is not None else value

    def build(self: Any, device_index: int) -> None:
        """As Unsloth's own, for the CPU, which has no index."""
        size = self.current_rope_size
        place = torch.device("cpu", 0)
        self._set_cos_sin_cache(seq_len=self._rope_cache_rows(), device=place, dtype=self._rope_cache_dtype)
        self.current_rope_size = size
        self._rope_cache_versions[device_index] = self._rope_cache_version
        self._mark_rope_build(device_index)

    llama._PerDeviceRopeCache._build_rope_cache = build
    names = {
        "DEVICE_COUNT": 1,
        "get_current_device": lambda: 0,
        "get_device_stats": lambda *_, **__: ("cpu", "cpu", 1.0),
        "verify_fp8_support_if_applicable": lambda *_, **__: None,
        "fast_rope_embedding": _rope,
        "fast_rms_layernorm": _norm,
        "fast_rms_layernorm_inference": lambda norm, hidden, *_, **__: _norm(norm, hidden),
        "torch_gpu_device": lambda _: __import__("contextlib").nullcontext(),
    }
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] in ("unsloth", "unsloth_zoo"):
            for name, value in names.items():
                if name in vars(module):
                    setattr(module, name, value)
    mode = OnCpu()
    mode.__enter__()
    _FITTED.append(mode)


def _rope(query: Any, key: Any, cos: Any, sin: Any, positions: Any = None) -> Any:
    import torch

    length = query.shape[2]
    cos, sin = cos.squeeze(), sin.squeeze()
    if positions is not None:
        index = positions.reshape(-1, length).long()
        cos, sin = cos[index].unsqueeze(1), sin[index].unsqueeze(1)
    else:
        cos, sin = cos[:length], sin[:length]

    def turned(states: Any) -> Any:
        half = states.shape[-1] // 2
        rotated = torch.cat((-states[..., half:], states[..., :half]), -1)
        return (states * cos + rotated * sin).to(states.dtype)

    return turned(query), turned(key)


def _norm(norm: Any, hidden: Any, gemma: bool = False, **_: Any) -> Any:
    import torch

    wide = hidden.float()
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", 1e-6))
    scaled = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(hidden.dtype)
    return scaled * (norm.weight + 1 if gemma else norm.weight)
