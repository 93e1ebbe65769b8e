"""Which keys are read one by one: all where that is possible, else the telling ones, and none is left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from attncheck.probe.inside.choice import choose, queries
from attncheck.semantics.layout import PAD, Row, left_padded, sequence


def alone(chosen: object, key: int) -> bool:
    return not any(group >> key & 1 for group in chosen.coarse)  # type: ignore[attr-defined]


def test_short_sequences_are_read_in_full() -> None:
    chosen = choose(sequence(24), 24, 0, 32)
    assert chosen.complete
    assert chosen.channel == tuple(range(24))


@given(st.integers(2, 400), st.integers(2, 64), st.integers(0, 40))
def test_every_key_has_a_channel_and_groups_are_disjoint(keys: int, channels: int, pads: int) -> None:
    chosen = choose(left_padded(keys, min(pads, keys - 1)), keys, 0, channels)
    assert len(chosen.channel) == keys
    assert max(chosen.channel) < channels
    together = 0
    for group in chosen.coarse:
        assert group & together == 0
        together |= group
        members = {chosen.channel[key] for key in range(keys) if group >> key & 1}
        assert len(members) == 1
    singles = [chosen.channel[key] for key in range(keys) if not together >> key & 1]
    assert len(singles) == len(set(singles))


def test_borders_of_padding_documents_and_marks_are_read_one_by_one() -> None:
    row = Row((PAD,) * 10 + (0,) * 100 + (1,) * 290, (0,) * 400)
    chosen = choose(row, 400, 0, 64, marks=(300,))
    for border in (0, 10, 110, 300, 399):
        assert all(alone(chosen, key) for key in range(max(0, border - 1), min(400, border + 1)))
    assert chosen.coarse


def test_keys_of_a_cache_that_dropped_the_first_ones() -> None:
    row = Row((0,) * 100 + (1,) * 300, (0,) * 400)
    chosen = choose(row, 350, 50, 40)
    assert alone(chosen, 49)
    assert alone(chosen, 50)


def test_queries_are_thinned_but_borders_stay() -> None:
    assert queries(24, 64, sequence(24), 0) == ()
    kept = queries(400, 64, Row((0,) * 110 + (1,) * 290, (0,) * 400), 0)
    assert len(kept) <= 64
    assert {0, 109, 110, 399} <= set(kept)
