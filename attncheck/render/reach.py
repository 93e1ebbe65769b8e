"""How far queries were seen to look in layers whose reach the config does not tell, by implementation."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from attncheck.render.symbols import VERDICT
from attncheck.render.wording import BASIS_WORDS, layer_ranges, reach_words
from attncheck.report import Report
from attncheck.semantics.spec import Part, Window
from attncheck.verdicts import Cell, LayerGroup, Verdict

#: What of a declaration decides how far a query sees.
_FIELDS = ("direction", "window", "chunk")


def lines(report: Report) -> list[tuple[Text, Text]]:
    """(label, text) for each group of layers: each reach, and what it was read of.

    Each implementation speaks by its first scenario. The others, where short prompts leave a window unseen, and kernels
    that were forced are in the JSON report.
    """
    places: dict[tuple[Part | None, tuple[int, ...]], list[Cell]] = {}
    for cell in report.matrix:
        if cell.reach is not None and not cell.kernel:
            places.setdefault((cell.part, cell.layers), []).append(cell)
    symbol, _, colour = VERDICT[Verdict.UNKNOWN]
    label = Text(f"{symbol} reach", style=colour)
    return [
        (label, Text(f"{_where(report, part, layers)}: {'; '.join(_read(cells))}"))
        for (part, layers), cells in places.items()
    ]


def _where(report: Report, part: Part | None, layers: tuple[int, ...]) -> str:
    """`layers 0-24 step 2, window unknown; read`, and on what where its sizes are not the checkpoint's."""
    groups: Sequence[LayerGroup] = () if report.model is None else report.model.groups
    group = next((group for group in groups if group.part is part and set(layers) <= set(group.layers)), None)
    words = f"{part.value} " if part is not None and len({group.part for group in groups}) > 1 else ""
    words += f"layer{'s' if len(layers) > 1 else ''} {layer_ranges(layers)}"
    if group is None:
        return f"{words}; read"
    if fields := [name for name in _FIELDS if name in group.spec.unknown]:
        words += f", {' and '.join(fields)} unknown"
    tiny = group.probed is not None and group.probed.head_dim != group.spec.head_dim
    return f"{words}; read" + (" on a tiny model, whose windows are smaller" if tiny else "")


def _read(cells: Sequence[Cell]) -> list[str]:
    """`7 back and 7 ahead (flash_attention_2 in plain, predicted)`, once for each reach."""
    first: dict[str, list[Cell]] = {}
    for cell in cells:
        having = first.setdefault(cell.implementation, [])
        if not having or having[0].scenario == cell.scenario:
            having.append(cell)
    seen: dict[Window, dict[str, list[str]]] = {}
    for name, having in first.items():
        differ = len({cell.reach for cell in having}) > 1
        for cell in having:
            assert cell.reach is not None
            where = f"in {cell.scenario}{f' {cell.variant}' if differ else ''}, {BASIS_WORDS[cell.basis]}"
            names = seen.setdefault(cell.reach, {}).setdefault(where, [])
            names += [] if name in names else [name]
    told = []
    for far, places in seen.items():
        who = "; ".join(f"{', '.join(names)} {where}" for where, names in places.items())
        told.append(f"{reach_words(far)} ({who})")
    return told
