"""Fits columns of short texts into a page: breaks the widest cells at their hyphens until all columns have room."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.text import Text

#: Where a text may be broken: behind a hyphen or an underscore inside a word, or at a blank (which goes).
_BREAKS = re.compile(r"(?<=[a-z0-9][-_])(?=[a-z0-9])|(?<=\S) (?=\S)")


def widths(columns: Sequence[Sequence[Text]], room: int) -> list[int] | None:
    """A width for each column, `room` characters in all at most; None where not even broken texts fit.

    Columns stay as wide as they are where there is room; else the widest gives way first.
    """
    found = [max((len(text) for text in column), default=0) for column in columns]
    while sum(found) > room:
        narrower = [(width, index) for index, width in enumerate(found) if _narrower(columns[index], width) < width]
        if not narrower:
            return None
        _, widest = max(narrower, key=lambda entry: (entry[0], -entry[1]))
        found[widest] = _narrower(columns[widest], found[widest])
    return found


def _narrower(column: Sequence[Text], width: int) -> int:
    """The next smaller width that the column can have; the width itself when there is none."""
    return max((len(line) for text in column for line in broken(text, width - 1).split("\n")), default=0)


def broken(text: Text, width: int) -> Text:
    """The text in lines of at most `width` characters where its hyphens and blanks allow that.

    Further lines of a text that starts with a symbol hang below the word behind it.
    """
    if len(text) <= width:
        return text
    plain = text.plain
    hang = next((match.end() for match in [re.match(r"[^a-zA-Z0-9]+", plain)] if match), 0)
    cuts = [match.start() for match in _BREAKS.finditer(plain) if match.start() >= hang]
    lines: list[Text] = []
    start = 0
    for this, following in zip(cuts, [*cuts[1:], len(plain)]):
        indent = hang if lines else 0
        if indent + following - start > width:
            lines.append(text[start:this])
            start = this + (plain[this] == " ")
    lines.append(text[start:])
    return Text("\n").join([line if not number else Text(" " * hang) + line for number, line in enumerate(lines)])
