"""The report for people: header, what is declared, verdict table, findings, the setting to paste, a summary line."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.findings import Severity
from attncheck.render import doctor, verdict
from attncheck.render.findings import blocks, pasteable
from attncheck.render.interface import Renderer, Style
from attncheck.render.matrix import footnotes, has_verdict, tables
from attncheck.render.symbols import PREDICTED, SEVERITY, STATIC, STATUS, ascii_only
from attncheck.render.wording import (
    BASIS_WORDS,
    declared_line,
    first_line,
    layer_ranges,
    platform_line,
    plural,
    probed_sizes,
)
from attncheck.report import Report
from attncheck.semantics.observation import Basis
from attncheck.verdicts import IS_REFERENCE, Implementation, Model, Recommended, Status, Verdict


def render(report: Report, style: Style) -> str:
    """The whole report as text of at most `style.width` columns; only pasteable lines may be longer."""
    sections: list[list[RenderableType]] = [
        _header(report),
        _declared(report.model) if report.model is not None else [],
        _matrix(report, style) if report.model is not None else [],
        doctor.sections(report) if report.model is None else [],
        [heading("Findings"), *blocks(report, style)] if report.findings else [],
        _recommended(report.recommended) if report.recommended is not None else [],
        [_summary(report)],
    ]
    return to_text((part for section in sections if section for part in (*section, Text())), style)


def to_text(parts: Iterable[RenderableType], style: Style) -> str:
    """Rich parts as a string in the given style, without trailing blanks."""
    console = Console(
        file=io.StringIO(),
        width=style.width,
        color_system=style.colour,  # type: ignore[arg-type]
        force_terminal=style.colour is not None,
        no_color=style.colour is None,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
        _environ={},
    )
    with console.capture() as capture:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))
    text = "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n")) + "\n"
    return text if style.unicode else ascii_only(text)


def heading(title: str) -> Text:
    """The line above a section."""
    return Text(title, style="bold underline")


def _header(report: Report) -> list[RenderableType]:
    title = Text.assemble(
        ("attncheck ", "bold"),
        (f"{report.command} ", "bold"),
        (report.model.id if report.model else report.version, "bold cyan"),
    )
    grid = _grid()
    if (model := report.model) is not None:
        layers = "" if model.num_layers is None else f", {plural(model.num_layers, 'layer')}"
        grid.add_row("model", f"{model.model_type}{layers}; config: {model.source_detail or model.source}")
        grid.add_row("here", f"{platform_line(report)}, attncheck {report.version}")
    if report.arguments:
        grid.add_row("options", ", ".join(f"{key} {value}".strip() for key, value in report.arguments.items()))
    answer = _hanging([*(doctor.answer(report) if report.model is None else []), *verdict.lines(report)])
    below: list[RenderableType] = [Text(), _inset(grid)] if grid.row_count else []
    return [title, *answer, *below]


def _hanging(lines: Iterable[Text]) -> list[RenderableType]:
    """Lines that start with a symbol; what does not fit goes on below the word behind it."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for line in lines:
        grid.add_row(line[:1], line[2:])
    return [grid] if grid.row_count else []


def _declared(model: Model) -> list[RenderableType]:
    grid = _grid()
    several = len({group.part for group in model.groups}) > 1
    for group in model.groups:
        where = group.part.value if several else "layer" if len(group.layers) == 1 else "layers"
        label = f"{where} {layer_ranges(group.layers)}"
        grid.add_row(label, declared_line(group.spec))
    if sizes := probed_sizes(model):
        grid.add_row("probed", Text(f"on a tiny model of the same shape: {sizes}", style="dim"))
    parts: list[RenderableType] = [heading("Declared"), _inset(grid)]
    symbol, colour = SEVERITY[Severity.NOTE]
    notes = _grid(labels="")
    for note in model.notes:
        notes.add_row(Text(f"{symbol} {note.code}", style=colour), note.text)
    return [*parts, *([_inset(notes)] if model.notes else [])]


def _matrix(report: Report, style: Style) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for number, table in enumerate(tables(report, style.width)):
        parts += [*([Text()] if number else []), table]
    remarks = _grid(labels="")
    asides = (_aside(entry, report) for entry in report.implementations)
    for label, text in (*filter(None, asides), *_legend(report), *footnotes(report)):
        remarks.add_row(label, text)
    if remarks.row_count:
        parts += [*([Text()] if parts else []), _inset(remarks)]
    return [heading("Declared against effective"), *parts] if parts else []


