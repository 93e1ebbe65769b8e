"""What torch says of itself, read inside the process of an import trial; `probe.torch_state` is the parent's side."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

#: Global switches that change which attention runs or how exact it is, spelled as a user reads them.
FLAGS: Mapping[str, Callable[[Any], object]] = {
    "torch.backends.cuda.flash_sdp_enabled()": lambda t: t.backends.cuda.flash_sdp_enabled(),
    "torch.backends.cuda.mem_efficient_sdp_enabled()": lambda t: t.backends.cuda.mem_efficient_sdp_enabled(),
    "torch.backends.cuda.cudnn_sdp_enabled()": lambda t: t.backends.cuda.cudnn_sdp_enabled(),
    "torch.backends.cuda.math_sdp_enabled()": lambda t: t.backends.cuda.math_sdp_enabled(),
    "torch.backends.cuda.is_flash_attention_available()": lambda t: t.backends.cuda.is_flash_attention_available(),
    "torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()": (
        lambda t: t.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    ),
    "torch.nn.attention.current_flash_attention_impl()": lambda t: t.nn.attention.current_flash_attention_impl(),
    "torch.backends.cuda.matmul.allow_tf32": lambda t: t.backends.cuda.matmul.allow_tf32,
    "torch.backends.cudnn.allow_tf32": lambda t: t.backends.cudnn.allow_tf32,
    "torch.get_float32_matmul_precision()": lambda t: t.get_float32_matmul_precision(),
    "torch.are_deterministic_algorithms_enabled()": lambda t: t.are_deterministic_algorithms_enabled(),
    "torch.backends.cudnn.enabled": lambda t: t.backends.cudnn.enabled,
    "torch.backends.cudnn.deterministic": lambda t: t.backends.cudnn.deterministic,
    "torch.backends.cudnn.benchmark": lambda t: t.backends.cudnn.benchmark,
    "torch.get_default_dtype()": lambda t: t.get_default_dtype(),
    "torch.get_default_device()": lambda t: t.get_default_device(),
}


def state_text() -> str:
    """JSON of `state`, for a process that has imported torch."""
    return json.dumps(state(sys.modules["torch"]))


def flags_text() -> str:
    """JSON of `flags` as the imports so far left them; of nothing where torch is not among them."""
    return json.dumps(flags(sys.modules["torch"]) if "torch" in sys.modules else {})


def state(torch: Any) -> dict[str, Any]:
    """The fields of `TorchState` that one process can tell, as JSON-like data. Every fact may fail by itself."""
    problems: list[str] = []

    def ask(fact: str, read: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return read()
        except Exception as error:  # a broken driver or a cuDNN of another version raises anything
            problems.append(f"{fact}: {type(error).__name__}: {_first_line(str(error))}")
            return otherwise

    available, reason = ask("torch.cuda", lambda: _cuda(torch), (False, ""))
    return {
        "version": str(torch.__version__),
        "cuda": str(torch.version.cuda or ""),
        "cudnn": ask("cuDNN", lambda: cudnn_version(torch.backends.cudnn.version()), ""),
        "architectures": ask("architectures", lambda: list(torch.cuda.get_arch_list() or _built_for(torch)), []),
        "cuda_available": available,
        "cuda_error": reason,
        "cxx11abi": ask("cxx11abi", lambda: bool(torch._C._GLIBCXX_USE_CXX11_ABI), True),
        "flags": flags(torch),
        "devices": ask("devices", lambda: _devices(torch), []) if available else [],
        "problems": problems,
    }


def flags(torch: Any) -> dict[str, str]:
    """Every flag that this torch has, as text; one that it does not know, or that cannot be read, is left out."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, read in FLAGS.items():
            try:
                found[name] = str(read(torch))
            except Exception:  # an older torch has fewer of them, and some raise where settings contradict
                continue
    return found


def cudnn_version(number: int | None) -> str:
    """The version as text: 91900 is 9.19.0, and 8902, of the time before 9, is 8.9.2; nothing for None."""
    if number is None:
        return ""
    major, rest = divmod(number, 10000) if number >= 90000 else divmod(number, 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def _cuda(torch: Any) -> tuple[bool, str]:
    """Whether CUDA can start, and in torch's own words why not."""
    if not torch.version.cuda and not getattr(torch.version, "hip", None):
        return False, "torch is built without CUDA"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        available = bool(torch.cuda.is_available())
        reason = ""
        try:
            torch.cuda.init()
        except Exception as error:
            available, reason = False, _first_line(str(error))
    words = [_first_line(str(warning.message)) for warning in said]
    return available, "" if available else next((text for text in words if "CUDA" in text), reason)


def _devices(torch: Any) -> list[tuple[str, str]]:
    return [
        (str(torch.cuda.get_device_name(i)), "{}.{}".format(*torch.cuda.get_device_capability(i)))
        for i in range(torch.cuda.device_count())
    ]


def _built_for(torch: Any) -> list[str]:
    """The compiled targets even where CUDA cannot start, when get_arch_list() is empty by definition."""
    return str(torch._C._cuda_getArchFlags() or "").split() if torch.version.cuda else []


def _first_line(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line.partition(" (Triggered internally")[0]
