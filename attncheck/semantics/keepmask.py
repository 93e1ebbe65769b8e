"""KeepMask: an exact q_len x kv_len mask, one integer bitset a row. True (1) always means keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeepMask:
    """Which keys each query sees. Bit j of `rows[i]` is 1 when query i sees key j."""

    rows: tuple[int, ...]
    kv_len: int

    @classmethod
    def from_rule(cls, q_len: int, kv_len: int, keep: Callable[[int, int], bool]) -> KeepMask:
        """Build from `keep(query, key)`, both counted from 0."""
        return cls(tuple(sum(1 << j for j in range(kv_len) if keep(i, j)) for i in range(q_len)), kv_len)

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[bool]], kv_len: int) -> KeepMask:
        """Build from rows of booleans (True = keep)."""
        return cls(tuple(sum(1 << j for j, kept in enumerate(row) if kept) for row in rows), kv_len)

    @property
    def q_len(self) -> int:
        """Number of queries."""
        return len(self.rows)

    def keeps(self, query: int, key: int) -> bool:
        """True when the query sees the key."""
        return bool(self.rows[query] >> key & 1)

    def count(self) -> int:
        """Number of kept cells."""
        return sum(row.bit_count() for row in self.rows)

    def cells(self) -> Iterator[tuple[int, int]]:
        """Every kept (query, key), in reading order."""
        return ((i, j) for i, row in enumerate(self.rows) for j in range(self.kv_len) if row >> j & 1)

    def minus(self, other: KeepMask) -> KeepMask:
        """The cells kept here and not in `other`."""
        self._same_shape(other)
        return KeepMask(tuple(a & ~b for a, b in zip(self.rows, other.rows)), self.kv_len)

    def only_rows(self, queries: Iterable[int]) -> KeepMask:
        """The same mask with every row outside `queries` emptied."""
        wanted = set(queries)
        return KeepMask(tuple(row if i in wanted else 0 for i, row in enumerate(self.rows)), self.kv_len)

    def reach(self, offset: int = 0, queries: Iterable[int] | None = None) -> tuple[int | None, int | None]:
        """Largest distances (left, right) from the diagonal `key == query + offset` to a kept key, None without any.

        A side is negative when every kept key lies on the other side of the diagonal.
        """
        left = right = None
        for i in range(self.q_len) if queries is None else queries:
            if row := self.rows[i]:
                first, last = (row & -row).bit_length() - 1, row.bit_length() - 1
                left = max(i + offset - first, left) if left is not None else i + offset - first
                right = max(last - i - offset, right) if right is not None else last - i - offset
        return left, right

    def _same_shape(self, other: KeepMask) -> None:
        if (self.q_len, self.kv_len) != (other.q_len, other.kv_len):
            raise ValueError(f"masks of {self.q_len}x{self.kv_len} and {other.q_len}x{other.kv_len} cannot be compared")
