"""Which keys of a long sequence are read one by one, which together, and which queries: as much as the limits allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attncheck.semantics.layout import PAD, Row

#: Tokens to either side of a boundary (of padding, documents, chunks) that are read one by one: off-by-one faults lie
#: within one, and the second shows that they end there.
BESIDE = 2


@dataclass(frozen=True, slots=True)
class Chosen:
    """How the keys of one batch row are read.

    channel: for each key the value channel that carries it, counted over all repetitions. coarse: groups of keys that
    share a channel, as bitsets. queries: those that are kept, empty for all of them.
    """

    channel: tuple[int, ...]
    coarse: tuple[int, ...] = ()
    queries: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """True when every cell is read."""
        return not self.coarse and not self.queries


def choose(row: Row | None, keys: int, first: int, channels: int, marks: Sequence[int] = ()) -> Chosen:
    """How to read `keys` keys with `channels` channels (at least 2).

    All one by one where there are channels enough. Else an eighth of the channels is for groups, which together hold
    every key that is not read alone; the rest reads single keys: the first and last ones, those at the borders of
    padding and documents and at `marks`, and every so many of the others. Each key is read for all queries, so any
    single key shows where a window or the diagonal lies.

    row: the tokens behind the keys, None where they are not known. first: the token of the first key.
    """
    if keys <= channels:
        return Chosen(tuple(range(keys)))
    groups = max(1, channels // 8)
    wanted = _wanted(row, keys, first, marks)
    single = sorted(set(_thinned(wanted, channels - groups)))
    left = channels - groups - len(single)
    others = sorted(set(range(keys)) - set(single))
    single = sorted({*single, *_thinned(others, left)})
    alone = {key: channel for channel, key in enumerate(single)}
    others = [key for key in range(keys) if key not in alone]
    size = -(-len(others) // groups)
    channel = [alone.get(key, -1) for key in range(keys)]
    coarse = []
    for number, start in enumerate(range(0, len(others), size)):
        members = others[start : start + size]
        for key in members:
            channel[key] = len(single) + number
        if len(members) > 1:
            coarse.append(sum(1 << key for key in members))
    return Chosen(tuple(channel), tuple(coarse))


def queries(length: int, most: int, row: Row | None, first: int, marks: Sequence[int] = ()) -> tuple[int, ...]:
    """The queries to keep, at most `most` of them, by the same reasons; empty when all may be kept."""
    if length <= most:
        return ()
    single = set(_thinned(_wanted(row, length, first, marks), most // 2))
    others = [query for query in range(length) if query not in single]
    return tuple(sorted({*single, *_thinned(others, most - len(single))}))


def _wanted(row: Row | None, count: int, first: int, marks: Sequence[int]) -> list[int]:
    """Tokens near the ends and every border, as numbers from `first`; borders before the plain ends."""
    borders = {0, count - 1}
    if row is not None:
        documents = row.document[first : first + count]
        borders |= {i for i in range(1, len(documents)) if documents[i] != documents[i - 1]}
        real = [i for i, number in enumerate(documents) if number != PAD]
        borders |= {real[0], real[-1]} if real else set()
    borders |= {mark - first for mark in marks}
    near = {border + step for step in range(-BESIDE, BESIDE) for border in borders}
    return sorted(token for token in near if 0 <= token < count)


def _thinned(values: Sequence[int], most: int) -> list[int]:
    """At most `most` of the values, evenly spread, the first and last included."""
    if len(values) <= most:
        return list(values)
    if most <= 1:
        return list(values[:most])
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
