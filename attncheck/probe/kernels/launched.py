"""Which kernels a call really launches: by torch's profiler, kernels on a GPU and operators on a CPU."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from attncheck.semantics.kernel_names import shortened as shortened

#: torch's own helpers round an attention kernel: copies, fills and reductions. They only count where nothing else ran.
_HELPERS = re.compile(
    r"(void )?(at::native::|\(anonymous namespace\)::elementwise_kernel|at_cuda_detail|Memcpy|Memset|cub::)"
)
#: Names by which torch's operators for attention are known.
_OPERATOR = re.compile(r"scaled_dot_product|attention_forward|attn_fwd|flash_attn|flex_attention")
_SOFTMAX = re.compile(r"softmax")
#: Names of kernels that compute attention, or the softmax of one that is composed of plain operators.
_ATTENDS = re.compile(r"flash|fmha|sdpa|softmax|attention|attn", re.IGNORECASE)


def launched(call: Callable[[], object]) -> tuple[str, ...]:
    """Raw names of what `call` ran, the longest device time first; () where the profiler cannot tell.

    On a GPU these are CUDA kernels; the call is run once before, so that compiling and warming up are not counted.
    Where nothing was launched on a GPU, they are torch's operators for attention.
    """
    if torch.cuda.is_available():
        call()
        torch.cuda.synchronize()
        if names := _kernels(call):
            return names
    return _operators(call)


def of_attention(call: Callable[[], object]) -> tuple[str, ...]:
    """All that `call` ran for attention: CUDA kernels, and torch's operators, which tell even where no name does.

    Raises what the call raises.
    """
    call()
    kernels: tuple[str, ...] = ()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        kernels = tuple(name for name in _kernels(call) if _ATTENDS.search(name))
    return tuple(dict.fromkeys((*kernels, *_operators(call))))


def attention_kernel(names: Sequence[str]) -> str:
    """The one that did the attention: the first that is no helper of torch's own; "" for no names."""
    return next((name for name in names if not _HELPERS.match(name)), names[0] if names else "")


def _kernels(call: Callable[[], object]) -> tuple[str, ...]:
    from torch.profiler import ProfilerActivity, profile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with profile(activities=[ProfilerActivity.CUDA]) as seen:
                call()
                torch.cuda.synchronize()
            events = seen.events()
        except RuntimeError as error:  # CUPTI may be missing, or forbidden to this user
            if "CUDA error" in str(error):
                raise
            return ()
    times: dict[str, float] = {}
    for event in events or ():
        if str(event.device_type).endswith("CUDA"):
            times[event.name] = times.get(event.name, 0.0) + _device_time(event)
    return tuple(sorted(times, key=lambda name: -times[name]))


def _device_time(event: Any) -> float:
    """Microseconds on the device; the field was called `cuda_time` before torch 2.5."""
    time = getattr(event, "device_time", None)
    return float(time if time is not None else getattr(event, "cuda_time", 0.0))


def _operators(call: Callable[[], object]) -> tuple[str, ...]:
    """The attention operators, the one that computes before the one that users call; else the softmax of a composition.

    By the profiler of autograd, which also sees operators made of others; a dispatch mode would not, and would import
    torch's compiler.
    """
    from torch.autograd.profiler import profile

    try:
        with profile() as seen:
            call()
    except Exception:  # what runs by itself need not run under a profiler
        return ()
    names = dict.fromkeys(str(event.name) for event in seen.function_events or ())
    if attention := [name for name in names if _OPERATOR.search(name)]:
        return tuple(sorted(attention, key=lambda name: "::_" not in name))
    return tuple(name for name in names if _SOFTMAX.search(name))
