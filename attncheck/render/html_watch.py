"""What a watch saw in HTML: the script, and its attention calls as a table."""

from __future__ import annotations

from collections.abc import Iterator

from attncheck.render import watch
from attncheck.render.html_markup import Html, code, coloured, facts, join, table, tag
from attncheck.report import Report


def sections(report: Report) -> Iterator[tuple[str, str, Html]]:
    """(id, title, content) of what stands above the findings."""
    if report.watch is None:
        return
    yield "script", "The script" if report.watch.script else "The watch", facts(watch.facts(report.watch))
    rows = [
        (
            coloured(f"{row.symbol} {row.word}", row.colour),
            code(row.attention),
            row.layers,
            row.asked,
            join([row.sees, tag("br"), tag("span", row.detail, class_="dim")]),
            row.calls,
        )
        for row in watch.rows(report.watch)
    ]
    headings = ("verdict", *watch.HEADINGS[1:])
    yield "calls", "Attention calls", table(headings, rows, label="Attention calls", numeric=(5,), class_="stack")
