"""A baseline on a page: the known findings in one line, those that are gone in another."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from rich.text import Text

from attncheck.render.wording import plural
from attncheck.report import Report

#: Findings of each kind that a line names.
_NAMED = 6


def fresh(report: Report) -> Report:
    """The report without its known findings, for the pages that tell findings in full."""
    if report.baseline is None:
        return report
    return replace(report, findings=tuple(finding for finding in report.findings if not finding.known))


def lines(report: Report) -> list[Text]:
    """What the baseline knows, what is new, what is gone; empty without a baseline."""
    if (found := report.baseline) is None:
        return []
    slugs = Counter(finding.slug for finding in report.findings if finding.known)
    words = [f"{slug} ({count})" if count > 1 else slug for slug, count in slugs.most_common(_NAMED)]
    words += ["..."] if len(slugs) > _NAMED else []
    known = f"  known: {plural(found.known, 'finding')} of {found.file}{': ' if words else ''}{', '.join(words)}"
    told = [Text(f"{known}; new: {found.new or 'none'}", style="bold" if found.new else "dim")]
    if found.gone or found.unseen:
        gone = [_place(one.slug, one.implementation, one.scenario) for one in found.gone[:_NAMED]]
        gone += ["..."] if len(found.gone) > _NAMED else []
        text = f"  gone: {plural(len(found.gone), 'finding')}{': ' if gone else ''}{'; '.join(gone)}"
        text += f" (write {found.file} anew)" if found.gone else ""
        text += f"; {found.unseen} more were not looked for this time" if found.unseen else ""
        told.append(Text(text, style="dim"))
    return told


def _place(slug: str, implementation: str | None, scenario: str) -> str:
    place = ", ".join(part for part in (implementation, scenario) if part)
    return f"{slug} ({place})" if place else slug
