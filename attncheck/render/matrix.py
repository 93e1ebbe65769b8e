"""The table of a report: one row a scenario, one column an implementation, a symbol and a word in each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.table import Table
from rich.text import Text

from attncheck.findings import Severity
from attncheck.frameworks.section import Kind
from attncheck.render import fit, reach
from attncheck.render.symbols import PREDICTED, SEVERITY, STATIC, STATUS, VERDICT
from attncheck.render.verdict import refused_at_true_sizes
from attncheck.render.wording import BASIS_WORDS, first_line, scenario_words
from attncheck.report import Report
from attncheck.semantics.observation import Basis
from attncheck.verdicts import IS_REFERENCE, Cell, Implementation, Verdict

#: Worst first: what a table cell says when its variants, parts and layers disagree.
_ORDER = (Verdict.MISMATCH, Verdict.ERROR, Verdict.UNKNOWN, Verdict.NOT_RUN, Verdict.OK, Verdict.NOT_APPLICABLE)
_WRONG = (Verdict.MISMATCH, Verdict.ERROR)
_GAP = 2
#: Slug of the finding that stands for an implementation which broke.
BROKEN = "backend-unusable"


@dataclass(frozen=True, slots=True)
class Column:
    """One implementation, or several whose cells say the same. detail: what they rest on."""

    names: tuple[str, ...]
    detail: str
    texts: tuple[Text, ...]

    @property
    def heading(self) -> tuple[Text, ...]:
        """The lines above the cells."""
        first, *others = self.names
        stem = first.rpartition("_")[0]
        if others and all(name.rpartition("_")[0] == stem for name in others):
            others = [f"and {', '.join(name.removeprefix(stem) for name in others)}"]
        return (*(Text(name, style="bold") for name in (first, *others)), Text(self.detail, style="dim"))

    def says_the_same(self, other: Column) -> bool:
        """True when the two can share one column without losing anything."""
        return self.detail == other.detail and self.texts == other.texts


def tables(report: Report, width: int) -> list[Table]:
    """The matrix as one table of at most `width` columns where that is possible.

    What does not fit is first shortened by letting equal neighbours share a column, then by breaking words at their
    hyphens, and at last split into several tables.
    """
    scenarios = scenario_order(report)
    columns = [_column(report, entry, scenarios) for entry in report.implementations if has_verdict(report, entry)]
    first = max((len(_scenario_label(name)) for name in scenarios), default=0)
    if _widths(columns, width - first, breaking=False) is None:
        columns = _shared(columns)
    blocks: list[list[Column]] = []
    for column in columns:
        if not blocks or _widths([*blocks[-1], column], width - first) is None:
            blocks.append([])
        blocks[-1].append(column)
    return [_table(report, scenarios, block, width - first) for block in blocks]


def _widths(columns: Sequence[Column], room: int, *, breaking: bool = True) -> tuple[int, list[int]] | None:
    """The gap before each column and the columns' widths; None where they do not fit."""
    texts = [(*column.heading, *column.texts) for column in columns]
    natural = [max(map(len, column)) for column in texts]
    for gap in (_GAP, 1):
        if sum(natural) + gap * len(natural) <= room:
            return gap, natural
    found = fit.widths(texts, room - len(natural)) if breaking else None
    return None if found is None else (1, found)


def has_verdict(report: Report, entry: Implementation) -> bool:
    """True when the implementation has a cell that says something: what never ran is told in words instead."""
    silent = (Verdict.NOT_RUN, Verdict.ERROR)
    return any(cell.implementation == entry.name and cell.verdict not in silent for cell in report.matrix)


def _shared(columns: Sequence[Column]) -> list[Column]:
    merged: list[Column] = []
    for column in columns:
        if merged and merged[-1].says_the_same(column):
            merged[-1] = replace(merged[-1], names=(*merged[-1].names, *column.names))
        else:
            merged.append(column)
    return merged


def scenario_order(report: Report) -> list[str]:
    """Scenarios that have a cell: the core ones first, in the order the report gives."""
    present = {cell.scenario for cell in report.matrix}
    wanted = [*report.core_scenarios, *(s for s in report.scenarios if s not in report.core_scenarios)]
    return [*(s for s in wanted if s in present), *sorted(present - set(wanted))]


