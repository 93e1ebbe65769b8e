"""Readings: the declared one gives exactly the declared mask, and each misreading what its words say."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import PAD, Layout, Row
from attncheck.semantics.reading import (
    Custom,
    Diagonal,
    Pads,
    Reading,
    cross_frame,
    gives,
    mask_of,
    rows_of,
    self_frame,
)
from attncheck.semantics.spec import MaskSpec, Window
from tests import runs
from tests.plain_masks import cross_mask, declared_mask, judged_rows

sides = st.one_of(st.none(), st.integers(0, 12))


@st.composite
def rows(draw: st.DrawFn, length: int = 16) -> Row:
    left, right = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    cut = draw(st.integers(1, length - left - right))
    lengths = [cut, length - left - right - cut]
    numbers = [number for number, size in enumerate(lengths) for _ in range(size)]
    places = [place for size in lengths for place in range(size)]
    custom = None
    if draw(st.booleans()):
        custom = KeepMask(tuple(draw(st.integers(0, 2**length - 1)) for _ in range(length)), length)
    return Row((PAD,) * left + tuple(numbers) + (PAD,) * right, (0,) * left + tuple(places) + (0,) * right, custom)


@given(rows(), sides, sides, st.one_of(st.none(), st.integers(1, 9)), st.integers(1, 15))
@settings(max_examples=150, deadline=None)
def test_the_declared_reading_is_the_declared_mask(
    row: Row, left: int | None, right: int | None, chunk: int | None, step: int
) -> None:
    spec = replace(runs.layer(), mask=MaskSpec(Window(left, right), chunk))
    layout = Layout((row,), ((0, step), (step, 16)))
    for number in (0, 1):
        frame = self_frame(layout, 0, number)
        declared = declared_mask(spec, layout, 0, number)
        reading = Reading.of(spec.mask)
        rows = rows_of(frame, reading)
        judged = judged_rows(layout, 0, number)
        assert tuple(query - frame.start for query in frame.judged) == judged
        assert rows == tuple(declared.rows[i] for i in judged)
        assert mask_of(frame, rows) == declared.only_rows(judged)
        assert gives(frame, reading, rows)


def test_cross_attention_sees_every_real_encoder_token() -> None:
    encoder = Layout(runs.LEFT_PAD.rows, runs.LEFT_PAD.steps)
    for row in (0, 1):
        frame = cross_frame(runs.TWO_FULL, encoder, row, 0)
        assert rows_of(frame, Reading(None, None, None)) == cross_mask(runs.TWO_FULL, encoder, row, 0).rows


def test_top_left_counts_from_the_first_query_of_the_call() -> None:
    frame = self_frame(runs.PREFILL, 0, 1)
    assert rows_of(frame, Reading(None, 0, None, diagonal=Diagonal.TOP_LEFT)) == (1, 3, 7, 15, 31)


def test_padding_becomes_visible_on_the_side_named() -> None:
    frame = self_frame(runs.LEFT_PAD, 1, 0)
    hidden = Reading(None, 0, None)
    first = rows_of(frame, hidden)[0]
    assert first == 1 << 5
    assert rows_of(frame, replace(hidden, pads=Pads.VISIBLE))[0] == (1 << 6) - 1
    assert rows_of(frame, replace(hidden, pads=Pads.RIGHT_VISIBLE))[0] == first
    assert frame.sides_padded == (True, False)


def test_a_custom_mask_replaces_causality_until_it_is_dropped() -> None:
    keep = KeepMask((0b1111,) * 4, 4)
    layout = Layout((Row((0,) * 4, (0, 1, 2, 3), keep),), ((0, 4),))
    frame = self_frame(layout, 0, 0)
    assert rows_of(frame, Reading(None, 0, None)) == (15, 15, 15, 15)
    for custom in (Custom.DROPPED, Custom.CAUSAL_TOO):
        assert rows_of(frame, Reading(None, 0, None, custom=custom)) == (1, 3, 7, 15)


def test_a_misreading_sees_no_key_that_the_cache_gave_up() -> None:
    frame = self_frame(runs.DECODE_16, 0, 1, 9)
    assert rows_of(frame, Reading(None, 0, None, only_held=True)) == (sum(1 << key for key in range(9, 17)),)
    assert rows_of(frame, Reading(None, 0, None)) == ((1 << 17) - 1,)
