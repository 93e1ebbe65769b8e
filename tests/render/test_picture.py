"""Pictures of masks: cropped around the first difference, every state told apart without colour."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from attncheck.render.picture import COLUMNS, PLAIN_ROWS, ROWS, crop_around, picture
from attncheck.semantics.keepmask import KeepMask
from tests import builders


def lines(declared: KeepMask, effective: KeepMask, **options: object) -> list[str]:
    return [line.plain for line in picture(declared, effective, **{"colour": False, **options})]  # type: ignore[arg-type]


def test_leaked_and_missed_cells_have_their_own_characters() -> None:
    text = lines(KeepMask.from_rows([[1, 0, 1]], 3), KeepMask.from_rows([[1, 1, 0]], 3))
    assert text[1].endswith("█+-")
    assert "leaked" in text[-1]
    assert "missed" in text[-1]


def test_only_the_states_that_show_are_explained() -> None:
    text = lines(builders.causal(24, 8), builders.causal(24))
    assert "leaked" in text[-1]
    assert "missed" not in text[-1]


def test_equal_or_incomparable_masks_have_no_picture() -> None:
    assert lines(builders.causal(8), builders.causal(8)) == []
    assert lines(builders.causal(8), builders.causal(9)) == []


def test_labels_count_tokens_not_rows_of_the_step() -> None:
    declared, effective = KeepMask((0b1110,), 4), KeepMask((0b1111,), 4)
    assert lines(declared, effective, first_query=3)[1].startswith("query 3")


def test_half_blocks_hold_two_queries_each() -> None:
    tall = lines(builders.causal(24, 8), builders.causal(24), colour=True)
    assert len(tall) == ROWS // 2 + 2
    assert "▀" in tall[1]


def test_ascii_has_its_own_characters() -> None:
    assert all(line.isascii() for line in lines(builders.causal(24, 8), builders.causal(24), unicode=False))


masks = st.integers(1, 60).flatmap(
    lambda kv: st.lists(st.tuples(st.integers(0, 2**kv - 1), st.integers(0, 2**kv - 1)), min_size=1, max_size=60).map(
        lambda rows: (KeepMask(tuple(a for a, _ in rows), kv), KeepMask(tuple(b for _, b in rows), kv))
    )
)


@given(masks)
def test_the_first_difference_is_always_in_the_picture(pair: tuple[KeepMask, KeepMask]) -> None:
    declared, effective = pair
    if declared == effective:
        return
    for rows in (ROWS, PLAIN_ROWS):
        crop = crop_around(declared, effective, rows)
        assert 0 <= crop.top < crop.bottom <= declared.q_len
        assert 0 <= crop.left < crop.right <= declared.kv_len
        assert crop.bottom - crop.top <= rows
        assert crop.right - crop.left <= COLUMNS
        row, key = next(
            (i, j) for i in range(declared.q_len) for j in range(declared.kv_len)
            if declared.keeps(i, j) != effective.keeps(i, j)
        )  # fmt: skip
        assert crop.top <= row < crop.bottom
        assert crop.left <= key < crop.right
    assert any(mark in "".join(lines(declared, effective)[1:-1]) for mark in "+-")
