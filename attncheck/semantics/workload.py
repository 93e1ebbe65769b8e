"""How much work one timed call is: lengths of its sequences, cells that its true mask keeps, bytes it must move."""

from __future__ import annotations

from dataclasses import replace

from attncheck.semantics.convention import Outcome
from attncheck.semantics.spec import FULL, Window
from attncheck.semantics.timing import BenchCase, BenchCell

#: Shares of a row of packed documents: unequal lengths, as in training data; the last takes what is left.
PACKED_SHARES = (0.5, 0.25, 0.125, 0.125)
#: Bytes of one element, by torch's short name of the dtype.
ITEM_SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def visible(window: Window, q_len: int, kv_len: int) -> int:
    """Cells of a q_len x kv_len mask that the window keeps, the diagonal at the bottom right."""
    left, right = (q_len + kv_len if side is None else side for side in (window.left, window.right))
    # Keys behind the oldest visible one grow by one from row to row, keys ahead of the newest one shrink.
    behind = _rising(kv_len - q_len - left, q_len, kv_len)
    ahead = _rising(-right, q_len, kv_len)  # counted from the last row: it has kv_len - 1 on its diagonal
    return q_len * kv_len - behind - ahead


def _rising(first: int, rows: int, most: int) -> int:
    """Sum of `first + row` over rows from 0 on, each cut to 0 .. most."""
    start = min(rows, max(0, -first))
    end = min(rows, max(start, most - first))
    return (end - start) * (2 * first + start + end - 1) // 2 + (rows - end) * most


def lengths(case: BenchCase) -> tuple[int, ...]:
    """Tokens of each sequence that attends to itself alone: rows without their padding, packed documents, chunks.

    Padded rows are cut at their end: row b of n keeps the share 1 - b/n of its tokens.
    """
    if case.inputs == "padded":
        rows = tuple(max(1, case.kv_len * (case.batch - row) // case.batch) for row in range(case.batch))
    elif case.inputs == "packed":
        shares = [max(1, int(case.kv_len * share)) for share in PACKED_SHARES[:-1]]
        rows = (*shares, case.kv_len - sum(shares)) * case.batch
    else:
        rows = (case.kv_len,) * case.batch
    if case.chunk is None:
        return rows
    return tuple(min(case.chunk, row - first) for row in rows for first in range(0, row, case.chunk))


def cells(case: BenchCase) -> int:
    """`BenchCase.cells`: query-key pairs of one head that the true mask keeps, over the whole batch."""
    if case.phase == "decode":
        return case.batch * visible(case.window, case.q_len, case.kv_len)
    return sum(visible(case.window, length, length) for length in lengths(case))


def traffic(case: BenchCase) -> int:
    """Bytes that a decode step must move at least: the visible keys and values, the queries and the output, once."""
    keys = case.batch * visible(of_newest(case.window), case.q_len, case.kv_len) // max(1, case.q_len)
    width = case.head_dim + case.head_dim_v
    elements = keys * case.num_kv_heads * width + case.batch * case.q_len * case.num_heads * width
    return elements * ITEM_SIZES.get(case.dtype, 2)


def of_newest(window: Window) -> Window:
    """The window of a single newest query: nothing lies ahead of it."""
    return FULL if window.left is None else Window(window.left, None)


def right(cell: BenchCell) -> bool:
    """True for a cell that was timed and computes what it should."""
    return cell.outcome is Outcome.READ and cell.median is not None and not cell.excluded


def alike(case: BenchCase) -> BenchCase:
    """The case apart from its subject: cases of one value do the same work."""
    return replace(case, subject="")


def of_any_length(case: BenchCase) -> BenchCase:
    """The case apart from its lengths and batch: cases of one value make a series over lengths."""
    return replace(case, batch=0, q_len=0, kv_len=0, cells=0)
