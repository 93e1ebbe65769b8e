"""The support matrix in Markdown: one table, a string of symbols an implementation, and the findings below."""

from __future__ import annotations

from collections.abc import Iterator

from attncheck.render import survey_summary, survey_words
from attncheck.render.markup import bullets, code, table, text
from attncheck.render.redact import redacted
from attncheck.surveyed import Row, Status, Survey


def text_of(survey: Survey) -> str:
    """The page, ending in a newline. Longer than an issue may be: it is made to lie in a repository."""
    survey = redacted(survey)
    plan = survey.plan
    blocks = [
        f"# Attention of transformers {text(plan.versions.get('transformers', ''))}",
        bullets(text(line) for line in survey_summary.answer(survey)),
        table(("", ""), ((text(label), text(words)) for label, words in survey_summary.facts(survey))),
        "## How to read it",
        "Each cell holds one symbol a scenario, in this order: " + ", ".join(plan.scenarios) + ".",
        table(("symbol", "", ""), ((mark, text(word), text(meaning)) for mark, word, meaning in survey_words.legend())),
        "## Support matrix",
        table(("model type", *plan.implementations), (_row(row, survey) for row in survey.surveyed)),
        "## Findings",
        *(block for row in survey.surveyed for block in _findings(row)),
        "## Not probed",
        *_missing(survey),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _row(row: Row, survey: Survey) -> tuple[str, ...]:
    cells = [f"`{survey_words.marks(row, name, survey.plan)}`" for name in survey.plan.implementations]
    told = any(finding.severity != "note" for finding in row.findings)
    heading = f"[{text(row.name)}](#{survey_words.anchor(row)})" if told else text(row.name)
    return heading, *cells


def _findings(row: Row) -> Iterator[str]:
    groups = [group for group in survey_words.together(row) if group.lead.severity != "note"]
    if not groups:
        return
    yield f'<a id="{survey_words.anchor(row)}"></a>\n### {text(row.name)}'
    lines = []
    for group in groups:
        lead = group.lead
        where = "; ".join(filter(None, (", ".join(group.implementations), ", ".join(group.scenarios), lead.part)))
        basis = f" ({lead.basis})" if lead.basis else ""
        shown = code(survey_words.command(row, group.implementations, group.scenarios))
        lines.append(f"**{lead.severity}** {code(lead.slug)}{basis}: {text(lead.message)} {text(where)}. {shown}")
    yield bullets(lines)


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
