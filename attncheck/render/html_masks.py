"""Pictures of masks for the HTML report: declared, requested, effective side by side as a few SVG paths each."""

from __future__ import annotations

from collections.abc import Iterator

from attncheck.findings import Evidence
from attncheck.render.html_markup import Html, bullets, join, tag
from attncheck.render.picture import Crop, crop_around
from attncheck.semantics.keepmask import KeepMask

#: Largest part of a mask that is drawn, in cells: more would be too small to see on a phone.
CELLS = 64
#: Pixels of a cell and of a whole picture, at most.
_CELL, _WIDEST = 18, 340
_WORDS = {
    "kept": "seen",
    "masked": "not seen",
    "leaked": "leaked: seen, not declared",
    "missed": "missed: declared, not seen",
}


def definitions() -> Html:
    """What all pictures of a page share; to stand once in it. Signs tell the colours apart without colour vision."""
    cell = {"width": 1, "height": 1}

    def pattern(name: str, *parts: Html) -> Html:
        return tag("pattern", *parts, id=f"{name}-pattern", patternUnits="userSpaceOnUse", **cell)

    return tag(
        "svg",
        tag(
            "defs",
            pattern(
                "leaked",
                tag("rect", class_="leaked-ground", **cell),
                tag("path", class_="leaked-sign", d="M.25 .5h.5M.5 .25v.5"),
            ),
            pattern(
                "missed", tag("rect", class_="missed-ground", **cell), tag("path", class_="missed-sign", d="M.25 .5h.5")
            ),
            pattern("lines", tag("path", class_="lines", d="M0 0h1M0 0v1")),
        ),
        class_="defs",
        aria_hidden="true",
        focusable="false",
    )


def figure(evidence: Evidence, caption: str) -> Html:
    """The masks of one finding; empty where there is nothing to compare. caption: where the first difference is."""
    declared, effective = evidence.declared_mask, evidence.effective_mask
    if declared is None or effective is None or not cells(evidence):
        return Html()
    crop = crop_around(declared, effective, CELLS, CELLS)
    row, column = _first(declared, effective)
    query = evidence.first_difference[1] if evidence.first_difference is not None else row
    key = evidence.first_difference[2] if evidence.first_difference is not None else column
    origin = query - row + crop.top
    masks = [("declared", declared)]
    requested = evidence.requested_mask
    masks += [("requested", requested)] if requested is not None and _alike(declared, requested) else []
    masks.append(("effective", effective))
    x, y = column - crop.left, row - crop.top
    paths = {name: _paths(declared, mask, crop) for name, mask in masks}
    panels = [_panel(name, declared, mask, crop, (x, y), paths[name]) for name, mask in masks]
    height, width = crop.bottom - crop.top, crop.right - crop.left
    part = "" if (height, width) == (declared.q_len, declared.kv_len) else "; a part of the mask"
    states = {state for found in paths.values() for state in found}
    hint = f"Rows are queries {origin} to {origin + height - 1}, columns keys {crop.left} to {crop.right - 1}{part}."
    names = ", ".join(name for name, _ in masks)
    return tag(
        "figure",
        tag(
            "div",
            *panels,
            class_="panels",
            tabindex=0,
            role="group",
            aria_label=f"Masks: {names}. First difference at query {query}, key {key}. Arrow keys read other cells.",
        ),
        tag("output", f"{hint} Point at a cell, or use the arrow keys.", class_="cell", aria_live="polite"),
        tag(
            "figcaption",
            tag("noscript", hint, " "),
            f"First difference, outlined: query {query}, key {key}",
            f" ({caption})." if caption else ".",
            _legend(["kept", "masked", *(state for state in ("leaked", "missed") if state in states)]),
        ),
        class_="masks",
        data_query=origin,
        data_key=crop.left,
        data_queries=height,
        data_keys=width,
        data_x=x,
        data_y=y,
    )


def cells(evidence: Evidence) -> int:
    """Cells of each mask in the picture, at most; 0 where there is nothing to compare."""
    declared, effective = evidence.declared_mask, evidence.effective_mask
    if declared is None or effective is None or declared == effective or not _alike(declared, effective):
        return 0
    return min(declared.q_len, CELLS) * min(declared.kv_len, CELLS)


