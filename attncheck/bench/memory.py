"""Whether a case may be tried at all: a CPU that runs out of memory takes the machine with it, a GPU only refuses."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from attncheck.semantics.convention import Outcome
from attncheck.semantics.timing import BenchCase, BenchCell
from attncheck.semantics.workload import ITEM_SIZES, of_any_length

#: Tensors of queries x keys a head that plain attention holds at once: logits, masked logits, probabilities.
_COPIES = 3
#: Share of the free memory that one call may take.
_SHARE = 0.5
_GIB = 1 << 30
#: How the reason of a cell begins that ran out of memory.
OUT_OF_MEMORY = "out of memory"


@dataclass(slots=True)
class Exhausted:
    """Which kinds of cases ran out of memory: longer ones of a kind take more, and are not tried."""

    _tokens: dict[BenchCase, int] = field(default_factory=dict)

    def note(self, cell: BenchCell) -> None:
        """Remember a finished cell if it ran out of memory."""
        if cell.outcome is Outcome.CRASHED and cell.detail.startswith(OUT_OF_MEMORY):
            self._tokens.setdefault(of_any_length(cell.case), cell.case.kv_len)

    def reason(self, case: BenchCase) -> str:
        """Why a case is not tried, "" for one that is."""
        tokens = self._tokens.get(of_any_length(case))
        return "" if tokens is None or case.kv_len <= tokens else f"{OUT_OF_MEMORY} at {tokens} tokens already"


def too_large(case: BenchCase, device: str) -> str:
    """Why a case is not tried on a CPU, "" for one that is; every subject is taken to hold all logits."""
    if device != "cpu":
        return ""
    copies = _COPIES * (2 if case.backward else 1)
    needed = copies * case.batch * case.num_heads * case.q_len * case.kv_len * ITEM_SIZES.get(case.dtype, 4)
    free = available()
    if free is None or needed <= _SHARE * free:
        return ""
    return f"it may need {needed / _GIB:.0f} GiB, {free / _GIB:.0f} GiB of memory are free"


def available() -> int | None:
    """Bytes of free memory, None where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
