"""A band beside the declared one, cell by cell: the counts and distances are those of a plain mask."""

from __future__ import annotations

import random

import pytest

from attncheck.semantics.shape import WrongCells
from attncheck.semantics.spec import CAUSAL, FULL, Window
from attncheck.semantics.written import band_cells, tokens


def plain(window: Window, diagonal: int, count: int) -> set[int]:
    return {
        key
        for key in range(count)
        if (window.left is None or key >= diagonal - window.left)
        and (window.right is None or key <= diagonal + window.right)
    }


def counted(declared: Window, means: Window | None, count: int, offset: int, queries: int) -> WrongCells | None:
    """The same from sets."""
    ahead, behind, missed = [], [], []
    first, nothing, hidden_unseen = None, True, False
    for query in range(count - queries if queries else 0, count):
        wanted = plain(declared, query, count)
        shown = set() if means is None else plain(means, query - offset, count)
        nothing = nothing and not shown
        old = {key for key in range(query) if key < min(wanted, default=0)}
        hidden_unseen = hidden_unseen or bool(old - shown)
        if first is None and wanted ^ shown:
            first = (query, min(wanted ^ shown))
        ahead += [key - query for key in shown - wanted if key > query]
        behind += [query - key for key in shown - wanted if key <= query]
        missed += [abs(query - key) for key in wanted - shown]
    if first is None:
        return None
    far = [(min(found), max(found)) if found else None for found in (ahead, behind, missed)]
    return WrongCells(
        first, (), len(ahead), len(behind), len(missed), *far, all_behind=bool(behind) and not hidden_unseen,
        nothing=nothing,
    )  # fmt: skip


def test_random_bands_against_sets() -> None:
    draw = random.Random(0)
    sides = [None, 0, 1, 3, 7, 40]
    compared = 0
    for _ in range(600):
        declared, means = (Window(draw.choice(sides), draw.choice(sides)) for _ in range(2))
        count = draw.choice([1, 5, 16, 33])
        queries = draw.choice([0, min(4, count)])
        offset = draw.choice([0, count - queries]) if queries else 0
        found = band_cells(declared, means, count, offset, queries)
        assert found == counted(declared, means, count, offset, queries), (declared, means, count, offset, queries)
        compared += found is not None
    assert compared > 300


def test_nothing_seen() -> None:
    found = band_cells(CAUSAL, None, 8)
    assert found is not None
    assert found.nothing
    assert found.missed == 36


@pytest.mark.parametrize("window", [CAUSAL, FULL, Window(3, 0)])
def test_the_same_band_shows_nothing(window: Window) -> None:
    assert band_cells(window, window, 32) is None


def test_a_length_that_shows_the_window() -> None:
    assert tokens(4096, None) == 4352
    assert tokens(0, None) == 2176
    assert tokens(4096, 1000) == 1000
