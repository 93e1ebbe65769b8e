"""A call that would read beyond its tokens is refused before the real function; all others reach it unchanged."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from attncheck.probe.flash.bounds_checked import bounds_checked
from attncheck.probe.flash.contract import ContractError
from attncheck.probe.flash.virtual import shared_file


class Seen(list[tuple[Any, ...]]):
    """Stands for flash-attn's variable-length function and keeps what it is called with."""

    def function(self, q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Any, cu_seqlens_k: Any, **rest: Any) -> Tensor:
        self.append((cu_seqlens_q, cu_seqlens_k, rest))
        return q


def file_with(function: Any) -> ModuleType:
    module = ModuleType("glue")
    module._flash_varlen_fn = function  # type: ignore[attr-defined]
    return module


def lengths(*ends: int) -> Tensor:
    return torch.tensor([0, *ends], dtype=torch.int32)


def test_a_call_that_fits_passes_unchanged() -> None:
    seen = Seen()
    glue = file_with(seen.function)
    before = glue._flash_varlen_fn
    tokens = torch.zeros(24, 2, 8)
    with bounds_checked(glue):
        glue._flash_varlen_fn(
            tokens, tokens, tokens, cu_seqlens_q=lengths(11, 24), cu_seqlens_k=lengths(11, 24), max_seqlen_k=13
        )
        assert inspect.signature(glue._flash_varlen_fn) == inspect.signature(before)
    assert len(seen) == 1
    assert seen[0][2] == {"max_seqlen_k": 13}
    assert glue._flash_varlen_fn is before


@pytest.mark.parametrize("side", ["q", "k"])
def test_a_call_that_reads_beyond_is_refused(side: str) -> None:
    seen = Seen()
    glue = file_with(seen.function)
    tokens = {name: torch.zeros(5 if name == side else 24, 2, 8) for name in "qk"}
    with bounds_checked(glue), pytest.raises(ContractError, match=f"cu_seqlens_{side} = .* does not fit 5 tokens"):
        glue._flash_varlen_fn(
            tokens["q"], tokens["k"], tokens["k"], cu_seqlens_q=lengths(11, 24), cu_seqlens_k=lengths(11, 24)
        )
    assert not seen


def test_nothing_is_done_where_nothing_is_loaded() -> None:
    glue = file_with(None)
    with bounds_checked(glue):
        assert glue._flash_varlen_fn is None
    with bounds_checked(ModuleType("older")):
        pass


def test_the_installed_transformers_keeps_its_function_in_that_slot() -> None:
    assert "_flash_varlen_fn" in vars(shared_file())
