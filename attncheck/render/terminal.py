"""The report for people: header and answer, the pages of what was looked at, findings, a summary line."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.text import Text

from attncheck.findings import Severity
from attncheck.render import baseline
from attncheck.render.findings import blocks
from attncheck.render.interface import Renderer, Style
from attncheck.render.parts import grid, hanging, heading, inset
from attncheck.render.symbols import SEVERITY, ascii_only
from attncheck.render.wording import platform_line, plural
from attncheck.report import Report
from attncheck.verdicts import IS_REFERENCE, Verdict


def render(report: Report, style: Style) -> str:
    """The whole report as text of at most `style.width` columns; only pasteable lines may be longer."""
    sections: list[list[RenderableType]] = [
        _header(report),
        *_above(report, style),
        _findings(report, style),
        *_below(report),
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


def _header(report: Report) -> list[RenderableType]:
    title = Text.assemble(
        ("attncheck ", "bold"),
        (f"{report.command} ", "bold"),
        (report.model.id if report.model else report.version, "bold cyan"),
    )
    table = grid()
    if (model := report.model) is not None:
        layers = "" if model.num_layers is None else f", {plural(model.num_layers, 'layer')}"
        table.add_row("model", f"{model.model_type}{layers}; config: {model.source_detail or model.source}")
        table.add_row("here", f"{platform_line(report)}, attncheck {report.version}")
    if report.arguments:
        table.add_row("options", ", ".join(f"{key} {value}".strip() for key, value in report.arguments.items()))
    if report.bench is not None:
        from attncheck.render import bench

        for line in bench.header(report):
            table.add_row(*line)
    if report.watch is not None:
        from attncheck.render import watch

        for line in watch.facts(report.watch):
            table.add_row(*line)
    answer = hanging([*_answer(report), *baseline.lines(report)])
    below: list[RenderableType] = [Text(), inset(table)] if table.row_count else []
    return [title, *answer, *below]


def _answer(report: Report) -> list[Text]:
    if report.bench is not None:
        from attncheck.render import bench

        return bench.answer(report)
    if report.watch is not None:
        from attncheck.render import watch

        return watch.answer(report)
    if report.command == "doctor":
        from attncheck.render import doctor

        return doctor.answer(report)
    from attncheck.render import verdict

    return verdict.lines(report)


def _findings(report: Report, style: Style) -> list[RenderableType]:
    """The findings in full, but for those that a baseline knows."""
    told = baseline.fresh(report)
    return [heading("Findings"), *blocks(told, style)] if told.findings else []


def _above(report: Report, style: Style) -> list[list[RenderableType]]:
    """What stands above the findings. A page's module is loaded for its own reports only: `doctor` shall be quick."""
    found: list[list[RenderableType]] = []
    if report.framework is not None:
        from attncheck.render import framework

        found.append(framework.sections(report))
    if report.model is not None:
        from attncheck.render import comparison

        found += comparison.sections(report, style)
    if report.sub_models or report.without is not None:
        from attncheck.render import sub_models

        found += [sub_models.sections(report), sub_models.flash(report)]
    if report.shapes:
        from attncheck.render import shapes

        found.append(shapes.sections(report))
    if report.bench is not None:
        from attncheck.render import bench

        found.append(bench.sections(report, style))
    if report.changes is not None:
        from attncheck.render import bench_changes

        found.append(bench_changes.sections(report.changes, style.width))
    if report.watch is not None:
        from attncheck.render import watch

        found.append(watch.sections(report))
    if _of_machine(report):
        from attncheck.render import doctor

        found.append(doctor.sections(report, style))
    return found


def _below(report: Report) -> list[list[RenderableType]]:
    """What stands below the findings, loaded as the pages of `_above`."""
    found: list[list[RenderableType]] = []
    if _of_machine(report):
        from attncheck.render import doctor

        found.append(doctor.closing(report))
    if report.speeds is not None:
        from attncheck.render import speeds

        found.append(speeds.sections(report.speeds))
    if report.recommended is not None:
        from attncheck.render import comparison

        found.append(comparison.recommended(report.recommended))
    return found


def _of_machine(report: Report) -> bool:
    """True for a report about the machine alone."""
    return report.model is None and report.bench is None and report.watch is None


def _summary(report: Report) -> Text:
    text = Text()
    counts = [(severity, report.count(severity)) for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE)]
    for severity, count in counts:
        text.append(", " if text else "")
        text.append(plural(count, severity.value), style=SEVERITY[severity][1] if count else "dim")
    text.append(f" · {_end(report)}")
    if report.matrix:
        from attncheck.render import verdict

        judged = [cell for cell in report.matrix if cell.reason != IS_REFERENCE]
        tally = [
            (sum(cell.verdict is Verdict.OK for cell in judged), "right"),
            (sum(cell.verdict is Verdict.MISMATCH for cell in judged), "wrong"),
            (sum(cell.verdict in (Verdict.ERROR, Verdict.UNKNOWN) for cell in judged), "without verdict"),
            (sum(cell.verdict is Verdict.NOT_RUN for cell in judged), "NOT RUN"),
        ]
        words = ", ".join(f"{count} {word}" for count, word in tally if count)
        text.append(f"\n{plural(sum(count for count, _ in tally), 'reading')}: {words}", style="dim")
        if too_large := verdict.refused_at_true_sizes(report):
            text.append(f"; {', '.join(too_large)} {verdict.TOO_LARGE}", style="dim")
    if report.findings:
        slug = min(report.findings, key=lambda finding: -finding.severity.rank).slug
        text.append(f"\nmore: attncheck explain {slug}", style="dim")
    return text


def _end(report: Report) -> str:
    if report.watch is not None and report.watch.status is not None:
        from attncheck.render import watch

        return watch.closing(report)
    return f"exit {report.exit_code}"


RENDERER = Renderer("terminal", "for people, with pictures of the masks", render)
