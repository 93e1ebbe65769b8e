"""Windows and diagonals from exact masks."""

from __future__ import annotations

import pytest

from attncheck.probe.kernels.band import Band, Oddity, diagonals, fitted, inner_keys, match, oddity, offset
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.spec import Alignment


def drawn(q_len: int, kv_len: int, left: int | None, right: int | None, shift: int = 0) -> KeepMask:
    def keep(i: int, j: int) -> bool:
        return (left is None or i + shift - j <= left) and (right is None or j - i - shift <= right)

    return KeepMask.from_rule(q_len, kv_len, keep)


@pytest.mark.parametrize("left", [0, 1, 7, 8, None])
@pytest.mark.parametrize("right", [0, 3, None])
def test_a_band_is_read_back(left: int | None, right: int | None) -> None:
    mask = drawn(64, 64, left, right)
    assert fitted(mask, 0) == Band(left, right)
    keys = None if left is None or right is None else left + right + 1
    assert inner_keys(mask, Band(left, right), 0) == keys


def test_a_band_on_one_side_of_the_diagonal() -> None:
    assert fitted(drawn(64, 64, 8, -1), 0) == Band(8, -1)
    assert fitted(drawn(64, 64, -1, 5), 0) == Band(-1, 5)


@pytest.mark.parametrize("cell", [(0, 0), (20, 14), (20, 20), (63, 63), (20, 40)])
def test_one_cell_more_or_less_is_no_band(cell: tuple[int, int]) -> None:
    mask = drawn(64, 64, 8, 0)
    rows = list(mask.rows)
    rows[cell[0]] ^= 1 << cell[1]
    spoiled = KeepMask(tuple(rows), 64)
    assert fitted(spoiled, 0) is None or rows[cell[0]] == 0
    assert fitted(spoiled, 0, skip=[cell[0]]) == Band(8, 0)


def test_a_mask_without_any_key_is_no_band() -> None:
    assert fitted(KeepMask((0,) * 8, 8), 0) is None


@pytest.mark.parametrize(("q_len", "kv_len"), [(32, 64), (64, 32), (1, 64), (40, 48)])
@pytest.mark.parametrize("band", [Band(8, 0), Band(None, 0), Band(8, 3)])
@pytest.mark.parametrize("alignment", list(Alignment))
def test_the_diagonal_of_unequal_lengths(q_len: int, kv_len: int, band: Band, alignment: Alignment) -> None:
    mask = drawn(q_len, kv_len, band.left, band.right, offset(alignment, q_len, kv_len))
    assert diagonals(mask, band) == (alignment,)


def test_no_row_can_tell_the_diagonal_of_full_attention() -> None:
    assert diagonals(drawn(32, 64, None, None), Band(None, None)) == tuple(Alignment)


def test_neither_diagonal() -> None:
    assert diagonals(drawn(32, 64, 8, 0, 7), Band(8, 0)) == ()


def test_rows_that_should_see_nothing_do_not_hide_the_diagonal() -> None:
    """More queries than keys, bottom-right: 32 rows without keys, into which this kernel puts all of them."""
    mask = drawn(64, 32, None, 0, -32)
    uniform = KeepMask(tuple(row or (1 << 32) - 1 for row in mask.rows), 32)
    assert diagonals(uniform, Band(None, 0)) == (Alignment.BOTTOM_RIGHT,)
    found = match(uniform, Band(None, 0), -32)
    assert found.exact
    assert found.ghosts == tuple(range(32))


def test_the_first_row_that_leaves_the_band() -> None:
    found = oddity(drawn(64, 32, 32, 0), Band(None, 0), 0)
    assert (found.queries, found.first) == (31, 33)
    assert found.words == "query 33 is the first of 31 that differ: it sees keys 1 to 31, not keys 0 to 31"
    rows = list(drawn(8, 8, None, 0).rows)
    rows[2] = 0b10101010
    assert oddity(KeepMask(tuple(rows), 8), Band(None, 0), 0).words == (
        "query 2 is the only one that differs: it sees keys 1, 3, 5, 7, not keys 0 to 2"
    )
    rows[2] = 0
    assert oddity(KeepMask(tuple(rows), 8), Band(None, 0), 0).words.endswith("it sees no key, not keys 0 to 2")
    scattered = KeepMask((0b10101010101,), 11)
    assert "sees keys 0, 2, 4, 6, ..., not key 0" in oddity(scattered, Band(None, 0), 0).words


def test_no_row_leaves_its_own_band() -> None:
    assert oddity(drawn(64, 32, 8, 0), Band(8, 0), 0) == Oddity(0, None, "")
