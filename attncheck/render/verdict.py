"""The answer in a line or two, for the top of the page: who is right where it matters, how much else there is."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from attncheck.checks.shapes import SHAPE_UNSUPPORTED
from attncheck.findings import Severity
from attncheck.render.finding_groups import groups
from attncheck.render.symbols import SEVERITY, STATUS, VERDICT
from attncheck.render.wording import BASIS_WORDS, plural
from attncheck.report import Report
from attncheck.verdicts import IS_REFERENCE, Cell, Implementation, Status, Verdict

#: How an implementation does in some scenarios, worst first.
_WRONG, _BROKE, _SILENT, _PARTLY, _RIGHT = (
    "wrong",
    "broke",
    "without a verdict",
    "right as far as it could be read",
    "right",
)
#: Of an implementation that ran on the tiny model alone.
TOO_LARGE = "refused at the model's true sizes"
_VERDICTS = {
    _WRONG: Verdict.MISMATCH,
    _BROKE: Verdict.ERROR,
    _SILENT: Verdict.UNKNOWN,
    _PARTLY: Verdict.OK,
    _RIGHT: Verdict.OK,
}


def lines(report: Report) -> list[Text]:
    """The verdict on the core scenarios, one on each other scenario with errors, and the count of findings."""
    if report.framework is not None:
        from attncheck.render import framework

        return [*framework.answer(report), counts(report)]
    if not report.matrix:
        return [counts(report)] if report.findings else []
    present = list(dict.fromkeys(cell.scenario for cell in report.matrix))
    core = [name for name in present if name in report.core_scenarios]
    label = "core" if len(core) == len(report.core_scenarios) else ", ".join(core)
    found = [_line(report, core, label)] if core else []
    wrong = {finding.scenario for finding in report.findings if finding.severity is Severity.ERROR}
    others = [name for name in present if name not in core and (name in wrong or not core)]
    together: dict[str, list[str]] = {}
    for name in others:
        together.setdefault(_answer(report, [name])[1].plain, []).append(name)
    found += [_line(report, names, ", ".join(names)) for names in together.values()]
    clean = not report.findings and not any(cell.verdict is Verdict.OK for cell in report.matrix)
    return found if clean else [*found, counts(report)]  # "no findings" would read as praise where nothing was judged


def refused_at_true_sizes(report: Report) -> list[str]:
    """Implementations that do well on the tiny model, but not on the real one: no kernel of theirs takes its sizes."""
    slug = SHAPE_UNSUPPORTED.slug
    sized = {f.implementation for f in report.findings if f.slug == slug and f.severity is Severity.ERROR}
    rejected = [entry.name for entry in report.implementations if entry.status is Status.REJECTED]
    return [name for name in rejected if name in sized]


def counts(report: Report) -> Text:
    """`! 0 errors, 20 warnings (7 kinds) in opt-in features, 1 note`."""
    worst = next((severity for severity in (Severity.ERROR, Severity.WARNING) if report.count(severity)), None)
    symbol, colour = SEVERITY[worst] if worst is not None else (VERDICT[Verdict.OK][0], VERDICT[Verdict.OK][2])
    text = Text(f"{symbol} ", style=colour)
    for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE):
        if severity is Severity.NOTE and not report.count(severity):
            continue
        text.append(", " if len(text.plain) > 2 else "")
        text.append(count(report, severity), style=SEVERITY[severity][1] if report.count(severity) else "")
    return text


def count(report: Report, severity: Severity) -> str:
    """`20 warnings (7 kinds) in opt-in features`."""
    found = [finding for finding in report.findings if finding.severity is severity]
    kinds = sum(group.lead.severity is severity for group in groups(report.findings))
    words = plural(len(found), severity.value)
    words += f" ({plural(kinds, 'kind')})" if len(found) > kinds > 0 else ""
    if severity is Severity.WARNING and found and all(_opt_in(report, finding.scenario) for finding in found):
        words += " in opt-in features"
    return words


def _opt_in(report: Report, scenario: str) -> bool:
    return bool(scenario) and scenario not in report.core_scenarios


def _line(report: Report, scenarios: Sequence[str], label: str) -> Text:
    state, words = _answer(report, scenarios)
    symbol, _, colour = VERDICT[_VERDICTS[state]]
    return Text.assemble((f"{symbol} {label}: ", colour), words)


def _answer(report: Report, scenarios: Sequence[str]) -> tuple[str, Text]:
    """The worst state of any implementation in these scenarios, and the sentence about all of them."""
    silent = [entry for entry in report.implementations if entry.status is Status.NOT_RUN and entry.basis is None]
    entries = [entry for entry in report.implementations if entry.status is not Status.REJECTED and entry not in silent]
    refused = [entry.name for entry in report.implementations if entry.status is Status.REJECTED]
    too_large = refused_at_true_sizes(report)
    states: dict[tuple[str, str], list[Implementation]] = {}
    for entry in entries:
        states.setdefault(_state(report, entry.name, scenarios), []).append(entry)
    ordered = sorted(states.items(), key=lambda item: list(_VERDICTS).index(item[0][0]))
    if not ordered:
        return _SILENT, Text("no implementation could be run", style=VERDICT[Verdict.UNKNOWN][2])
    sentence = Text()
    for (state, detail), having in ordered:
        who = ", ".join(entry.name for entry in having)
        if len(ordered) == 1 and len(entries) > 1:
            who = f"{'both' if len(entries) == 2 else f'all {len(entries)}'} implementations"
        sentence.append("; " if sentence else "")
        sentence.append(f"{who} {state}{detail}{_bases(state, having)}", style=VERDICT[_VERDICTS[state]][2])
    others = [name for name in refused if name not in too_large]
    sentence.append(f"; {', '.join(others)} rejected" if others else "")
    sentence.append(f"; {', '.join(too_large)} {TOO_LARGE}" if too_large else "", style=STATUS[Status.REJECTED][2])
    return ordered[0][0][0], sentence


def _bases(state: str, entries: Sequence[Implementation]) -> str:
    """` (3 measured, 1 predicted)`, the bare word where all rest on the same; empty where there is no verdict."""
    if state in (_BROKE, _SILENT):
        return ""
    words = [BASIS_WORDS[entry.basis] for entry in entries]
    kinds = list(dict.fromkeys(words))
    return f" ({kinds[0] if len(kinds) == 1 else ', '.join(f'{words.count(kind)} {kind}' for kind in kinds)})"


def _state(report: Report, name: str, scenarios: Sequence[str]) -> tuple[str, str]:
    slugs = dict.fromkeys(
        finding.slug
        for finding in report.findings
        if finding.severity is Severity.ERROR and finding.implementation == name and finding.scenario in scenarios
    )
    broke = "backend-unusable" in slugs
    if wrong := [slug for slug in slugs if slug != "backend-unusable"]:
        return _WRONG, f": {', '.join(wrong)}"
    cells = [cell for cell in report.matrix if cell.implementation == name and cell.scenario in scenarios]
    if broke or any(cell.verdict is Verdict.ERROR for cell in cells):
        return _BROKE, ""
    judged = [cell for cell in cells if not _needless(cell)]
    good = sum(cell.verdict in (Verdict.OK, Verdict.MISMATCH) for cell in judged)
    if not good:
        return _SILENT, ""
    seen = {cell.scenario for cell in cells}
    noted = dict.fromkeys(cell.difference or "" for cell in cells if cell.verdict is Verdict.MISMATCH)
    detail = f" apart from {', '.join(noted)}, a note only" if noted else ""
    return (_RIGHT if good == len(judged) and seen == set(scenarios) else _PARTLY), detail


def _needless(cell: Cell) -> bool:
    """True for a cell that nobody can expect a verdict of."""
    return cell.verdict is Verdict.NOT_APPLICABLE or cell.reason == IS_REFERENCE
