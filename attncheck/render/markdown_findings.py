"""Findings in Markdown: one fold a slug, the worst first, each with evidence, fix and reproduction to copy."""

from __future__ import annotations

from collections.abc import Iterator

from attncheck.findings import Finding, Severity
from attncheck.render.finding_groups import Group, groups
from attncheck.render.findings import places
from attncheck.render.markup import bullets, code, fenced, fold, table, text
from attncheck.render.picture import picture
from attncheck.render.sides import distinct, first_difference, sides
from attncheck.render.symbols import SEVERITY
from attncheck.render.wording import first_line, headline_lines, plural
from attncheck.report import Report

_MESSAGES = 6
_PLACES = 20
_FIXES = 6
_PICTURE_WIDTH = 80


def folds(report: Report) -> Iterator[tuple[str, str, str]]:
    """(block, a short form of it, its name) of each group of findings."""
    for group in groups(report.findings):
        lead = group.lead
        symbol, _ = SEVERITY[lead.severity]
        strong = f"{symbol} {lead.severity.value} {lead.slug} {lead.code}"
        summary = first_line(lead.headline or lead.message)
        count = len(group.findings)
        if count > 1:
            summary += f" ({plural(count, 'finding')})"
        block = fold(summary, _body(group, first_line(lead.headline or lead.message), report), strong=strong)
        short = f"- **{text(strong)}** {text(summary, 300)}"
        yield block, short, f"details of {lead.slug}"


def _body(group: Group, summary: str, report: Report) -> Iterator[str]:
    """summary: what is said already."""
    lead = group.lead
    by_message = group.by_message()
    for number, same in enumerate(list(by_message.values())[:_MESSAGES]):
        head, *entries = headline_lines(same[0].headline)
        if entries:
            yield f"{text(head)}\n\n{bullets(text(entry[2:]) for entry in entries)}"
        elif number or same[0].message != summary:
            yield text(same[0].message)
        where = [text(line.plain) for line in places(same, report)]
        yield bullets([*where[:_PLACES], *([f"and {len(where) - _PLACES} more"] if len(where) > _PLACES else [])])
        yield _evidence(same[0])
        if not number:
            yield _picture(lead)
    if (more := len(by_message) - _MESSAGES) > 0:
        yield f"... and {more} more like it; `--format json` lists them all."
    if group.also:
        used = "; ".join(line.plain for line in places(group.also, report))
        yield f"The same in opt-in features: {text(used)}"
    yield from _fixes(group)
    found = next((finding for finding in group.findings if finding.reproduction.strip()), None)
    if found is not None:
        script = found.reproduction.lstrip().startswith(("import ", "from "))
        yield "**Reproduce**"
        yield fenced(found.reproduction, "python" if script else "")
    if lead.severity is not Severity.NOTE:
        yield f"`attncheck explain {lead.slug}` says how this is measured."


def _evidence(finding: Finding) -> str:
    evidence = finding.evidence
    declared, effective = sides(finding)
    rows = [
        (declared, evidence.declared),
        ("requested", evidence.requested),
        (effective, evidence.effective),
        ("first difference", first_difference(finding)),
        *((name, str(value)) for name, value in evidence.figures.items()),
    ]
    return table(("evidence", ""), [(text(name), code(value)) for name, value in rows if value])


def _picture(finding: Finding) -> str:
    evidence = finding.evidence
    if evidence.declared_mask is None or evidence.effective_mask is None:
        return ""
    query = evidence.first_difference[1] if evidence.first_difference is not None else None
    lines = picture(
        evidence.declared_mask, evidence.effective_mask, colour=False, first_query=query, width=_PICTURE_WIDTH
    )
    return fenced("\n".join(line.plain for line in lines), "text") if lines else ""


def _fixes(group: Group) -> Iterator[str]:
    """Every distinct recommendation with the first way to paste it."""
    for number, entry in enumerate(distinct(group.findings)[:_FIXES]):
        yield f"**{'Or' if number else 'Fix'}:** {text(entry.text)}"
        if entry.paste:
            yield fenced(entry.paste)