def _panel(
    name: str, declared: KeepMask, shown: KeepMask, crop: Crop, first: tuple[int, int], paths: dict[str, str]
) -> Html:
    height, width = crop.bottom - crop.top, crop.right - crop.left
    size = {"width": width, "height": height}
    fills = {"leaked": "url(#leaked-pattern)", "missed": "url(#missed-pattern)"}
    leaked, missed = shown.minus(declared).count(), declared.minus(shown).count()
    told = [f"{leaked} cells leaked" if leaked else "", f"{missed} cells missed" if missed else ""]
    words = "" if name == "declared" else f", {', '.join(filter(None, told)) or 'as declared'}"
    return tag(
        "div",
        tag("div", name, class_="title"),
        tag(
            "svg",
            tag("rect", class_="masked", **size),
            *(
                tag("path", class_=f"{state} {state}-cells", d=path, fill=fills.get(state))
                for state, path in paths.items()
            ),
            tag("rect", fill="url(#lines-pattern)", **size),
            tag("rect", class_="first", x=first[0], y=first[1], width=1, height=1),
            tag("rect", class_="cursor", x=0, y=0, width=1, height=1),
            viewBox=f"0 0 {width} {height}",
            width=min(_WIDEST, _CELL * width),
            role="img",
            aria_label=f"{name} mask of {shown.q_len} queries and {shown.kv_len} keys{words}",
        ),
        class_="panel",
        data_name=name,
    )


def _paths(declared: KeepMask, shown: KeepMask, crop: Crop) -> dict[str, str]:
    """State -> SVG path of its cells, in cells from the crop's corner; what is masked is the ground of the picture."""
    states: dict[str, list[int]] = {"kept": [], "leaked": [], "missed": []}
    window = (1 << crop.right - crop.left) - 1
    for wanted, seen in zip(declared.rows[crop.top : crop.bottom], shown.rows[crop.top : crop.bottom]):
        wanted, seen = wanted >> crop.left & window, seen >> crop.left & window
        for state, row in (("kept", wanted & seen), ("leaked", seen & ~wanted), ("missed", wanted & ~seen)):
            states[state].append(row)
    return {state: path for state, rows in states.items() if (path := _path(rows))}


def _path(rows: list[int]) -> str:
    """Rectangles of set bits: a run of keys, as tall as the rows below that have the very same run."""
    parts: list[str] = []
    above: dict[tuple[int, int], int] = {}
    for y, row in enumerate([*rows, 0]):
        runs = dict.fromkeys(_runs(row))
        for (start, stop), top in list(above.items()):
            if (start, stop) not in runs:
                parts.append(f"M{start} {top}h{stop - start}v{y - top}h{start - stop}z")
                del above[start, stop]
        for run in runs:
            above.setdefault(run, y)
    return "".join(parts)


def _runs(row: int) -> Iterator[tuple[int, int]]:
    """Half-open runs of set bits."""
    place = 0
    while row:
        skip = (row & -row).bit_length() - 1
        row >>= skip
        length = (~row & row + 1).bit_length() - 1
        yield place + skip, place + skip + length
        row >>= length
        place += skip + length


def _legend(states: list[str]) -> Html:
    fills = {"leaked": "url(#leaked-pattern)", "missed": "url(#missed-pattern)"}
    entries = []
    for state in states:
        cell = tag("rect", class_=state, width=1, height=1, fill=fills.get(state))
        swatch = tag("svg", cell, viewBox="0 0 1 1", aria_hidden="true")
        entries.append(join([swatch, " ", _WORDS[state]]))
    return bullets(entries, class_="legend")


def _alike(one: KeepMask, other: KeepMask) -> bool:
    return (one.q_len, one.kv_len) == (other.q_len, other.kv_len)


def _first(declared: KeepMask, effective: KeepMask) -> tuple[int, int]:
    """Row and column of the first cell that differs, in reading order."""
    row = next(i for i, (wanted, seen) in enumerate(zip(declared.rows, effective.rows)) if wanted != seen)
    wrong = declared.rows[row] ^ effective.rows[row]
    return row, (wrong & -wrong).bit_length() - 1
