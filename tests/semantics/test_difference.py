"""Naming: every planted fault gets its slug, its evidence, and nothing right is called wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attncheck.semantics.difference import Difference, compare, compare_with
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layer_masks import comparable, gather
from attncheck.semantics.layout import Layout, Row, documents, left_padded, sequence
from attncheck.semantics.observation import Method
from attncheck.semantics.spec import AttentionSpec, Part
from tests import runs
from tests.plain_masks import declared_mask
from tests.runs import DECODE_8, DECODE_16, HEADS, LEFT_PAD, PACKED, PLAIN, PREFILL, RIGHT_PAD, layer, without_padding

WINDOWED, CAUSAL, BOTH_WAYS, CHUNKED = layer(7), layer(), layer(8, 8), layer(None, 0, 8)
FULL = layer(None, None)


def differences(
    declared: AttentionSpec, effective: AttentionSpec, layout: Layout, **how: object
) -> tuple[Difference, ...]:
    made = runs.calls(effective, layout, declared=declared, **how)  # type: ignore[arg-type]
    return compare(declared.mask, gather(made, layout, None, Part.DECODER))


def slugs(*found: Difference) -> set[str]:
    return {slug for entry in found for slug in entry.slugs}


@pytest.mark.parametrize("layout", [PLAIN, LEFT_PAD, RIGHT_PAD, PACKED, DECODE_8, DECODE_16, PREFILL])
@pytest.mark.parametrize("spec", [WINDOWED, CAUSAL, BOTH_WAYS, CHUNKED, FULL])
def test_what_is_as_declared_has_no_difference(spec: AttentionSpec, layout: Layout) -> None:
    assert differences(spec, spec, layout) == ()
    assert differences(spec, spec, layout, heads=[1]) == ()


@pytest.mark.parametrize("layout", [PLAIN, LEFT_PAD, RIGHT_PAD, PACKED, DECODE_8, DECODE_16, PREFILL])
@pytest.mark.parametrize(
    ("declared", "effective", "slug"),
    [
        (WINDOWED, layer(8), "window-off-by-one"),
        (WINDOWED, layer(6), "window-off-by-one"),
        (WINDOWED, CAUSAL, "window-ignored"),
        (WINDOWED, layer(4), "window-size-wrong"),
        (CAUSAL, WINDOWED, "window-unexpected"),
    ],
)
def test_window_faults(declared: AttentionSpec, effective: AttentionSpec, slug: str, layout: Layout) -> None:
    found = differences(declared, effective, layout)
    assert slugs(*found) == {slug}
    assert all(entry.exact for entry in found)


@pytest.mark.parametrize("layout", [PLAIN, LEFT_PAD, RIGHT_PAD, PACKED])
@pytest.mark.parametrize(
    ("declared", "effective", "expected"),
    [
        (CAUSAL, FULL, {"causal-ignored"}),
        (WINDOWED, layer(7, 7), {"causal-ignored"}),
        (WINDOWED, FULL, {"causal-ignored", "window-ignored"}),
        (FULL, CAUSAL, {"causal-unexpected"}),
        (BOTH_WAYS, layer(8, 0), {"causal-unexpected"}),
        (BOTH_WAYS, layer(7, 7), {"window-off-by-one"}),
        (BOTH_WAYS, FULL, {"window-ignored"}),
        (BOTH_WAYS, layer(3, 4), {"window-size-wrong"}),
        (CHUNKED, CAUSAL, {"chunk-wrong"}),
        (CHUNKED, WINDOWED, {"chunk-wrong"}),
        (CHUNKED, layer(None, 0, 9), {"chunk-wrong"}),
        (CAUSAL, CHUNKED, {"chunk-wrong"}),
    ],
)
def test_direction_and_chunk_faults(
    declared: AttentionSpec, effective: AttentionSpec, expected: set[str], layout: Layout
) -> None:
    assert slugs(*differences(declared, effective, layout)) == expected


@pytest.mark.parametrize("spec", [WINDOWED, CAUSAL, BOTH_WAYS, FULL])
def test_lost_padding(spec: AttentionSpec) -> None:
    assert slugs(*differences(spec, spec, LEFT_PAD, fed=without_padding(LEFT_PAD))) == {"padding-ignored"}
    right = differences(spec, spec, RIGHT_PAD, fed=without_padding(RIGHT_PAD))
    # To the right of the last real token causality hides the padding anyway.
    assert slugs(*right) == (set() if spec.mask.window.causal else {"padding-ignored"})


def test_padding_lost_on_one_side_only() -> None:
    row = Row((-1,) * 3 + (0,) * 18 + (-1,) * 3, (0,) * 3 + tuple(range(18)) + (0,) * 3)
    layout = Layout((row,), ((0, 24),))
    fed = Layout((left_padded(24, 3),), ((0, 24),))
    (found,) = differences(FULL, FULL, layout, fed=fed)
    assert found.slugs == ("padding-ignored",)
    assert "right" in found.effective_text


def test_two_faults_at_once_get_two_names() -> None:
    (found,) = differences(CAUSAL, FULL, LEFT_PAD, fed=without_padding(LEFT_PAD))
    assert set(found.slugs) == {"causal-ignored", "padding-ignored"}
    assert found.exact


@pytest.mark.parametrize("spec", [WINDOWED, CAUSAL, CHUNKED])
def test_documents_that_see_each_other(spec: AttentionSpec) -> None:
    (found,) = differences(spec, spec, PACKED, fed=without_padding(PACKED))
    assert found.slugs == ("packing-leak",)
    assert found.first[1] >= 11 > found.first[2]
    assert found.missed == (0 if spec is not CHUNKED else found.missed)


def test_a_document_cut_in_two() -> None:
    assert slugs(*differences(CAUSAL, CAUSAL, PLAIN, fed=PACKED)) == {"packing-split"}
    fed = Layout((documents(11, 6, 7),), ((0, 24),))
    assert slugs(*differences(CAUSAL, CAUSAL, PACKED, fed=fed)) == {"packing-split"}


@pytest.mark.parametrize("layout", [DECODE_16, PREFILL])
@pytest.mark.parametrize("spec", [WINDOWED, CAUSAL])
def test_top_left_alignment(spec: AttentionSpec, layout: Layout) -> None:
    def top_left(keep: KeepMask) -> KeepMask:
        left = spec.mask.window.left
        return runs.cells(keep, lambda i, j, _: j <= i and (left is None or i - j <= left))

    assert slugs(*differences(spec, spec, layout, spoil=top_left)) == {"causal-misaligned"}


def test_an_ignored_window_beside_a_cache_that_drops_old_keys() -> None:
    for layout in (DECODE_16, PREFILL):
        assert slugs(*differences(WINDOWED, CAUSAL, layout, held=12)) == {"window-ignored"}


def test_a_cache_that_drops_keys_the_layer_declares() -> None:
    assert slugs(*differences(CAUSAL, CAUSAL, DECODE_16, held=10)) == {"cache-mismatch"}


def test_lost_cache() -> None:
    def own_only(keep: KeepMask) -> KeepMask:
        start = keep.kv_len - keep.q_len
        return runs.cells(keep, lambda i, j, kept: kept and j >= start)

    assert slugs(*differences(CAUSAL, CAUSAL, PREFILL, spoil=own_only)) == {"cache-mismatch"}


def test_slots_behind_the_last_token() -> None:
    def wider(keep: KeepMask) -> KeepMask:
        return KeepMask(tuple(row | 1 << keep.kv_len for row in keep.rows), keep.kv_len + 8)

    assert slugs(*differences(CAUSAL, CAUSAL, DECODE_16, spoil=wider)) == {"cache-mismatch"}
    unfilled = differences(CAUSAL, CAUSAL, DECODE_16, spoil=lambda keep: KeepMask(keep.rows, keep.kv_len + 8))
    assert unfilled == ()


@pytest.mark.parametrize(
    ("spec", "query", "key", "slug"),
    [
        (CAUSAL, 3, 20, "causal-ignored"),
        (WINDOWED, 20, 2, "window-ignored"),
        (BOTH_WAYS, 2, 20, "window-ignored"),
        (CHUNKED, 20, 2, "chunk-wrong"),
    ],
)
def test_one_extra_cell(spec: AttentionSpec, query: int, key: int, slug: str) -> None:
    (found,) = differences(
        spec, spec, PLAIN, spoil=lambda m: runs.cells(m, lambda i, j, k: k or (i, j) == (query, key))
    )
    assert found.slugs == (slug,)
    assert (found.first, found.leaked, found.missed, found.exact) == ((0, query, key), 1, 0, False)


def test_one_missing_cell() -> None:
    (found,) = differences(
        CAUSAL, CAUSAL, PLAIN, spoil=lambda m: runs.cells(m, lambda i, j, k: k and (i, j) != (20, 4))
    )
    assert found.slugs == ("keys-missing",)
    assert (found.leaked, found.missed) == (0, 1)


def test_one_wrong_head_is_named_alone() -> None:
    (found,) = differences(WINDOWED, CAUSAL, LEFT_PAD, heads=[2])
    assert (found.slugs, found.heads) == (("window-ignored",), (2,))


def test_heads_are_followed_when_their_grouping_changes_from_call_to_call() -> None:
    right = runs.calls(WINDOWED, DECODE_16)
    wrong = runs.calls(CAUSAL, DECODE_16, heads=[1], declared=WINDOWED)
    mixed = (right[0], *wrong[1:])
    (found,) = compare(WINDOWED.mask, gather(mixed, DECODE_16, None, Part.DECODER))
    assert (found.slugs, found.heads) == (("window-ignored",), (1,))


def custom(keep: KeepMask) -> Layout:
    return Layout((replace(sequence(24), custom=keep),), ((0, 24),))


BLOCKS = KeepMask.from_rule(24, 24, lambda i, j: j <= i and (i < 11) == (j < 11))
PREFIX = KeepMask.from_rule(24, 24, lambda i, j: j <= i or j < 10)


@pytest.mark.parametrize(
    ("keep", "effective", "expected"),
    [
        (BLOCKS, lambda i, j: j <= i, {"mask-dropped"}),
        (BLOCKS, lambda i, j: True, {"mask-dropped"}),
        (BLOCKS, lambda i, j: not BLOCKS.keeps(i, j), {"mask-dropped"}),
        (PREFIX, lambda i, j: j <= i, {"prefix-dropped"}),
        (PREFIX, PREFIX.keeps, set()),
    ],
)
def test_the_callers_mask(keep: KeepMask, effective: object, expected: set[str]) -> None:
    found = differences(CAUSAL, CAUSAL, custom(keep), spoil=lambda m: KeepMask.from_rule(24, 24, effective))  # type: ignore[arg-type]
    assert slugs(*found) == expected


def test_the_callers_mask_is_kept_but_the_window_is_lost() -> None:
    found = differences(WINDOWED, WINDOWED, custom(BLOCKS), spoil=lambda m: BLOCKS)
    assert slugs(*found) == {"window-ignored"}


def test_dropout_is_told_from_a_wrong_mask() -> None:
    def holes(head: int) -> KeepMask:
        keep = declared_mask(CAUSAL, PLAIN, 0, 0)
        return runs.cells(keep, lambda i, j, kept: kept and (i * 7 + j * 5 + head * 3) % 6 != 0)

    (call,) = runs.calls(CAUSAL, PLAIN)
    masks = tuple(replace(call.masks[0], heads=(head,), keep=holes(head)) for head in range(HEADS))
    (found,) = compare(CAUSAL.mask, gather([replace(call, masks=masks)], PLAIN, None, Part.DECODER))
    assert found.slugs == ("dropout-active",)


def test_rows_of_padding_and_of_nan_are_not_judged() -> None:
    pads = differences(
        CAUSAL, CAUSAL, LEFT_PAD, spoil=lambda m: KeepMask((m.rows[0] or (1 << 24) - 1, *m.rows[1:]), 24)
    )
    assert pads == ()
    (call,) = runs.calls(CAUSAL, PLAIN, spoil=lambda m: KeepMask((*m.rows[:20], 0, *m.rows[21:]), 24))
    assert compare(CAUSAL.mask, gather([call], PLAIN, None, Part.DECODER))
    assert compare(CAUSAL.mask, gather([replace(call, nan_rows=((0, 20),))], PLAIN, None, Part.DECODER)) == ()


def test_a_black_box_is_not_blamed_for_what_it_cannot_see() -> None:
    blind = lambda m: runs.cells(m, lambda i, j, kept: kept and i != j)  # noqa: E731
    made = [replace(call, method=Method.PERTURBATION) for call in runs.calls(CAUSAL, PLAIN, spoil=blind)]
    assert compare(CAUSAL.mask, gather(made, PLAIN, None, Part.DECODER)) == ()
    wrong = [replace(call, method=Method.PERTURBATION) for call in runs.calls(FULL, PLAIN, spoil=blind)]
    assert slugs(*compare(CAUSAL.mask, gather(wrong, PLAIN, None, Part.DECODER))) == {"causal-ignored"}


def test_calls_that_cannot_be_laid_beside_the_tokens_are_said_so() -> None:
    (call,) = runs.calls(CAUSAL, PLAIN)
    assert gather([replace(call, q_len=23)], PLAIN, None, Part.DECODER).unreadable
    assert gather([replace(call, step=3)], PLAIN, None, Part.DECODER).unreadable


@pytest.mark.parametrize(
    ("eager", "other", "expected"),
    [
        (WINDOWED, WINDOWED, set()),
        (WINDOWED, CAUSAL, {"window-ignored"}),
        (WINDOWED, layer(8), {"window-off-by-one"}),
        (BOTH_WAYS, layer(7, 7), {"window-off-by-one"}),
        (CAUSAL, FULL, {"causal-ignored"}),
    ],
)
def test_without_a_declaration_eager_is_the_reference(
    eager: AttentionSpec, other: AttentionSpec, expected: set[str]
) -> None:
    one, two = (gather(runs.calls(spec, PLAIN), PLAIN, None, Part.DECODER) for spec in (eager, other))
    assert slugs(*compare_with(one, two)) == expected


def test_heads_that_differ_under_eager_are_compared_one_by_one() -> None:
    """An implementation that gives all heads one mask cannot hide behind the eager heads that have the same."""
    eager = gather(runs.calls(WINDOWED, PLAIN, heads=(1, 3), declared=CAUSAL), PLAIN, None, Part.DECODER)
    other = gather(runs.calls(CAUSAL, PLAIN), PLAIN, None, Part.DECODER)
    assert comparable(eager, other)
    (found,) = compare_with(eager, other)
    assert (found.slugs, found.heads) == (("window-ignored",), (1, 3))


def test_what_was_not_read_in_the_same_way_is_not_comparable() -> None:
    read = gather(runs.calls(CAUSAL, PLAIN), PLAIN, None, Part.DECODER)
    outside = [replace(call, method=Method.PERTURBATION) for call in runs.calls(CAUSAL, PLAIN)]
    (call,) = runs.calls(CAUSAL, PLAIN)
    unreadable = gather([replace(call, q_len=23)], PLAIN, None, Part.DECODER)
    broken = gather([replace(call, nan_rows=((0, 3),))], PLAIN, None, Part.DECODER)
    assert comparable(read, read)
    for reference in (gather(outside, PLAIN, None, Part.DECODER), unreadable, broken):
        assert not comparable(reference, read)


def test_a_two_sided_window_that_became_causal_is_not_a_moved_diagonal() -> None:
    for left in (2, 4, 7, 8):
        found = slugs(*differences(layer(4, 4), layer(left, 0), PLAIN))
        assert "causal-unexpected" in found, left
        assert "causal-misaligned" not in found, left
