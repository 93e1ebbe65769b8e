"""A `compare` report in the terminal: what is declared, the verdict table, the kernels, the setting to paste."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from attncheck.findings import Severity
from attncheck.render import kernels
from attncheck.render.asides import asides, legend
from attncheck.render.findings import pasteable
from attncheck.render.interface import Style
from attncheck.render.matrix import footnotes, tables
from attncheck.render.parts import grid, heading, inset
from attncheck.render.symbols import SEVERITY
from attncheck.render.wording import declared_line, layer_ranges, probed_sizes
from attncheck.report import Report
from attncheck.verdicts import Model, Recommended


def sections(report: Report, style: Style) -> list[list[RenderableType]]:
    """What stands above the findings; nothing without a model."""
    if report.model is None:
        return []
    return [_declared(report.model), _matrix(report, style), kernels.sections(report)]


def _declared(model: Model) -> list[RenderableType]:
    table = grid()
    several = len({group.part for group in model.groups}) > 1
    for group in model.groups:
        where = group.part.value if several else "layer" if len(group.layers) == 1 else "layers"
        label = f"{where} {layer_ranges(group.layers)}"
        table.add_row(label, declared_line(group.spec))
    if sizes := probed_sizes(model):
        table.add_row("probed", Text(f"on a tiny model of the same shape: {sizes}", style="dim"))
    parts: list[RenderableType] = [heading("Declared"), inset(table)]
    symbol, colour = SEVERITY[Severity.NOTE]
    notes = grid(labels="")
    for note in model.notes:
        notes.add_row(Text(f"{symbol} {note.code}", style=colour), note.text)
    return [*parts, *([inset(notes)] if model.notes else [])]


def _matrix(report: Report, style: Style) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for number, table in enumerate(tables(report, style.width)):
        parts += [*([Text()] if number else []), table]
    remarks = grid(labels="")
    for label, text in (*asides(report), *legend(report), *footnotes(report)):
        remarks.add_row(label, text)
    if remarks.row_count:
        parts += [*([Text()] if parts else []), inset(remarks)]
    return [heading("Declared against effective"), *parts] if parts else []


def recommended(best: Recommended) -> list[RenderableType]:
    """What to use, and every way to ask for it, to paste: for below the findings."""
    table = grid(labels="bold green")
    table.add_row(best.implementation, best.why)
    parts: list[RenderableType] = [heading("Recommended"), inset(table)]
    settings = best.recommendation.settings
    if not settings:
        parts.append(inset(Text(best.recommendation.text)))
    frameworks = list(dict.fromkeys(setting.framework for setting in settings))
    for framework in frameworks:
        label = f"in {framework}, any one of these" if len(settings) > len(frameworks) else f"in {framework}"
        parts.append(inset(Text(f"{label}:", style="dim")))
        parts += [pasteable(setting.paste, 4) for setting in settings if setting.framework == framework]
    return parts
