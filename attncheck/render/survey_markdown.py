"""The support matrix in Markdown: one table, a string of symbols an implementation, and the findings below."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from attncheck.render import survey_groups, survey_summary, survey_words
from attncheck.render.markup import bullets, code, table, text
from attncheck.render.redact import redacted
from attncheck.render.survey_groups import Group
from attncheck.surveyed import Plan, Row, Status, Survey


def text_of(survey: Survey) -> str:
    """The page, ending in a newline. Longer than an issue may be: it is made to lie in a repository."""
    survey = redacted(survey)
    plan = survey.plan
    blocks = [
        f"# Attention of transformers {text(plan.versions.get('transformers', ''))}",
        bullets(text(line) for line in survey_summary.answer(survey)),
        table(("", ""), ((text(label), text(words)) for label, words in survey_summary.facts(survey))),
        "## How to read it",
        "Each cell holds one symbol a scenario, in this order: " + ", ".join(plan.scenarios) + ". "
        "Symbols lead to their finding.",
        table(("symbol", "", ""), ((mark, text(word), text(meaning)) for mark, word, meaning in survey_words.legend())),
        "## Support matrix",
        table(("model type", *plan.implementations), (_row(row, plan) for row in survey.surveyed)),
        "## Findings",
        survey_words.commands_note(plan),
        *(block for row in survey.surveyed for block in _findings(row)),
        "## Not probed",
        *_missing(survey),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _row(row: Row, plan: Plan) -> tuple[str, ...]:
    heading = f"[{text(row.name)}](#{survey_groups.anchor(row)})" if row.findings else text(row.name)
    found = survey_groups.by_place(survey_groups.groups(row, evidence=False))
    return heading, *(_cells(row, name, plan, found) for name in plan.implementations)


def _cells(row: Row, implementation: str, plan: Plan, found: dict[tuple[str, str], list[Group]]) -> str:
    """The symbols of one implementation. A code span holds no links, so this is an element that looks like one."""
    cells = {cell.scenario: cell for cell in row.cells if cell.implementation == implementation}
    linked = []
    for scenario in plan.scenarios:
        cell = cells.get(scenario)
        group = survey_groups.behind(cell, found) if cell is not None else None
        mark = survey_words.symbol(cell).replace("~", "\\~").replace(survey_words.BLANK, "&nbsp;")
        linked.append(("" if group is None else group.anchor, mark))
    linked.insert(sum(scenario in plan.core for scenario in plan.scenarios), ("", " "))
    runs = [(at, "".join(mark for _, mark in run)) for at, run in groupby(linked, key=lambda entry: entry[0])]
    return f"<code>{''.join(f'[{run}](#{at})' if at else run for at, run in runs).strip()}</code>"


def _findings(row: Row) -> Iterator[str]:
    if not row.findings:
        return
    yield f'<a id="{survey_groups.anchor(row)}"></a>\n### {text(row.name)}'
    yield bullets(_finding(row, group) for group in survey_groups.groups(row, evidence=False))


def _finding(row: Row, group: Group) -> str:
    lead = group.lead
    part = f" ({text(lead.part)})" if lead.part else ""
    lines = [f'<a id="{group.anchor}"></a>**{lead.severity}** {code(lead.slug)}{part}: {text(lead.message)}']
    lines.append(text(group.where))
    if group.shown:
        lines.append(code(survey_groups.command(row, group)))
    return "<br>".join(filter(None, lines))


def _missing(survey: Survey) -> Iterator[str]:
    for status, title in (
        (Status.NOT_BUILT, "No tiny model could be built"),
        (Status.LOST, "The process died or took too long"),
    ):
        rows = [row for row in survey.rows if row.status is status]
        if rows:
            yield f"{title}:"
            yield bullets(f"{code(row.name)} {text(row.reason, 300)}" for row in rows)
    silent = [row.name for row in survey.rows if row.status is Status.NO_TEXT]
    if silent:
        yield f"No text model (images, audio, time series), {len(silent)}: {text(', '.join(silent), 100_000)}"
