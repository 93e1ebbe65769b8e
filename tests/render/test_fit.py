"""Columns that are fitted into a page: nothing is lost, hyphens are where words break, the widest gives way first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from attncheck.render import fit


def lines(text: str, width: int) -> list[str]:
    return fit.broken(Text(text), width).plain.split("\n")


def test_words_break_at_hyphens_and_hang_below_their_beginning() -> None:
    assert lines("~! window-off-by-one", 14) == ["~! window-off-", "   by-one"]
    assert lines("! mask-dropped +1", 14) == ["! mask-dropped", "  +1"]
    assert lines("measured, default", 10) == ["measured,", "default"]
    assert lines("flash_attention_2", 12) == ["flash_", "attention_2"]


def test_what_fits_stays_whole() -> None:
    assert lines("! packing-leak", 14) == ["! packing-leak"]


def test_the_widest_column_gives_way_first() -> None:
    columns = [[Text("! packing-leak")], [Text("~! window-off-by-one")]]
    assert fit.widths(columns, 34) == [14, 20]
    assert fit.widths(columns, 33) == [14, 17]


def test_no_room_for_a_word_is_said() -> None:
    assert fit.widths([[Text("eager")]], 4) is None


words = st.from_regex(r"~?[!✓] [a-z0-9]{1,8}([- ][a-z0-9]{1,8}){0,4}", fullmatch=True)


@given(words, st.integers(1, 30))
def test_no_letter_is_lost(text: str, width: int) -> None:
    found = lines(text, width)
    assert "".join("".join(found).split()) == "".join(text.split())
    longest = max(len(word) for word in text.replace("-", "- ").split())
    assert all(len(line) <= max(width, longest + 3) for line in found)


@given(st.lists(st.lists(words, min_size=1, max_size=4), min_size=1, max_size=5), st.integers(5, 120))
def test_columns_fit_the_room(columns: list[list[str]], room: int) -> None:
    texts = [[Text(cell) for cell in column] for column in columns]
    found = fit.widths(texts, room)
    if found is not None:
        assert sum(found) <= room
        for column, width in zip(texts, found):
            assert all(len(line) <= width for cell in column for line in fit.broken(cell, width).plain.split("\n"))
