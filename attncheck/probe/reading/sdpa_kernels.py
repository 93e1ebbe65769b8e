"""The kernels below torch's scaled_dot_product_attention: forcing one, and seeing which one ran."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from attncheck.backends.sdpa import KERNELS, forced

__all__ = ["NAMES", "forced", "ran"]

#: Kernels that can be forced.
NAMES = tuple(KERNELS)


class _Seen(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def ran(call: Callable[[], object], implementation: str) -> str:
    """The kernel below sdpa that `call` used, as in `NAMES`; "" where no such kernel is known to have run.

    The math path is a composition of plain operators, so it is only told from others where the implementation is sdpa.
    """
    seen = _Seen()
    with seen:
        call()
    for name in seen.names:
        if "scaled_dot_product" in name or "_attention_forward" in name:
            for mark, kernel in (("efficient", "efficient"), ("cudnn", "cudnn"), ("flash", "flash"), ("math", "math")):
                if mark in name:
                    return kernel
    return "math" if implementation == "sdpa" else ""
