"""Whether a case may be tried at all: a CPU that runs out of memory takes the machine with it, a GPU only refuses."""

from __future__ import annotations

import os

from attncheck.semantics.timing import BenchCase
from attncheck.semantics.workload import ITEM_SIZES

#: Tensors of queries x keys a head that plain attention holds at once: logits, masked logits, probabilities.
_COPIES = 3
#: Share of the free memory that one call may take.
_SHARE = 0.5
_GIB = 1 << 30


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
