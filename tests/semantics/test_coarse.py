"""Keys read in groups: equal masks stay equal, a leak anywhere in a group shows, counts do not pretend to know more."""

from __future__ import annotations

from dataclasses import replace

from attncheck.semantics.difference import compare
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layer_masks import gather
from attncheck.semantics.layout import Layout, left_padded, sequence
from attncheck.semantics.observation import CallObservation, HeadMask, Method
from attncheck.semantics.spec import MaskSpec, Part, Window

LENGTH = 64
GROUPS = tuple(sum(1 << key for key in range(start, start + 8)) for start in (8, 16, 24, 40, 48))
SPEC = MaskSpec(Window(9, 0))


def saturated(mask: KeepMask) -> KeepMask:
    rows = []
    for row in mask.rows:
        for group in GROUPS:
            row |= group if row & group else 0
        rows.append(row)
    return KeepMask(tuple(rows), mask.kv_len)


def seen(left: int, *, extra: tuple[int, int] | None = None, pads: int = 0, queries: tuple[int, ...] = ()) -> object:
    mask = KeepMask.from_rule(
        LENGTH, LENGTH, lambda i, j: (pads <= j <= i and i - j <= left) or (extra is not None and (i, j) == extra)
    )
    row = left_padded(LENGTH, pads) if pads else sequence(LENGTH)
    head = HeadMask(0, (0, 1), saturated(mask), GROUPS, queries)
    call = CallObservation(Part.DECODER, 0, 0, "A", Method.IDENTITY, LENGTH, (head,))
    return compare(SPEC, gather((call,), Layout((row,), ((0, LENGTH),)), None, Part.DECODER))


def test_what_is_as_declared_stays_so() -> None:
    assert seen(9) == ()
    assert seen(9, pads=5) == ()


def test_faults_keep_their_names() -> None:
    assert [d.slugs for d in seen(10)] == [("window-off-by-one",)]
    assert [d.slugs for d in seen(8)] == [("window-off-by-one",)]
    assert [d.slugs for d in seen(LENGTH)] == [("window-ignored",)]
    assert "(9 back" in seen(9, extra=(20, 44))[0].effective_text or seen(9, extra=(20, 44))[0].leaked == 1


def test_one_cell_inside_a_group_counts_as_one() -> None:
    (difference,) = seen(9, extra=(20, 44))
    assert difference.slugs == ("causal-ignored",)
    assert (difference.leaked, difference.missed) == (1, 0)


def test_queries_that_were_not_read_are_not_judged() -> None:
    assert seen(9, extra=(20, 44), queries=(0, 30, 63)) == ()
    assert seen(9, extra=(20, 44), queries=(0, 20, 63)) != ()


def test_steps_that_were_over_before_need_not_be_seen() -> None:
    layout = Layout((sequence(8),), ((0, 5), (5, 8)), before=1)
    assert replace(layout, before=0) != layout
