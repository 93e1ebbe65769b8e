"""What the pages of the terminal are made of: headings, indented blocks, columns of label and text."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def heading(title: str) -> Text:
    """The line above a section."""
    return Text(title, style="bold underline")


def inset(part: RenderableType) -> Padding:
    """A block below a heading, two columns in."""
    return Padding(part, (0, 0, 0, 2))


def grid(labels: str = "dim") -> Table:
    """An empty table of two columns: labels in that style, and their texts."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style=labels, no_wrap=True)
    table.add_column()
    return table


def hanging(lines: Iterable[Text]) -> list[RenderableType]:
    """Lines that start with a symbol; what does not fit goes on below the word behind it."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for line in lines:
        table.add_row(line[:1], line[2:])
    return [table] if table.row_count else []
