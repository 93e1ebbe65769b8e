"""What the table of a `compare` report cannot say of an implementation, and what its marks mean."""

from __future__ import annotations

from rich.text import Text

from attncheck.findings import Severity
from attncheck.render.matrix import has_verdict
from attncheck.render.symbols import PREDICTED, SEVERITY, STATIC, STATUS
from attncheck.render.wording import BASIS_WORDS, first_line
from attncheck.report import Report
from attncheck.semantics.observation import Basis
from attncheck.verdicts import Implementation, Status, Verdict


def asides(report: Report) -> list[tuple[Text, Text]]:
    """(label, text) of each implementation that was refused, broke, never ran, or is only predicted."""
    return [found for entry in report.implementations if (found := _aside(entry, report)) is not None]


def legend(report: Report) -> list[tuple[Text, Text]]:
    """(mark, meaning) of the marks in front of verdicts that are not measured."""
    bases = {cell.basis for cell in report.matrix if cell.verdict in (Verdict.OK, Verdict.MISMATCH)}
    words = {
        Basis.PREDICTED: (
            PREDICTED,
            "means: no kernel ran; the library's own code on flash attention's documented contract",
        ),
        Basis.STATIC: (STATIC, "means: read from versions and config; nothing ran"),
    }
    return [
        (Text(f"{mark} {basis.value}"), Text(text, style="dim"))
        for basis, (mark, text) in words.items()
        if basis in bases
    ]


def _aside(entry: Implementation, report: Report) -> tuple[Text, Text] | None:
    """What the table cannot say of an implementation: refused, broken, never run, or why it is only predicted.

    Reasons that are told elsewhere, below the table or as findings, are left out for those that are in it. Limits and
    sources of reasons stand in the JSON report.
    """
    seen = has_verdict(report, entry)
    told = [cell.reason for cell in report.matrix if cell.implementation == entry.name and cell.reason]
    reasons = [
        first_line(reason.text)
        for reason in entry.reasons
        if not seen or not any(reason.text in text or text in reason.text for text in told)
    ]
    if seen and not reasons:
        return None
    symbol, word, colour = STATUS[entry.status]
    if entry.status in (Status.OK, Status.MISMATCH):
        note, note_colour = SEVERITY[Severity.NOTE]
        symbol, word, colour = (note, "note", note_colour) if seen else STATUS[Status.NOT_RUN]
    if seen and entry.basis is Basis.PREDICTED:
        symbol, word, colour = PREDICTED, BASIS_WORDS[Basis.PREDICTED], ""
    text = Text.assemble((entry.name, "bold"), ": " if reasons else "", "; ".join(reasons))
    return Text(f"{symbol} {word}", style=colour), text
