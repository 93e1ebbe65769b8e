"""From an exact mask to the window and the diagonal that give it, whatever a kernel does to rows without keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.spec import Alignment, Window


@dataclass(frozen=True, slots=True)
class Band:
    """Keys from `left` behind to `right` ahead of each query's own diagonal, inclusive; None is unbounded.

    A side is negative when the band ends on the other side of the diagonal.
    """

    left: int | None
    right: int | None

    def row(self, centre: int, kv_len: int) -> int:
        """The bitset of the keys that a query whose diagonal lies at key `centre` sees."""
        first = 0 if self.left is None else max(0, centre - self.left)
        last = kv_len - 1 if self.right is None else min(kv_len - 1, centre + self.right)
        return ((1 << last + 1) - 1) & ~((1 << first) - 1) if last >= first else 0

    @classmethod
    def of(cls, window: Window) -> Band:
        """The band of a promised window."""
        return cls(window.left, window.right)


@dataclass(frozen=True, slots=True)
class Match:
    """How far a band explains a mask. wrong: rows that differ. ghosts: rows that see keys where the band gives none.

    Ghost rows are not among the wrong ones: what a kernel puts into rows without keys says nothing about its window.
    """

    wrong: tuple[int, ...]
    ghosts: tuple[int, ...]

    @property
    def exact(self) -> bool:
        """True when every row that has a key is as the band says."""
        return not self.wrong


def offset(alignment: Alignment | None, q_len: int, kv_len: int) -> int:
    """Key on the diagonal of query 0."""
    return kv_len - q_len if alignment is Alignment.BOTTOM_RIGHT else 0


def match(mask: KeepMask, band: Band, diagonal: int, skip: Iterable[int] = ()) -> Match:
    """Compare every row but those in `skip` with the band whose query 0 lies at key `diagonal`."""
    ignored = set(skip)
    wrong: list[int] = []
    ghosts: list[int] = []
    for query, seen in enumerate(mask.rows):
        expected = band.row(query + diagonal, mask.kv_len)
        if query in ignored or seen == expected:
            continue
        (wrong if expected else ghosts).append(query)
    return Match(tuple(wrong), tuple(ghosts))


def fitted(mask: KeepMask, diagonal: int, skip: Iterable[int] = ()) -> Band | None:
    """The band that explains the mask exactly, None without one.

    A side is read from the rows that do not reach the edge of the keys; where every row does, it is unbounded as far as
    these lengths can tell.
    """
    ignored = set(skip)
    lefts, rights = set(), set()
    for query, row in enumerate(mask.rows):
        if query in ignored or not row:
            continue
        first, last, centre = (row & -row).bit_length() - 1, row.bit_length() - 1, query + diagonal
        if first > 0:
            lefts.add(centre - first)
        if last < mask.kv_len - 1:
            rights.add(last - centre)
    if len(lefts) > 1 or len(rights) > 1 or not any(mask.rows):
        return None
    band = Band(next(iter(lefts), None), next(iter(rights), None))
    return band if match(mask, band, diagonal, ignored).exact else None


def diagonals(mask: KeepMask, band: Band, skip: Iterable[int] = ()) -> tuple[Alignment, ...]:
    """The alignments under which `band` explains the mask; those without ghost rows, where there is one such."""
    ignored = tuple(skip)
    matches = {
        alignment: match(mask, band, offset(alignment, mask.q_len, mask.kv_len), ignored) for alignment in Alignment
    }
    exact = tuple(alignment for alignment, found in matches.items() if found.exact)
    return tuple(alignment for alignment in exact if not matches[alignment].ghosts) or exact


@dataclass(frozen=True, slots=True)
class Oddity:
    """Rows that differ from a band. first: index of the first one, None without any. words: what it sees instead."""

    queries: int
    first: int | None
    words: str


def oddity(mask: KeepMask, band: Band, diagonal: int, skip: Iterable[int] = ()) -> Oddity:
    """Where a mask leaves the band whose query 0 lies at key `diagonal`, and what the first such row sees."""
    wrong = match(mask, band, diagonal, skip).wrong
    if not wrong:
        return Oddity(0, None, "")
    first, expected = wrong[0], band.row(wrong[0] + diagonal, mask.kv_len)
    which = "the only one that differs" if len(wrong) == 1 else f"the first of {len(wrong)} that differ"
    words = f"query {first} is {which}: it sees {_keys(mask.rows[first])}, not {_keys(expected)}"
    return Oddity(len(wrong), first, words)


def _keys(row: int, most: int = 4) -> str:
    """The keys of a bitset, "key 3", "keys 0 to 31"; no more than `most` runs of them."""
    runs: list[tuple[int, int]] = []
    for key in range(row.bit_length()):
        if row >> key & 1:
            if runs and runs[-1][1] == key - 1:
                runs[-1] = (runs[-1][0], key)
            else:
                runs.append((key, key))
    if not runs:
        return "no key"
    words = [str(first) if first == last else f"{first} to {last}" for first, last in runs[:most]]
    more = ["..."] if len(runs) > most else []
    return f"key{'' if row.bit_count() == 1 else 's'} {', '.join([*words, *more])}"


def inner_keys(mask: KeepMask, band: Band, diagonal: int) -> int | None:
    """Keys that a query sees whose window meets no edge of the keys, None where the band has no such query."""
    if band.left is None or band.right is None:
        return None
    for query, row in enumerate(mask.rows):
        centre = query + diagonal
        if centre - band.left >= 0 and centre + band.right < mask.kv_len:
            return row.bit_count()
    return None
