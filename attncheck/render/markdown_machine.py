"""The facts about a machine in Markdown: what can run, the convention table, abilities, checks, the environment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attncheck.render import features, incident, readings
from attncheck.render.doctor import check_lines
from attncheck.render.installed import Fact, library_facts, machine_facts, torch_facts, variable_facts
from attncheck.render.markup import bullets, code, fold, table, text
from attncheck.render.symbols import STATUS, VERDICT
from attncheck.render.wording import reason_line
from attncheck.report import Report
from attncheck.semantics.convention import WINDOW
from attncheck.semantics.incident import WindowIncident
from attncheck.verdicts import Status, Verdict


def tables(report: Report) -> Iterator[tuple[str, str]]:
    """(name, block) of what stands above the findings of a doctor's report."""
    if report.model is not None:
        return
    if report.incident is not None:
        yield "the incident", _incident(report.incident)
    if report.implementations:
        yield "what can run here", "### What can run here\n\n" + _usable(report)
    rules = readings.rules(report.conventions)
    if rules:
        rows = [(text(r.api), text(r.means), code(r.write) or text(r.without), text(r.alignment)) for r in rules]
        shapes = readings.lengths_heading(report.conventions)
        heading = ("API", f"{WINDOW} is", "for W tokens write", shapes or "alignment")
        legend = f"W counts the query's own token, as {code('sliding_window=W')} of a causal model does."
        if lengths := readings.lengths_legend(report.conventions):
            legend += f" {text(lengths)}"
        parts = [f"### What a window of {WINDOW} means", legend, table(heading, rows)]
        parts += [text(remark) for remark in readings.remarks(report.conventions)]
        parts.append(_never(readings.never_ran(report.conventions)))
        yield "what window numbers mean", "\n\n".join(filter(None, parts))
    elif report.conventions:
        yield "what window numbers mean", _never(readings.never_ran(report.conventions))
    missing = {why: [part for part, same in report.missing.items() if same == why] for why in report.missing.values()}
    if missing:
        yield "what was not looked at", _never(missing)


def folded(report: Report) -> Iterator[tuple[str, str]]:
    """(name, block) of what stands below the findings, each in a fold."""
    blocks = readings.blocks(report.conventions)
    if blocks:
        shapes = readings.lengths_heading(report.conventions)
        parts = []
        for block in blocks:
            rows = []
            for row in block.rows:
                remarks = "".join(f"<br>{text(remark)}" for remark in row.remarks)
                numbers = (text(row.keys), text(row.back), text(row.ahead), text(row.alignment))
                rows.append((_symbol(row.mark), code(row.call) + remarks, *numbers))
            heading = ("", text(", ".join(block.apis)), "keys", "back", "ahead", shapes or "alignment")
            parts.append(table(heading, rows))
        words = f"{VERDICT[Verdict.OK][0]} as its documentation says, {VERDICT[Verdict.MISMATCH][0]} not"
        yield "every call of the convention table", fold("Every call that was read", [*parts, words])
    if report.abilities:
        answers = [
            (
                text(row.feature.replace("-", " ")),
                " ".join(filter(None, (_symbol(row.mark), text(row.value)))),
                "<br>".join([text(", ".join(row.apis)), *(text(remark) for remark in features.remarks(row))]),
            )
            for row in features.rows(report.abilities)
        ]
        parts = [table(("feature", "", "API"), answers), _never(features.never_ran(report.abilities))]
        yield "abilities", fold("What each API can do", parts)
    if report.checks:
        lines = bullets(f"{text(label.plain)} {text(words.plain)}" for label, words in check_lines(report))
        yield "checks", fold("Checks", [lines])


def environment(report: Report) -> list[str]:
    """Machine, libraries, torch and variables as tables with the source of each fact."""
    libraries, absent = library_facts(report.environment, report.inventory)
    parts = [_facts(machine_facts(report.environment)), _facts(libraries)]
    if absent:
        parts.append(f"not installed: {text(', '.join(absent))}")
    if report.torch is not None:
        parts.append(_facts(torch_facts(report.torch)))
    if variables := variable_facts(report.environment):
        parts.append(_facts(variables))
    return parts


def _incident(found: WindowIncident) -> str:
    corrected = f"{text(found.second)} {found.window + 1}"
    rows = [(text(what), code(same), code(fixed)) for what, same, fixed in incident.numbers(found)]
    kernels = [f"kernel of {text(api)}: {code(name)}" for api, name in found.kernels.items()]
    parts = [
        f"### One window number, two kernels ({text(incident.THREAD)})",
        f"measured: {text(found.shape)}",
        table(("", f"both {found.window}", corrected), rows),
        bullets(f"{text(pair)}: largest difference {incident.figure(value)}" for pair, value in found.others.items()),
        f"For a window of {found.window} tokens, the query's own included, write:",
        table(("API", "call"), [(text(api), code(call)) for api, call in incident.writing(found.window)]),
        bullets([*kernels, *(text(remark) for remark in found.remarks)]),
    ]
    return "\n\n".join(filter(None, parts))


def _facts(facts: Iterable[Fact]) -> str:
    rows = [
        (text(label), " ".join(filter(None, (code(fact), text(remark)))), text(where))
        for label, fact, remark, where in facts
    ]
    return table(("", "", "read from"), rows)


def _usable(report: Report) -> str:
    rows = []
    for entry in sorted(report.implementations, key=lambda entry: entry.status is not Status.OK):
        symbol, word, _ = STATUS[entry.status]
        word = {Status.OK: "can run", Status.REJECTED: "cannot run"}.get(entry.status, word)
        reasons = "; ".join(reason_line(reason) for reason in entry.reasons)
        rows.append((code(entry.name), text(f"{symbol} {word}"), text(reasons)))
    return table(("implementation", "", "reasons"), rows)


def _never(reasons: Mapping[str, Sequence[str]]) -> str:
    symbol, word, _ = VERDICT[Verdict.NOT_RUN]
    return bullets(f"{symbol} {word} {text(', '.join(names))}: {text(reason)}" for reason, names in reasons.items())


def _symbol(mark: Verdict | None) -> str:
    return "" if mark is None else VERDICT[mark][0]
