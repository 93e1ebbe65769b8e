"""Declared masks cell by cell, written to be read: what the fast reading of the package is tested against."""

from __future__ import annotations

from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import PAD, Layout, Row
from attncheck.semantics.spec import AttentionSpec, MaskSpec


def declared_mask(spec: AttentionSpec, layout: Layout, row: int, step: int) -> KeepMask:
    """The mask of one batch row in one forward call, in token coordinates.

    Shape (tokens fed in this step) x (tokens fed so far): query i is token `steps[step][0] + i`, key j is token j,
    wherever a cache may have stored it. Rows of padding queries are empty.
    """
    start, stop = layout.steps[step]
    tokens = layout.rows[row]
    return KeepMask.from_rule(stop - start, stop, lambda i, j: sees(spec.mask, tokens, start + i, j))


def cross_mask(decoder: Layout, encoder: Layout, row: int, step: int) -> KeepMask:
    """The mask of cross-attention: every real decoder token sees every real encoder token."""
    start, stop = decoder.steps[step]
    queries, keys = decoder.rows[row].document, encoder.rows[row].document
    return KeepMask.from_rule(stop - start, len(keys), lambda i, j: queries[start + i] != PAD and keys[j] != PAD)


def sees(mask: MaskSpec, row: Row, query: int, key: int) -> bool:
    """True when the token `query` may see the token `key` of the same row."""
    if row.document[query] == PAD or row.document[query] != row.document[key]:
        return False
    window, distance = mask.window, query - key
    if window.left is not None and distance > window.left:
        return False
    if row.custom is not None:
        if not row.custom.keeps(query, key):
            return False
    elif window.right is not None and -distance > window.right:
        return False
    return mask.chunk is None or row.position[query] // mask.chunk == row.position[key] // mask.chunk


def judged_rows(layout: Layout, row: int, step: int) -> tuple[int, ...]:
    """The queries of a step that are real tokens; what padding rows do is not judged."""
    start, stop = layout.steps[step]
    return tuple(i for i in range(stop - start) if layout.rows[row].document[start + i] != PAD)
