"""A `doctor` report in the terminal: is something broken, the facts, what can run here, and which checks ran."""

from __future__ import annotations

from dataclasses import replace

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.findings import Severity
from attncheck.render import conventions, installed
from attncheck.render.interface import Style
from attncheck.render.symbols import SEVERITY, STATUS, VERDICT
from attncheck.render.wording import check_name, first_line, plural, reason_line
from attncheck.report import Report
from attncheck.semantics.observation import Basis
from attncheck.verdicts import Implementation, Status, Verdict

_WORST_FIRST = (Severity.ERROR, Severity.WARNING, Severity.NOTE)


def sections(report: Report, style: Style) -> list[RenderableType]:
    """What stands above the findings: the facts, what can run here, the convention table; or the incident alone."""
    if report.incident is not None:
        from attncheck.render import incident

        return incident.sections(report.incident, report.environment)
    usable = _usable(report.implementations, gpus=bool(report.environment.gpus)) if report.implementations else []
    tables = conventions.sections(report, style)
    return [
        *installed.sections(report),
        *([Text(), *usable] if usable else []),
        *([Text(), *tables] if tables else []),
    ]


def answer(report: Report) -> list[Text]:
    """Is something broken, and what can run here; was the incident reproduced: for the top of the page."""
    if report.incident is not None:
        from attncheck.render import incident

        return incident.answer(report.incident)
    lines = [_broken(report)] if report.checks or report.findings else []
    if report.implementations:
        usable = [entry.name for entry in report.implementations if entry.status is Status.OK]
        symbol, _, colour = VERDICT[Verdict.OK if usable else Verdict.NOT_RUN]
        device = "on the GPU" if report.environment.gpus else "on the CPU; no GPU can be used"
        words = f"{symbol} {len(usable)} of {len(report.implementations)} implementations can run {device}"
        lines.append(Text(words, style=colour))
    if lines and not report.count(Severity.ERROR):
        advice = "If everything you use works, ignore the notes and what cannot run: nobody needs it all."
        lines.append(Text(f"  {advice}", style="dim"))
    return lines


def _broken(report: Report) -> Text:
    """The first line. Nothing that did not run counts as sound."""
    errors, warnings = ([f for f in report.findings if f.severity is s] for s in (Severity.ERROR, Severity.WARNING))
    slugs = ", ".join(dict.fromkeys(finding.slug for finding in errors or warnings))
    unrun = sum(check.status == "not_run" for check in report.checks)
    notes = report.count(Severity.NOTE)
    if errors:
        symbol, colour = SEVERITY[Severity.ERROR]
        words = f"broken: {slugs} ({plural(len(errors), 'error')}"
        words += f", {plural(len(warnings), 'warning')}" if warnings else ""
        words += "); what mends them stands under Findings"
    elif warnings:
        symbol, colour = SEVERITY[Severity.WARNING]
        words = f"nothing is broken, but {plural(len(warnings), 'warning')}: {slugs}"
    elif report.checks and unrun == len(report.checks):
        symbol, _, colour = VERDICT[Verdict.NOT_RUN]
        return Text(f"{symbol} no check was run", style=colour)
    else:
        symbol, _, colour = VERDICT[Verdict.OK]
        words = "nothing found broken"
    if not errors:
        words += f", {plural(notes, 'note')}" if notes else ""
    words += f"; {unrun} of {plural(len(report.checks), 'check')} NOT RUN" if unrun else ""
    return Text(f"{symbol} {words}", style=colour)


def _usable(implementations: tuple[Implementation, ...], *, gpus: bool) -> list[RenderableType]:
    """gpus: there are some, so that the limits which they miss are worth a word."""
    grid = _grid(3, labels="")
    for entry in sorted(implementations, key=lambda entry: entry.status is not Status.OK):
        symbol, word, colour = STATUS[entry.status]
        word = {Status.OK: "can run", Status.REJECTED: "cannot run"}.get(entry.status, word)
        short = (reason_line(replace(r, source="")) if gpus else first_line(r.text) for r in entry.reasons)
        reasons = Text("; ".join(short))
        if not entry.reasons:
            reasons = Text("nothing stands against it", style="dim")
        grid.add_row(Text(f"{symbol} {word}", style=colour), Text(entry.name, style="bold"), reasons)
    static = any(entry.basis is Basis.STATIC for entry in implementations)
    source = "  [static: versions and limits; attncheck compare measures]" if static else ""
    return [Text.assemble(("What can run here", "bold underline"), (source, "dim")), Padding(grid, (0, 0, 0, 2))]


def closing(report: Report) -> list[RenderableType]:
    """What stands below the findings: which checks ran, and why others did not."""
    grid = _grid(2, labels="")
    for label, words in check_lines(report):
        grid.add_row(label, words)
    return [Text("Checks", style="bold underline"), Padding(grid, (0, 0, 0, 2))] if grid.row_count else []


def check_lines(report: Report) -> list[tuple[Text, Text]]:
    """(what came of them, their names) of the checks; those that did not run by the reason."""
    ranks = {severity: [f.code for f in report.findings if f.severity is severity] for severity in _WORST_FIRST}
    found: dict[Severity, list[str]] = {}
    sound: list[str] = []
    unrun: dict[str, list[str]] = {}
    for check in report.checks:
        name = check_name(check.code)
        if check.status == "not_run":
            unrun.setdefault(check.reason, []).append(name)
        elif check.status == "ok":
            sound.append(name)
        else:
            worst = next((severity for severity, codes in ranks.items() if check.code in codes), Severity.NOTE)
            found.setdefault(worst, []).append(name)
    lines = [(_label(*SEVERITY[severity], severity.value), found[severity]) for severity in ranks if severity in found]
    symbol, _, colour = VERDICT[Verdict.OK]
    lines += [(_label(symbol, colour, "nothing found"), sound)] if sound else []
    told = [(label, Text(", ".join(names))) for label, names in lines]
    symbol, word, colour = VERDICT[Verdict.NOT_RUN]
    return [
        *told,
        *(
            (_label(symbol, colour, word), Text.assemble(f"{reason}: ", (", ".join(names), "dim")))
            for reason, names in unrun.items()
        ),
    ]


def _label(symbol: str, colour: str, word: str) -> Text:
    return Text(f"{symbol} {word}", style=colour)


def _grid(columns: int = 2, labels: str = "dim") -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(columns - 1):
        grid.add_column(style=labels, no_wrap=True)
    grid.add_column()
    return grid
