"""The words for masks."""

import pytest

from attncheck.semantics import describe
from attncheck.semantics.reading import Custom, Diagonal, Documents, Pads, Reading, self_frame
from attncheck.semantics.spec import MaskSpec, Window
from tests.runs import LEFT_PAD, PACKED


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        (7, 0, "8 keys: 7 back, 0 ahead"),
        (0, 0, "1 key: 0 back, 0 ahead"),
        (None, 0, "all earlier keys"),
        (None, None, "every key"),
        (7, 7, "reach 7 back and 7 ahead"),
        (None, 3, "all earlier keys and 3 ahead"),
        (7, None, "7 back and all later keys"),
        (7, -1, "7 keys: 7 to 1 back, itself not"),
    ],
)
def test_bands(left: int | None, right: int | None, words: str) -> None:
    assert describe.band(left, right) == words


def test_what_a_layer_declares() -> None:
    assert describe.mask(MaskSpec(Window(None, 0), chunk=8)) == "all earlier keys of its chunk of 8"


def test_readings_say_what_they_do_with_padding_and_documents() -> None:
    padded, packed = self_frame(LEFT_PAD, 1, 0), self_frame(PACKED, 0, 0)
    assert describe.reading(Reading(None, 0, None), [padded]) == "all earlier keys, no padding"
    assert describe.reading(Reading(None, 0, None, pads=Pads.VISIBLE), [padded]).endswith("padding too")
    assert describe.reading(Reading(None, 0, None), [packed]).endswith("own document only")
    assert describe.reading(Reading(None, 0, None, documents=Documents.MERGED), [packed]).endswith(
        "other documents too"
    )
    assert (
        describe.reading(Reading(None, 0, None, documents=Documents.MERGED), [packed], brief=True) == "all earlier keys"
    )


def test_readings_name_their_oddities() -> None:
    odd = Reading(None, 0, None, diagonal=Diagonal.TOP_LEFT, shift=1, split=4, cached=False, custom=Custom.DROPPED)
    words = describe.reading(odd, ())
    for part in ("top-left", "+1", "cut before token 4", "without the keys of earlier calls"):
        assert part in words


def test_irregular_masks_are_counted() -> None:
    assert describe.irregular(1, 0, 23, 17) == "reaches 23 back and 17 ahead, 1 key too many and 0 missing"
    assert describe.irregular(0, 9, None, None).startswith("sees nothing")
