"""Naming under random layouts: one planted fault gets its own name, whatever the padding, packing or steps."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from attncheck.semantics.difference import Difference, compare
from attncheck.semantics.layer_masks import gather
from attncheck.semantics.layout import Layout, documents, left_padded, right_padded, sequence
from attncheck.semantics.spec import AttentionSpec, Part
from tests import runs
from tests.runs import HEADS, PLAIN, layer, without_padding

#: What a faulty layer computes, given the declared window in tokens.
WRONG = {
    "+1": lambda window: layer(window),
    "-1": lambda window: layer(window - 2),
    "dropped": lambda window: layer(),
    "head": lambda window: layer(),
    "causal": lambda window: layer(window - 1, None),
}
NAMES = {
    "+1": "window-off-by-one",
    "-1": "window-off-by-one",
    "dropped": "window-ignored",
    "head": "window-ignored",
    "causal": "causal-ignored",
}


def differences(
    declared: AttentionSpec, effective: AttentionSpec, layout: Layout, **how: Any
) -> tuple[Difference, ...]:
    made = runs.calls(effective, layout, declared=declared, **how)
    return compare(declared.mask, gather(made, layout, None, Part.DECODER))


def slugs(*found: Difference) -> set[str]:
    return {slug for entry in found for slug in entry.slugs}


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Padded, packed or cached layouts in which every fault below can show."""
    length = draw(st.integers(20, 30))
    kind = draw(st.sampled_from(["plain", "left", "right", "packed", "steps"]))
    pads = draw(st.integers(1, 5))
    if kind == "left":
        return Layout((sequence(length), left_padded(length, pads)), ((0, length),))
    if kind == "right":
        return Layout((right_padded(length, pads), sequence(length)), ((0, length),))
    if kind == "packed":
        cut = draw(st.integers(6, length - 6))
        return Layout((documents(cut, length - cut),), ((0, length),))
    if kind == "steps":
        cut = draw(st.integers(12, length - 1))
        return Layout((sequence(length),), ((0, cut), (cut, length)))
    return Layout((sequence(length),), ((0, length),))


@given(layouts(), st.integers(2, 8), st.sampled_from(["+1", "-1", "dropped", "causal", "padding", "documents", "head"]))
@settings(max_examples=250, deadline=None)
def test_one_random_fault_gets_its_name(layout: Layout, window: int, fault: str) -> None:
    declared = layer(window - 1)
    # In the last token of a row nothing lies ahead, so causality needs a call of several queries in every step.
    assume(fault != "causal" or all(stop - start > 2 for start, stop in layout.steps))
    # A window of two without its past key is one that sees only itself: nothing is left to measure in short documents.
    assume(fault != "-1" or window > 2)
    if fault in ("padding", "documents"):
        found = differences(declared, declared, layout, fed=without_padding(layout))
        if not found:
            return
        packed = len({number for row in layout.rows for number in row.document if number >= 0}) > 1
        assert slugs(*found) == {"packing-leak" if packed else "padding-ignored"}
        return
    found = differences(declared, WRONG[fault](window), layout, heads=[3] if fault == "head" else None)
    assert slugs(*found) == {NAMES[fault]}
    assert {entry.heads for entry in found} <= {(3,), tuple(range(HEADS))}


@given(st.integers(0, 23), st.integers(0, 23), st.sampled_from([layer(7), layer(), layer(8, 8)]))
@settings(max_examples=100, deadline=None)
def test_any_single_wrong_cell_is_found(query: int, key: int, spec: AttentionSpec) -> None:
    flipped = lambda m: runs.cells(m, lambda i, j, kept: kept != ((i, j) == (query, key)))  # noqa: E731
    found = differences(spec, spec, PLAIN, spoil=flipped)
    assert len(found) == 1
    assert found[0].leaked + found[0].missed == 1
    assert found[0].first == (0, query, key)
