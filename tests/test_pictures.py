"""The picture in the README: made from a stored report, small, and nothing but the table."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from attncheck.stored import report as stored
from tests import pictures, sample_machines


def words(picture: str) -> str:
    return " ".join("".join(ElementTree.fromstring(picture).itertext()).replace("\xa0", " ").split())


def test_the_picture_shows_the_table_and_is_small() -> None:
    picture = pictures.convention_table(sample_machines.h100_report())
    assert len(picture.encode()) < 60_000
    text = words(picture)
    for part in (
        "What the numbers mean",
        "takes no number",
        "flash-attn-2",
        "9 keys",
        "cudnn-graph",
        "8 keys",
        "bottom-right",
        "H100",
    ):
        assert part in text
    assert picture == pictures.convention_table(sample_machines.h100_report())


def test_the_picture_of_the_readme_is_the_recorded_table() -> None:
    recorded = stored.read(str(Path(__file__).parent / "gpu" / "recorded" / "doctor.json"))
    assert words(pictures.PICTURE.read_text(encoding="utf-8")) == words(pictures.convention_table(recorded))
