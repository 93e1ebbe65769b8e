"""Small pictures of two masks side by side: declared beside effective, cropped around the first difference."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import groupby

from rich.style import Style as RichStyle
from rich.text import Text

from attncheck.semantics.keepmask import KeepMask

ROWS = 16
PLAIN_ROWS = 8
COLUMNS = 30


class Cell(Enum):
    """What one (query, key) shows."""

    MASKED = "masked"
    KEPT = "kept"
    LEAKED = "leaked"
    MISSED = "missed"


# Luminance differs as well as hue, so that the four stay apart for colour-blind readers and on grey-scale prints.
_COLOURS = {Cell.MASKED: "#30343c", Cell.KEPT: "#5b9bd5", Cell.LEAKED: "#ff5f5f", Cell.MISSED: "#ffd75f"}
_CHARACTERS = {Cell.MASKED: "·", Cell.KEPT: "█", Cell.LEAKED: "+", Cell.MISSED: "-"}
_ASCII = {Cell.MASKED: ".", Cell.KEPT: "#", Cell.LEAKED: "+", Cell.MISSED: "-"}


@dataclass(frozen=True, slots=True)
class Crop:
    """The part that is shown: rows and columns, half-open, of the masks."""

    top: int
    bottom: int
    left: int
    right: int


def picture(
    declared: KeepMask,
    effective: KeepMask,
    *,
    colour: bool,
    unicode: bool = True,
    first_query: int | None = None,
    width: int = 80,
) -> list[Text]:
    """Lines of a picture, [] when the masks are equal or of different shapes.

    With colour one character holds two queries (upper half block); without it one character is one cell.
    first_query: token index of the first differing row, for the labels (the row's own index when None). width: room in
    characters.
    """
    if (declared.q_len, declared.kv_len) != (effective.q_len, effective.kv_len) or declared == effective:
        return []
    offset = 0 if first_query is None else first_query - _first_row(declared, effective)
    gap = "   "
    label_room = len(f"query {declared.q_len - 1 + offset}") + 1
    columns = min(COLUMNS, (width - label_room - len(gap)) // 2)
    crop = crop_around(declared, effective, ROWS if colour and unicode else PLAIN_ROWS, columns)
    left = [
        [_cell(declared, declared, i, j) for j in range(crop.left, crop.right)] for i in range(crop.top, crop.bottom)
    ]
    right = [
        [_cell(declared, effective, i, j) for j in range(crop.left, crop.right)] for i in range(crop.top, crop.bottom)
    ]
    panel = max(crop.right - crop.left, len("effective"))
    margin = len(f"query {crop.bottom - 1 + offset}") + 1
    lines = [Text(" " * margin + "declared".ljust(panel) + gap + "effective", style="dim")]
    per_line = 2 if colour and unicode else 1
    for row in range(0, len(left), per_line):
        label = (
            f"query {crop.top + row + offset}".ljust(margin)
            if row == 0
            else f"{crop.top + row + offset}".rjust(margin - 1) + " "
        )
        line = Text.assemble((label, "dim"))
        for block, pad in ((left, gap), (right, "")):
            below = block[row + 1] if per_line == 2 and row + 1 < len(block) else None
            line.append_text(_line(block[row], below, colour=colour, unicode=unicode))
            line.append(" " * (panel - (crop.right - crop.left)) + pad)
        line.rstrip()
        lines.append(line)
    keys = f"keys {crop.left}-{crop.right - 1}"
    below_keys = " " * margin + keys.ljust(panel) + gap
    lines.append(Text.assemble((below_keys, "dim"), _legend(right, colour, unicode)))
    return lines


def crop_around(declared: KeepMask, effective: KeepMask, rows: int = ROWS, columns: int = COLUMNS) -> Crop:
    """At most rows x columns cells that hold the first difference in reading order, a few rows above it included."""
    row = _first_row(declared, effective)
    wrong = declared.rows[row] ^ effective.rows[row]
    column = (wrong & -wrong).bit_length() - 1
    top = max(0, min(row - 2, declared.q_len - rows))
    left = max(0, min(column - columns // 2, declared.kv_len - columns))
    return Crop(top, min(top + rows, declared.q_len), left, min(left + columns, declared.kv_len))


def _first_row(declared: KeepMask, effective: KeepMask) -> int:
    return next(i for i, (a, b) in enumerate(zip(declared.rows, effective.rows)) if a != b)


def _cell(declared: KeepMask, shown: KeepMask, query: int, key: int) -> Cell:
    wanted, kept = declared.keeps(query, key), shown.keeps(query, key)
    if wanted == kept:
        return Cell.KEPT if kept else Cell.MASKED
    return Cell.LEAKED if kept else Cell.MISSED


def _line(upper: list[Cell], lower: list[Cell] | None, *, colour: bool, unicode: bool) -> Text:
    line = Text()
    pairs = zip(upper, lower if lower is not None else [None] * len(upper))
    for (cell, below), run in groupby(pairs):
        count = sum(1 for _ in run)
        if not (colour and unicode):
            line.append((_CHARACTERS if unicode else _ASCII)[cell] * count, style=_COLOURS[cell] if colour else "")
        else:
            ground = _COLOURS[below] if below is not None else None
            # Equal halves in one piece: two that touch leave a hairline in many fonts and in exported pictures.
            block = "█" if below is cell else "▀"
            line.append(block * count, style=RichStyle(color=_COLOURS[cell], bgcolor=ground))
    return line


def _legend(cells: list[list[Cell]], colour: bool, unicode: bool) -> Text:
    """Only the states that the picture shows."""
    shown = {cell for row in cells for cell in row}
    words = {Cell.LEAKED: "leaked: seen, not declared", Cell.MISSED: "missed: declared, not seen"}
    legend = Text()
    for cell in (Cell.LEAKED, Cell.MISSED):
        if cell in shown:
            legend.append("  " if legend else "")
            symbol = ("■" if unicode else "#") if colour else (_CHARACTERS if unicode else _ASCII)[cell]
            legend.append(symbol, style=_COLOURS[cell] if colour else "")
            legend.append(" " + words[cell], style="dim")
    return legend
