"""The picture in the README: made from a stored report, small, and nothing but the table."""

from __future__ import annotations

from xml.etree import ElementTree

from tests import pictures, sample_machines


def test_the_picture_shows_the_table_and_is_small() -> None:
    picture = pictures.convention_table(sample_machines.h100_report())
    assert len(picture.encode()) < 60_000
    text = " ".join("".join(ElementTree.fromstring(picture).itertext()).split())
    for words in ("What the numbers mean", "flash-attn-2", "9 keys", "cudnn-graph", "8 keys", "bottom-right", "H100"):
        assert words in text.replace("\xa0", " ")
    assert picture == pictures.convention_table(sample_machines.h100_report())