def footnotes(report: Report) -> list[tuple[Text, Text]]:
    """Why cells say NOT RUN, unknown, broke or n/a: (label, text) for each kind of reason, with where it applies.

    Below them, what was read where nothing is declared to hold it against.
    """
    where: dict[tuple[Verdict, str], dict[str, list[str]]] = {}
    told = {(entry.name, reason.text) for entry in report.implementations for reason in entry.reasons}
    for cell in report.matrix:
        silent = cell.verdict in (Verdict.OK, Verdict.MISMATCH) or not cell.reason or cell.reason == IS_REFERENCE
        if silent or (cell.verdict is Verdict.ERROR and _broken(report, cell.implementation, cell.scenario)):
            continue
        if not _in_table(report, cell.implementation) and any(
            name == cell.implementation and text in cell.reason for name, text in told
        ):
            continue
        scenarios = where.setdefault((cell.verdict, cell.reason), {}).setdefault(cell.implementation, [])
        if cell.scenario not in scenarios:
            scenarios.append(cell.scenario)
    reasons: dict[tuple[Verdict, str], list[str]] = {}
    for (verdict, reason), places in where.items():
        reasons.setdefault((verdict, _places(places, report.core_scenarios)), []).append(reason)
    lines = []
    for (verdict, place), texts in sorted(reasons.items(), key=lambda item: _ORDER.index(item[0][0])):
        symbol, word, colour = VERDICT[verdict]
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        lines.append(
            (Text(f"{symbol} {word}", style=colour), Text.assemble((place, "bold"), f": {first_line(texts[0])}{more}"))
        )
    return [*lines, *reach.lines(report)]


def _broken(report: Report, implementation: str, scenario: str) -> bool:
    """True when a finding stands for the crash."""
    return any((f.implementation, f.scenario, f.slug) == (implementation, scenario, BROKEN) for f in report.findings)


def _in_table(report: Report, name: str) -> bool:
    return any(entry.name == name and has_verdict(report, entry) for entry in report.implementations)


def _places(places: dict[str, list[str]], core: Sequence[str]) -> str:
    together: dict[str, list[str]] = {}
    for name, scenarios in places.items():
        together.setdefault(scenario_words(scenarios, core), []).append(name)
    return "; ".join(f"{scenarios} ({', '.join(names)})" for scenarios, names in together.items())


def _column(report: Report, entry: Implementation, scenarios: Sequence[str]) -> Column:
    detail = STATUS[entry.status][1] if entry.basis is None else BASIS_WORDS[entry.basis]
    detail += ", tiny only" if entry.name in refused_at_true_sizes(report) else ", default" if entry.default else ""
    return Column((entry.name,), detail, tuple(cell_text(report, entry.name, scenario) for scenario in scenarios))


def cell_text(report: Report, implementation: str, scenario: str) -> Text:
    """The one text of all cells of an implementation in a scenario. Nothing that did not run counts as ok.

    Of a framework that calls kernels itself the one that it selects decides; the others follow where it is right.
    """
    cells = [cell for cell in report.matrix if (cell.implementation, cell.scenario) == (implementation, scenario)]
    if report.framework is None or (report.framework.name, report.framework.kind) != (implementation, Kind.OWN):
        return _cell_text(report, cells, implementation, scenario)
    text = _cell_text(report, [cell for cell in cells if not cell.kernel], implementation, scenario)
    bad = dict.fromkeys(cell.kernel for cell in cells if cell.kernel and cell.verdict in _WRONG)
    if bad and not any(cell.verdict in _WRONG for cell in cells if not cell.kernel):
        text.append(f", but not {', '.join(bad)}", style="dim")
    return text


