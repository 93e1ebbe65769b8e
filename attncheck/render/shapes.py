"""The section "Real shapes" of a comparison in the terminal: one line a kernel and shape, right, refused or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.checks.shape_results import words, wrong
from attncheck.findings import Severity
from attncheck.render.symbols import SEVERITY, STATUS, VERDICT
from attncheck.render.wording import BASIS_WORDS, first_line, layer_ranges
from attncheck.report import Report
from attncheck.semantics import describe
from attncheck.semantics.convention import Outcome
from attncheck.semantics.shape import EXPLICIT_MASK, MASK_TERMS, REPEATED, Errors, Shape, ShapeReading
from attncheck.semantics.spec import Part
from attncheck.verdicts import Status, Verdict

_STATUS = {
    Outcome.READ: Status.OK,
    Outcome.REFUSED: Status.REJECTED,
    Outcome.CRASHED: Status.CRASHED,
    Outcome.NOT_RUN: Status.NOT_RUN,
}


def sections(report: Report) -> list[RenderableType]:
    """Nothing where no shape was looked at. Readings of one shape stand together below its sizes."""
    if not report.shapes:
        return []
    parts: list[RenderableType] = [Text("Real shapes", style="bold underline")]
    for title, same in blocks(report):
        grid = Table.grid(padding=(0, 2, 0, 0))
        for style in ("", "bold", ""):
            grid.add_column(style=style)
        for reading in same:
            symbol, word, colour = verdict(reading)
            grid.add_row(Text(f"{symbol} {word}", style=colour), name(reading), Text(details(reading), style="dim"))
        parts += [Padding(Text(title), (0, 0, 0, 2)), Padding(grid, (0, 0, 0, 4))]
    return parts


def blocks(report: Report) -> list[tuple[str, list[ShapeReading]]]:
    """(layers and sizes in words, the readings of that shape) in the report's order."""
    together: dict[tuple[Shape, Part | None, tuple[int, ...]], list[ShapeReading]] = {}
    for reading in (_judged(reading, report) for reading in report.shapes):
        together.setdefault((reading.shape, reading.part, reading.layers), []).append(reading)
    several = len({reading.part for reading in report.shapes}) > 1
    found = []
    for (shape, part, layers), same in together.items():
        where = f"{part.value} " if several and part is not None else ""
        title = f"{where}layer{'s' if len(layers) > 1 else ''} {layer_ranges(layers)}: {words(shape)}"
        found.append((title, [_picked(reading, same) for reading in same]))
    return found


def _judged(reading: ShapeReading, report: Report) -> ShapeReading:
    """Older reports have readings under a causal mask of layers whose mask nobody knows: those say nothing of it."""
    groups = report.model.groups if report.model is not None else ()
    specs = [group.spec for group in groups if group.part is reading.part and set(group.layers) & set(reading.layers)]
    unknown = tuple(term for term in MASK_TERMS if any(term in spec.unknown for spec in specs))
    return replace(reading, shape=replace(reading.shape, unknown=unknown)) if unknown else reading


def _picked(reading: ShapeReading, same: Sequence[ShapeReading]) -> ShapeReading:
    """Older reports say of grouped heads beside a mask what torch would pick for them: transformers repeats them."""
    others = [other for other in same if other.picked and other.variant == reading.variant]
    repeated = any(REPEATED in other.detail for other in others)
    return replace(reading, picked=False) if repeated and REPEATED not in reading.detail else reading


def name(reading: ShapeReading) -> str:
    """The API and, where it is not its usual call, how it was called."""
    return reading.api if reading.variant != EXPLICIT_MASK else f"{reading.api} ({reading.variant})"


def verdict(reading: ShapeReading) -> tuple[str, str, str]:
    """Symbol, word and colour."""
    if reading.shape.unknown and reading.outcome is Outcome.READ:
        return VERDICT[Verdict.UNKNOWN]
    if next(wrong(reading, training=True), None) is not None:
        symbol, colour = SEVERITY[Severity.ERROR]
        return symbol, "wrong", colour
    return STATUS[_STATUS[reading.outcome]]


def details(reading: ShapeReading) -> str:
    """What a line says beside the verdict."""
    basis = BASIS_WORDS[reading.basis]
    if (unknown := reading.shape.unknown) and reading.outcome is Outcome.READ:
        probed = describe.band(reading.shape.window.left, reading.shape.window.right)
        return f"{basis}: takes the sizes, but under {probed}: the declared {' and '.join(unknown)} is unknown"
    if (fault := next(wrong(reading, training=True), None)) is not None:
        return f"{basis}: {first_line(fault.headline)}"
    if reading.outcome is not Outcome.READ:
        limits = reading.reasons or reading.documented
        why = "; ".join(reason.said for reason in limits)
        if reading.outcome is Outcome.NOT_RUN and reading.declared_v is not None:
            why += f"; transformers pads the values from {reading.declared_v} to {reading.shape.head_dim_v}"
        return f"{basis}: {first_line(why or reading.detail or 'no reason given')}"
    said = [f"{reading.kv_len} tokens", _off(reading.kernel)]
    if reading.backward is not Outcome.READ:
        said.append(f"no backward: {first_line(reading.backward_detail)}" if reading.backward_detail else "no backward")
    if reading.peak_bytes is not None:
        said.append(f"{reading.peak_bytes / 2**20:.0f} MiB")
    if reading.picked:
        said.append("what torch picks")
    if reading.left_out:
        said.append(f"without {', '.join(reading.left_out)}: it has no argument for that")
    if reading.declared_v is not None:
        said.append(f"values padded from {reading.declared_v}")
    return f"{basis}: " + ", ".join(filter(None, (*said, reading.detail)))


def _off(errors: Errors | None) -> str:
    """`forward off by 0.003, backward by 0.007`, the backward by its worst gradient; `off by 0.003` without one."""
    if errors is None:
        return ""
    gradients = [error for error in (errors.dq, errors.dk, errors.dv) if error is not None]
    if not gradients:
        return f"off by {errors.output:.1g}"
    return f"forward off by {errors.output:.1g}, backward by {max(gradients):.1g}"
