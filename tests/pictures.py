"""The README's picture of the convention table, from a stored report: `python -m tests.pictures doctor.json`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from attncheck.render import conventions
from attncheck.render.redact import redacted
from attncheck.render.wording import platform_line
from attncheck.report import Report
from attncheck.stored import report as stored

WIDTH = 100
PICTURE = Path(__file__).parents[1] / ".github" / "convention-table.svg"


def convention_table(report: Report) -> str:
    """What each API's window number means, one line an API, with the machine below it, as SVG."""
    report = redacted(report)
    console = Console(
        record=True,
        width=WIDTH,
        file=io.StringIO(),
        color_system="truecolor",
        force_terminal=True,
        legacy_windows=False,
    )
    for part in (*conventions.summary(report), Text(), Text(platform_line(report), style="dim")):
        console.print(part, highlight=False, markup=False, emoji=False)
    text = console.export_svg(title="attncheck doctor", unique_id="conventions")
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def main(path: str) -> None:
    """Write the picture."""
    report = stored.read(path)
    if not report.conventions:
        raise SystemExit(f"{path} has no convention table")
    PICTURE.write_text(convention_table(report), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
