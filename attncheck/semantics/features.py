"""Names a wrong mask by where its wrong cells lie, when no clean misreading of the declaration gives it."""

from __future__ import annotations

from attncheck.semantics.layout import PAD
from attncheck.semantics.reading import Frame, Reading

#: Wrong keys looked at from either end of a row: all of them in sequences as short as those of probes.
END = 32


def features(frame: Frame, declared: Reading, expected: tuple[int, ...], rows: tuple[int, ...]) -> tuple[str, ...]:
    """The slugs of all wrong cells, in the order of their first appearance; keys nobody should see come first.

    expected, rows: one bitset row a judged query. declared: the band and chunk that `expected` was made from.
    """
    leaks = [
        _leak(frame, declared, query, key)
        for query, row, right in zip(frame.judged, rows, expected)
        for key in _bits_of(row & ~right)
    ]
    return tuple(dict.fromkeys(leaks + _misses(frame, expected, rows)))


def _leak(frame: Frame, declared: Reading, query: int, key: int) -> str:
    if frame.key_documents[key] == PAD:
        return "padding-ignored"
    if frame.key_documents[key] != frame.query_documents[query]:
        return "packing-leak"
    if frame.custom is not None and not frame.custom.keeps(query, key):
        return "mask-dropped"
    if frame.custom is None and declared.right is not None and key - query > declared.right:
        return "causal-ignored" if declared.right == 0 else "window-ignored"
    if declared.left is not None and query - key > declared.left:
        return "window-ignored"
    return "chunk-wrong" if declared.chunk is not None else "causal-ignored" if key > query else "window-ignored"


def _misses(frame: Frame, expected: tuple[int, ...], rows: tuple[int, ...]) -> list[str]:
    """What the declared keys that are not seen have in common."""
    missing = [right & ~row for row, right in zip(rows, expected)]
    if not any(missing):
        return []
    if frame.start and all(lost >> frame.start == 0 for lost in missing):
        return ["cache-mismatch"]
    ahead = [lost >> query + 1 for query, lost in zip(frame.judged, missing)]
    if frame.custom is not None:
        return ["prefix-dropped" if any(ahead) else "mask-dropped"]
    names = []
    if any(ahead):
        seen_ahead = any(row >> query + 1 for query, row in zip(frame.judged, rows))
        names.append("keys-missing" if seen_ahead else "causal-unexpected")
    behind = [lost & ((2 << query) - 1) for query, lost in zip(frame.judged, missing)]
    if any(behind):
        oldest_only = all(_oldest(lost, right) for lost, right in zip(behind, expected))
        names.append(("packing-split" if frame.packed else "window-unexpected") if oldest_only else "keys-missing")
    return names


def _oldest(lost: int, declared: int) -> bool:
    """True when the lost keys are one run that begins at the oldest declared key."""
    first = lost & -lost
    return lost == 0 or (first == declared & -declared and lost & (lost + first) == 0)


def _bits_of(row: int) -> list[int]:
    """The keys of a row; of a long run only those at its two ends, which tell what it is."""
    if row.bit_count() <= 2 * END:
        return [key for key in range(row.bit_length()) if row >> key & 1]
    found = []
    for _ in range(END):
        low, high = (row & -row).bit_length() - 1, row.bit_length() - 1
        found += [low, high]
        row &= ~(1 << low | 1 << high)
    return sorted(found)
