"""The reports recorded on a real GPU, as the file has them and as the tool reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attncheck.report import Report
from attncheck.stored.report import read

RECORDED = Path(__file__).parent / "recorded"


def wire(name: str) -> dict[str, Any]:
    """The JSON of `recorded/NAME.json`."""
    loaded: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return loaded


def stored(name: str) -> Report:
    """The report in `recorded/NAME.json`."""
    return read(str(RECORDED / f"{name}.json"))