def _cell_text(report: Report, cells: Sequence[Cell], implementation: str, scenario: str) -> Text:
    if not cells:
        symbol, word, colour = VERDICT[Verdict.NOT_RUN]
        return Text(f"{symbol} {word}", style=colour)
    if all(cell.reason == IS_REFERENCE for cell in cells):
        symbol, _, colour = VERDICT[Verdict.NOT_APPLICABLE]
        return Text(f"{symbol} reference", style=colour)
    verdict = next(v for v in _ORDER if any(cell.verdict is v for cell in cells))
    shown = [cell for cell in cells if cell.verdict is verdict]
    symbol, word, colour = VERDICT[verdict]
    if verdict is Verdict.ERROR and _broken(report, implementation, scenario):
        symbol, colour = SEVERITY[_severity(report, implementation, scenario, BROKEN)]
    if verdict is Verdict.MISMATCH:
        slugs = sorted(
            {cell.difference or word for cell in shown}, key=lambda slug: _rank(report, implementation, scenario, slug)
        )
        symbol, colour = SEVERITY[_severity(report, implementation, scenario, slugs[0])]
        word = slugs[0] + (f" +{len(slugs) - 1}" if len(slugs) > 1 else "")
    elif verdict in (Verdict.NOT_RUN, Verdict.UNKNOWN) and any(cell.verdict is Verdict.OK for cell in cells):
        return _mixed(cells, verdict)
    return Text(_basis_mark(shown) + f"{symbol} {word}", style=colour)


def _mixed(cells: Sequence[Cell], verdict: Verdict) -> Text:
    """Some is right, some without a verdict: which part that is, or how many of each in one and the same part."""
    good = [cell for cell in cells if cell.verdict is Verdict.OK]
    rest = [cell for cell in cells if cell.verdict is verdict]
    _, word, colour = VERDICT[verdict]
    symbol, ok, ok_colour = VERDICT[Verdict.OK]
    start = f"{_basis_mark(good)}{symbol} "
    parts = [part.value for part in dict.fromkeys(cell.part for cell in rest) if part is not None]
    if parts and not {cell.part for cell in good} & {cell.part for cell in rest}:
        return Text.assemble((start + ok, ok_colour), (f", {', '.join(parts)} {word}", colour))
    return Text.assemble((f"{start}{len(good)} {ok}", ok_colour), (f", {len(rest)} {word}", colour))


def _basis_mark(cells: Sequence[Cell]) -> str:
    bases = {cell.basis for cell in cells}
    return PREDICTED if Basis.PREDICTED in bases else STATIC if Basis.STATIC in bases else ""


def _severity(report: Report, implementation: str, scenario: str, slug: str) -> Severity:
    """As the finding of that mismatch says; an error where no finding stands for it."""
    found = [
        finding.severity
        for finding in report.findings
        if (finding.implementation, finding.scenario, finding.slug) == (implementation, scenario, slug)
    ]
    return max(found, key=lambda severity: severity.rank, default=Severity.ERROR)


def _rank(report: Report, implementation: str, scenario: str, slug: str) -> tuple[int, str]:
    return -_severity(report, implementation, scenario, slug).rank, slug


def _scenario_label(name: str) -> str:
    return f"  {name}"


def _table(report: Report, scenarios: Sequence[str], block: Sequence[Column], room: int) -> Table:
    natural = [max(map(len, (*column.heading, *column.texts))) for column in block]
    gap, sizes = _widths(block, room) or (1, natural)
    table = Table(box=None, pad_edge=False, padding=(0, 0, 0, gap), show_edge=False, header_style="")
    table.add_column("", no_wrap=True)
    headings = [Text("\n").join([fit.broken(line, size) for line in c.heading]) for c, size in zip(block, sizes)]
    tallest = max(heading.plain.count("\n") for heading in headings)
    for heading in headings:
        # rich's own vertical alignment would also move the cells.
        table.add_column(Text("\n" * (tallest - heading.plain.count("\n"))) + heading, no_wrap=True, overflow="fold")
    group = None
    for index, scenario in enumerate(scenarios):
        core = scenario in report.core_scenarios
        if core != group:
            group = core
            table.add_row(Text("core" if core else "opt-in", style="dim"))
        cells = (fit.broken(column.texts[index], size) for column, size in zip(block, sizes))
        table.add_row(_scenario_label(scenario), *cells)
    return table
