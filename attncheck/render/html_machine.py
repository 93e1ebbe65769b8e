"""The facts about a machine in HTML: what can run, the convention table, abilities, checks, the incident, versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from attncheck.render import features, incident, readings
from attncheck.render.doctor import check_lines
from attncheck.render.html_markup import Html, bullets, code, coloured, facts, fold, join, table, tag, words
from attncheck.render.installed import Fact, library_facts, machine_facts, torch_facts, variable_facts
from attncheck.render.symbols import STATUS, VERDICT
from attncheck.render.wording import first_line, plural, reason_line
from attncheck.report import Report
from attncheck.semantics.convention import WINDOW
from attncheck.semantics.incident import WindowIncident
from attncheck.verdicts import Status, Verdict


def above(report: Report) -> Iterator[tuple[str, str, Html]]:
    """(id, title, content) of what stands above the findings of a report about the machine."""
    if report.incident is not None:
        yield "incident", f"One window number, two kernels ({incident.THREAD})", _incident(report.incident)
    if report.implementations:
        yield "usable", "What can run here", _usable(report)
    if rules := _rules(report):
        yield "conventions", f"What a window of {WINDOW} means", rules
    missing = {why: [part for part, same in report.missing.items() if same == why] for why in report.missing.values()}
    if missing:
        yield "missing", "Not looked at", _never(missing)


def below(report: Report) -> Iterator[tuple[str, str, Html]]:
    """(id, title, content) of what stands below the findings."""
    if calls := _calls(report):
        yield "calls", "Every call that was read", calls
    if report.abilities:
        yield "abilities", "What each API can do", _abilities(report)
    if report.checks:
        lines = [join([words(label), " ", words(said)]) for label, said in check_lines(report)]
        yield "checks", "Checks", bullets(lines)


def environment(report: Report) -> Html:
    """Machine, libraries, torch and variables with the source of each fact."""
    libraries, absent = library_facts(report.environment, report.inventory)
    parts = [_facts("Machine", machine_facts(report.environment)), _facts("Libraries", libraries)]
    if absent:
        parts.append(tag("p", f"not installed: {', '.join(absent)}", class_="dim"))
    if report.torch is not None:
        parts.append(_facts("torch, as it sees itself", torch_facts(report.torch)))
    parts.append(_facts("Environment variables", variable_facts(report.environment)))
    return join(parts)


def _facts(title: str, found: Iterable[Fact]) -> Html:
    rows = []
    for label, fact, remark, where in found:
        source = tag("span", f"[{where}]", class_="dim") if where else ""
        rows.append((label, join(filter(None, (code(fact), remark, source)), " ")))
    return join([tag("h3", title), facts(rows)]) if rows else Html()


def _usable(report: Report) -> Html:
    rows = []
    for entry in sorted(report.implementations, key=lambda entry: entry.status is not Status.OK):
        symbol, word, colour = STATUS[entry.status]
        word = {Status.OK: "can run", Status.REJECTED: "cannot run"}.get(entry.status, word)
        gpus = bool(report.environment.gpus)
        short = (reason_line(replace(r, source="")) if gpus else first_line(r.text) for r in entry.reasons)
        rows.append((code(entry.name), coloured(f"{symbol} {word}", colour), "; ".join(short)))
    return table(("implementation", "", "reasons"), rows, label="What can run here", class_="stack unlabelled")


def _rules(report: Report) -> Html:
    """What to write for W tokens, one row an API; why there is none where nothing was read."""
    rules = readings.rules(report.conventions)
    shapes = readings.lengths_heading(report.conventions)
    rows = [(code(r.api), r.means, code(r.write) or r.without, r.alignment) for r in rules]
    headings = ("API", f"{WINDOW} is", "for W tokens write", shapes or "alignment")
    grid = table(headings, rows, label="What to write for a window of W tokens")
    never = _never(readings.never_ran(report.conventions))
    if not grid:
        return never
    lengths = readings.lengths_legend(report.conventions)
    legend = tag(
        "p", "W counts the query's own token, as ", code("sliding_window=W"), " of a causal model does. ", lengths
    )
    below = [tag("p", remark, class_="dim") for remark in readings.remarks(report.conventions)]
    return join([legend, grid, *below, never])


def _calls(report: Report) -> Html:
    """The convention table in full, one fold a block."""
    shapes = readings.lengths_heading(report.conventions) or "alignment"
    parts = []
    for block in readings.blocks(report.conventions):
        rows = []
        for row in block.rows:
            remarks = (tag("span", remark, class_="remark") for remark in row.remarks)
            call = join([code(row.call), *remarks])
            rows.append((call, _mark(row.mark), row.keys, row.back, row.ahead, row.alignment))
        title = ", ".join(block.apis)
        wrong = sum(row.mark is Verdict.MISMATCH for row in block.rows)
        counts = plural(len(block.rows), "call") + (f", {wrong} not as documented" if wrong else "")
        headings = ("call", "", "keys", "back", "ahead", shapes)
        grid = table(headings, rows, label=f"Calls of {title}", numeric=(2, 3, 4), class_="calls")
        parts.append(fold(f"{title}: {counts}", grid))
    return join([*parts, _meaning(report)]) if parts else Html()


def _meaning(report: Report) -> Html:
    marks = {row.mark for block in readings.blocks(report.conventions) for row in block.rows}
    meanings = {
        Verdict.OK: "does what its documentation says",
        Verdict.MISMATCH: "does not",
        Verdict.NOT_APPLICABLE: "refused by the library",
        Verdict.ERROR: "the library broke",
    }
    told = [join([_mark(mark), " ", meaning]) for mark, meaning in meanings.items() if mark in marks]
    return bullets(told)


def _abilities(report: Report) -> Html:
    rows = []
    last = ""
    for row in features.rows(report.abilities):
        name = "" if row.feature == last else row.feature.replace("-", " ")
        last = row.feature
        remarks = (tag("span", remark, class_="remark") for remark in features.remarks(row))
        rows.append((name, join([_mark(row.mark), " ", row.value]), join([row.who, *remarks])))
    grid = table(("feature", "answer", "API"), rows, label="What each API can do", class_="wide")
    return join([grid, _never(features.never_ran(report.abilities))])


def _incident(found: WindowIncident) -> Html:
    numbers = [(what, code(same), code(fixed)) for what, same, fixed in incident.numbers(found)]
    headings = ("", f"both {found.window}", f"{found.second} {found.window + 1}")
    writing = [(api, code(call)) for api, call in incident.writing(found.window)]
    others = [f"{pair}: largest difference {incident.figure(value)}" for pair, value in found.others.items()]
    kernels = [join([f"kernel of {api}: ", code(name)]) for api, name in found.kernels.items()]
    return join(
        [
            facts([("measured", found.shape)]),
            table(headings, numbers, label="The same number and the corrected one", class_="wide"),
            bullets(others),
            tag("h3", f"What to write for a window of {plural(found.window, 'token')}, the query's own included"),
            table(("API", "call"), writing, label="What to write", class_="stack unlabelled"),
            bullets([*kernels, *found.remarks]),
        ]
    )


def _never(reasons: Mapping[str, Sequence[str]]) -> Html:
    symbol, word, colour = VERDICT[Verdict.NOT_RUN]
    return bullets(
        join([coloured(f"{symbol} {word}", colour), " ", tag("strong", ", ".join(names)), f": {reason}"])
        for reason, names in reasons.items()
    )


_WORDS = {
    Verdict.OK: "ok",
    Verdict.MISMATCH: "wrong",
    Verdict.ERROR: "broke",
    Verdict.NOT_APPLICABLE: "refused",
    Verdict.NOT_RUN: "NOT RUN",
}


def _mark(mark: Verdict | None) -> Html:
    if mark is None:
        return Html()
    symbol, word, colour = VERDICT[mark]
    return coloured(f"{symbol} {_WORDS.get(mark, word)}", colour)
