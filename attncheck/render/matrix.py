"""The table of a report: one row a scenario, one column an implementation, a symbol and a word in each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.table import Table
from rich.text import Text

from attncheck.findings import Severity
from attncheck.render.symbols import PREDICTED, SEVERITY, STATIC, STATUS, VERDICT
from attncheck.render.wording import BASIS_WORDS, first_line
from attncheck.report import Report
from attncheck.semantics.observation import Basis
from attncheck.verdicts import Cell, Implementation, Verdict

#: Worst first: what a table cell says when its variants, parts and layers disagree.
_ORDER = (Verdict.MISMATCH, Verdict.ERROR, Verdict.UNKNOWN, Verdict.NOT_RUN, Verdict.OK, Verdict.NOT_APPLICABLE)
_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One implementation, or several whose cells say the same. detail: what they rest on."""

    names: tuple[str, ...]
    detail: str
    texts: tuple[Text, ...]

    @property
    def width(self) -> int:
        """Natural width in characters: the widest of headings and cells."""
        return max(len(line) for line in (*self.names, self.detail, *(text.plain for text in self.texts)))

    def says_the_same(self, other: Column) -> bool:
        """True when the two can share one column without losing anything."""
        return self.detail == other.detail and self.texts == other.texts


def tables(report: Report, width: int) -> list[Table]:
    """The matrix as one table of at most `width` columns where that is possible.

    What does not fit is first shortened by letting equal neighbours share a column, then split into several tables.
    """
    scenarios = scenario_order(report)
    columns = [_column(report, entry, scenarios) for entry in report.implementations if has_verdict(report, entry)]
    first = max((len(_scenario_label(name)) for name in scenarios), default=0) + _GAP
    if first + sum(column.width + _GAP for column in columns) - _GAP > width:
        columns = _shared(columns)
    blocks: list[list[Column]] = []
    room = 0
    for column in columns:
        if not blocks or column.width > room:
            blocks.append([])
            room = width - first
        blocks[-1].append(column)
        room -= column.width + _GAP
    return [_table(report, scenarios, block) for block in blocks]


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
    """Why cells say NOT RUN, unknown, broke or n/a: (label, text) for each kind of reason, with where it applies."""
    where: dict[tuple[Verdict, str], dict[str, list[str]]] = {}
    told = {(entry.name, reason.text) for entry in report.implementations for reason in entry.reasons}
    for cell in report.matrix:
        silent = cell.verdict in (Verdict.OK, Verdict.MISMATCH) or not cell.reason
        if silent or (not _in_table(report, cell.implementation) and (cell.implementation, cell.reason) in told):
            continue
        scenarios = where.setdefault((cell.verdict, cell.reason), {}).setdefault(cell.implementation, [])
        if cell.scenario not in scenarios:
            scenarios.append(cell.scenario)
    reasons: dict[tuple[Verdict, str], list[str]] = {}
    for (verdict, reason), places in where.items():
        reasons.setdefault((verdict, _places(places)), []).append(reason)
    lines = []
    for (verdict, place), texts in sorted(reasons.items(), key=lambda item: _ORDER.index(item[0][0])):
        symbol, word, colour = VERDICT[verdict]
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        lines.append(
            (Text(f"{symbol} {word}", style=colour), Text.assemble((place, "bold"), f": {first_line(texts[0])}{more}"))
        )
    return lines


def _in_table(report: Report, name: str) -> bool:
    return any(entry.name == name and has_verdict(report, entry) for entry in report.implementations)


def _places(places: dict[str, list[str]]) -> str:
    same = {tuple(scenarios) for scenarios in places.values()}
    if len(same) == 1:
        return (
            f"{', '.join(same.pop())} ({', '.join(places)})" if len(places) > 1 else _place(*next(iter(places.items())))
        )
    return "; ".join(_place(name, scenarios) for name, scenarios in places.items())


def _place(implementation: str, scenarios: Sequence[str]) -> str:
    return f"{', '.join(scenarios)} ({implementation})"


def _column(report: Report, entry: Implementation, scenarios: Sequence[str]) -> Column:
    name = f"{entry.name} (default)" if entry.default else entry.name
    detail = STATUS[entry.status][1] if entry.basis is None else BASIS_WORDS[entry.basis]
    return Column((name,), detail, tuple(cell_text(report, entry.name, scenario) for scenario in scenarios))


def cell_text(report: Report, implementation: str, scenario: str) -> Text:
    """The one text of all cells of an implementation in a scenario. Nothing that did not run counts as ok."""
    cells = [cell for cell in report.matrix if (cell.implementation, cell.scenario) == (implementation, scenario)]
    if not cells:
        symbol, word, colour = VERDICT[Verdict.NOT_RUN]
        return Text(f"{symbol} {word}", style=colour)
    verdict = next(v for v in _ORDER if any(cell.verdict is v for cell in cells))
    shown = [cell for cell in cells if cell.verdict is verdict]
    symbol, word, colour = VERDICT[verdict]
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


def _table(report: Report, scenarios: Sequence[str], block: Sequence[Column]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for column in block:
        names = [(f"{name}\n", "bold") for name in column.names]
        table.add_column(Text.assemble(*names, (column.detail, "not bold dim")), no_wrap=True, vertical="bottom")
    group = None
    for index, scenario in enumerate(scenarios):
        core = scenario in report.core_scenarios
        if core != group:
            group = core
            table.add_row(Text("core" if core else "opt-in", style="dim"))
        table.add_row(_scenario_label(scenario), *(column.texts[index] for column in block))
    return table
