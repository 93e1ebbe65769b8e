"""Findings in the HTML report: one card a slug and severity with masks, evidence, fix and reproduction to copy."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attncheck.findings import Finding, Recommendation, Severity
from attncheck.render import html_masks
from attncheck.render.finding_groups import Group, groups
from attncheck.render.findings import places
from attncheck.render.html_markup import Html, bullets, code, coloured, copyable, facts, fold, join, tag
from attncheck.render.markup import clipped
from attncheck.render.sides import first_difference, sides
from attncheck.render.symbols import SEVERITY
from attncheck.render.wording import first_line, plural
from attncheck.report import Report

#: Messages of one card and places of one message; the JSON report has them all.
_MESSAGES = 12
_PLACES = 30
_FIXES = 8
#: Of those, how many are not in a fold.
_OPEN_FIXES = 3
_LONGEST_FIGURE = 400
#: Characters of all pictures of a page, so that it stays below a megabyte whatever the masks are.
_PICTURES = 400_000


def findings(report: Report) -> Html:
    """Every group, the worst first; notes are folded."""
    pictures = _Pictures()
    return join(_card(group, report, pictures) for group in groups(report.findings))


def anchor(slug: str, severity: Severity) -> str:
    """The id of a card."""
    return f"finding-{severity.value}-{re.sub(r'[^a-z0-9]+', '-', slug.lower())}"


class _Pictures:
    """Draws masks as long as there is room in the page."""

    def __init__(self) -> None:
        self._room = _PICTURES
        self._too_large = html_masks.CELLS**2 + 1

    def of(self, finding: Finding) -> Html:
        evidence = finding.evidence
        where = [finding.implementation or "", finding.scenario, finding.variant]
        row = evidence.first_difference[0] if evidence.first_difference is not None else 0
        caption = ", ".join(filter(None, [*where, f"batch row {row}" if row else ""]))
        cells = html_masks.cells(evidence)
        # Drawing takes longer than all else: where one did not fit, those of its size are not even tried.
        picture = html_masks.figure(evidence, caption) if cells < self._too_large else Html()
        if cells >= self._too_large or len(picture) > self._room:
            self._too_large = min(self._too_large, cells)
            return tag(
                "p", "Its picture is left out to keep this page small; the JSON report has the masks.", class_="dim"
            )
        self._room -= len(picture)
        return picture


def _card(group: Group, report: Report, pictures: _Pictures) -> Html:
    lead = group.lead
    symbol, colour = SEVERITY[lead.severity]
    title = tag(
        "h3",
        coloured(f"{symbol} {lead.severity.value}", colour),
        " ",
        tag("span", lead.slug, class_="slug"),
        " ",
        tag("span", lead.code, class_="dim"),
    )
    summary = [title]
    if lead.severity is Severity.NOTE:
        summary += [Html(" "), tag("span", clipped(first_line(lead.headline or lead.message), 300), class_="said")]
    return tag(
        "details",
        tag("summary", *summary),
        *_body(group, report, pictures),
        class_=f"finding {lead.severity.value}",
        id=anchor(lead.slug, lead.severity),
        open=None if lead.severity is Severity.NOTE else "open",
    )


def _body(group: Group, report: Report, pictures: _Pictures) -> Iterator[Html]:
    lead = group.lead
    by_message = group.by_message()
    for same in list(by_message.values())[:_MESSAGES]:
        first = same[0]
        yield tag("p", clipped(first.headline or first.message), class_="message")
        where = [line.plain for line in places(same, report)]
        more = [f"and {len(where) - _PLACES} more places"] if len(where) > _PLACES else []
        yield bullets([*where[:_PLACES], *more], class_="places")
        yield pictures.of(next((finding for finding in same if finding.evidence.declared_mask is not None), first))
        yield _evidence(first)
    if (left := len(by_message) - _MESSAGES) > 0:
        yield tag("p", f"... and {left} more like it; the JSON report lists them all.", class_="dim")
    if group.also:
        used = "; ".join(line.plain for line in places(group.also, report))
        yield tag("p", f"The same in opt-in features: {used}", class_="dim")
    yield from _fixes(group)
    found = next((finding for finding in group.findings if finding.reproduction.strip()), None)
    if found is not None:
        yield tag("h4", "Reproduce")
        yield copyable(found.reproduction, f"the command that reproduces {lead.slug}")
    yield tag("p", "How this is measured, and why it matters: ", code(f"attncheck explain {lead.slug}"), class_="dim")


def _evidence(finding: Finding) -> Html:
    """What the verdict rests on; the figures in a fold."""
    evidence = finding.evidence
    declared, effective = sides(finding)
    rows = [
        (declared, evidence.declared),
        ("requested", evidence.requested),
        (effective, evidence.effective),
        ("first difference", first_difference(finding)),
    ]
    shown = facts((name, clipped(value)) for name, value in rows if value)
    figures = facts((name, clipped(_figure(value), _LONGEST_FIGURE)) for name, value in evidence.figures.items())
    if figures:
        figures = fold(plural(len(evidence.figures), "more detail"), figures)
    return join([tag("h4", "Evidence"), shown, figures]) if shown or figures else Html()


def _figure(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _fixes(group: Group) -> Iterator[Html]:
    """Every distinct recommendation with the first way to paste it; of those with one paste, the first."""
    advice: dict[str, Recommendation] = {}
    for entry in (entry for finding in group.findings for entry in finding.recommendations):
        advice.setdefault(entry.paste or entry.text, entry)
    if advice:
        yield tag("h4", "Fix" if len(advice) == 1 else "Fix: any one of these, for the case that it names")
    ways = [_way(entry, group, number) for number, entry in enumerate(list(advice.values())[:_FIXES], 1)]
    if len(advice) > _FIXES:
        ways.append(tag("p", f"and {plural(len(advice) - _FIXES, 'more way')} in the JSON report", class_="dim"))
    first = len(ways) if len(ways) <= _OPEN_FIXES + 1 else _OPEN_FIXES
    yield from ways[:first]
    if ways[first:]:
        yield fold(plural(len(advice) - first, "more way"), *ways[first:])


def _way(entry: Recommendation, group: Group, number: int) -> Html:
    paste = copyable(entry.paste, f"the fix of {group.lead.slug}, way {number}") if entry.paste else Html()
    return join([tag("p", clipped(entry.text)), paste])
