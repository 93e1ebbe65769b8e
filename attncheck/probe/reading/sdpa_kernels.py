"""The kernels below torch's scaled_dot_product_attention: forcing one, and seeing which one ran."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

_BACKENDS = {
    "math": "MATH",
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
}
#: Kernels that can be forced.
NAMES = tuple(_BACKENDS)


@contextmanager
def forced(name: str) -> Iterator[None]:
    """Let scaled_dot_product_attention use this kernel only; it raises RuntimeError where the kernel cannot serve.

    "" leaves the choice to torch. torch's remarks on why a kernel refuses are kept quiet.
    """
    if not name:
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backend = getattr(SDPBackend, _BACKENDS[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with sdpa_kernel([backend]):
            yield


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
