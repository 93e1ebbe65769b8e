"""The recorded tables of prediction against kernel hold what the text beside them says."""

import csv
from collections import Counter

import pytest

from attncheck.surveyed import JUDGED, State
from tests.gpu.reports import RECORDED

UNJUDGED = {"", *(state.value.replace("_", " ") for state in State if state not in JUDGED)}


def counted(name: str) -> tuple[Counter[str], list[str], set[str]]:
    """(cells by what became of them, those that differ, types)."""
    found: Counter[str] = Counter()
    apart: list[str] = []
    types: set[str] = set()
    with (RECORDED / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            model_type, setting = row.pop("type"), row.pop("setting")
            for scenario, cell in row.items():
                sides = cell.split(" | ")
                judged = [side not in UNJUDGED for side in sides]
                if not any(judged):
                    continue
                types |= {model_type} if all(judged) else set()
                kind = "alone" if not all(judged) else "agree" if len(sides) == 1 else "differ"
                found[kind] += 1
                if kind == "differ":
                    apart.append(f"{model_type}{setting and f' {setting}'} {scenario}: {cell}")
    return found, apart, types


@pytest.mark.parametrize(
    ("name", "agree", "alone", "differ", "types"),
    [
        ("agreement_flash_2", 4135, 5, [], 311),
        ("agreement_flash_4", 2959, 76, [], 319),
    ],
)
def test_prediction_and_kernel(name: str, agree: int, alone: int, differ: list[str], types: int) -> None:
    found, apart, judged = counted(name)
    assert (found["agree"], found["alone"], apart, len(judged)) == (agree, alone, differ, types)
    text = (RECORDED / "README.md").read_text(encoding="utf-8")
    assert f"`{name}.csv`" in text
    assert f"{agree} of {agree + len(differ)}" in text
