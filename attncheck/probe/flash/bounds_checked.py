"""Refuses a variable-length call of the real flash attention that would read beyond its tokens.

A kernel checks no cumulative lengths: it reads whatever memory lies behind, and the result may look right by luck.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import Tensor

from attncheck.probe.flash.contract import require_bounds
from attncheck.probe.flash.virtual import replaced

#: The slot in which transformers 4.54 and later keep the function they loaded.
_SLOT = "_flash_varlen_fn"


@contextmanager
def bounds_checked(glue: ModuleType) -> Iterator[None]:
    """While it lasts, such a call raises ContractError. glue: transformers' modeling_flash_attention_utils.

    Does nothing where no variable-length function is loaded, or where this transformers keeps it elsewhere.
    """
    real = getattr(glue, _SLOT, None)
    if real is None:
        yield
        return
    with replaced(glue, _SLOT, _checked(real)):
        yield


def _checked(real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)  # transformers reads the signature
    def call(q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
        for name, tensor in (("q", q), ("k", k)):
            lengths, longest = kwargs.get(f"cu_seqlens_{name}"), kwargs.get(f"max_seqlen_{name}")
            if lengths is not None:
                require_bounds(tensor, lengths, tensor.shape[0] if longest is None else int(longest), name)
        return real(q, k, v, *args, **kwargs)

    return call