def _aside(entry: Implementation, report: Report) -> tuple[Text, Text] | None:
    """What the table cannot say of an implementation: refused, broken, never run, or why it is only predicted.

    Reasons that are told elsewhere, below the table or as findings, are left out for those that are in it. Limits and
    sources of reasons stand in the JSON report.
    """
    seen = has_verdict(report, entry)
    told = [cell.reason for cell in report.matrix if cell.implementation == entry.name and cell.reason]
    reasons = [
        first_line(reason.text)
        for reason in entry.reasons
        if not seen or not any(reason.text in text or text in reason.text for text in told)
    ]
    if seen and not reasons:
        return None
    symbol, word, colour = STATUS[entry.status]
    if entry.status in (Status.OK, Status.MISMATCH):
        note, note_colour = SEVERITY[Severity.NOTE]
        symbol, word, colour = (note, "note", note_colour) if seen else STATUS[Status.NOT_RUN]
    if seen and entry.basis is Basis.PREDICTED:
        symbol, word, colour = PREDICTED, BASIS_WORDS[Basis.PREDICTED], ""
    text = Text.assemble((entry.name, "bold"), ": " if reasons else "", "; ".join(reasons))
    return Text(f"{symbol} {word}", style=colour), text


def _legend(report: Report) -> list[tuple[Text, Text]]:
    bases = {cell.basis for cell in report.matrix if cell.verdict in (Verdict.OK, Verdict.MISMATCH)}
    words = {
        Basis.PREDICTED: (
            PREDICTED,
            "means: no kernel ran; the library's own code on flash attention's documented contract",
        ),
        Basis.STATIC: (STATIC, "means: read from versions and config; nothing ran"),
    }
    return [
        (Text(f"{mark} {basis.value}"), Text(text, style="dim"))
        for basis, (mark, text) in words.items()
        if basis in bases
    ]


def _recommended(recommended: Recommended) -> list[RenderableType]:
    grid = _grid(labels="bold green")
    grid.add_row(recommended.implementation, recommended.why)
    parts: list[RenderableType] = [heading("Recommended"), _inset(grid)]
    settings = recommended.recommendation.settings
    if not settings:
        parts.append(_inset(Text(recommended.recommendation.text)))
    frameworks = list(dict.fromkeys(setting.framework for setting in settings))
    for framework in frameworks:
        label = f"in {framework}, any one of these" if len(settings) > len(frameworks) else f"in {framework}"
        parts.append(_inset(Text(f"{label}:", style="dim")))
        parts += [pasteable(setting.paste, 4) for setting in settings if setting.framework == framework]
    return parts


def _summary(report: Report) -> Text:
    text = Text()
    counts = [(severity, report.count(severity)) for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE)]
    for severity, count in counts:
        text.append(", " if text else "")
        text.append(plural(count, severity.value), style=SEVERITY[severity][1] if count else "dim")
    text.append(f" · exit {report.exit_code}")
    if report.matrix:
        judged = [cell for cell in report.matrix if cell.reason != IS_REFERENCE]
        tally = [
            (sum(cell.verdict is Verdict.OK for cell in judged), "right"),
            (sum(cell.verdict is Verdict.MISMATCH for cell in judged), "wrong"),
            (sum(cell.verdict in (Verdict.ERROR, Verdict.UNKNOWN) for cell in judged), "without verdict"),
            (sum(cell.verdict is Verdict.NOT_RUN for cell in judged), "NOT RUN"),
        ]
        words = ", ".join(f"{count} {word}" for count, word in tally if count)
        text.append(f"\n{plural(sum(count for count, _ in tally), 'reading')}: {words}", style="dim")
    if report.findings:
        slug = min(report.findings, key=lambda finding: -finding.severity.rank).slug
        text.append(f"\nmore: attncheck explain {slug}", style="dim")
    return text


def _inset(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2))


def _grid(labels: str = "dim") -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=labels, no_wrap=True)
    grid.add_column()
    return grid


RENDERER = Renderer("terminal", "for people, with pictures of the masks", render)
