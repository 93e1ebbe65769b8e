"""A report as text or as a file, for Python: the formats of the command line, redacted as it redacts them."""

from __future__ import annotations

import os
from typing import Any

from attncheck.errors import UsageError
from attncheck.report import Report

#: Suffix of a file -> the format that is written to it.
FORMATS = {
    ".html": "html",
    ".json": "json",
    ".md": "markdown",
    ".sarif": "sarif",
    ".txt": "terminal",
    ".xml": "junit",
}
#: Columns of a report that goes to no terminal, as with `-o FILE`.
WIDTH = 100
_NARROWEST = 40


def text(report: Report, format: str = "terminal", *, width: int = WIDTH) -> str:
    """The report in one of the command line's formats, ending in a newline, without escape codes.

    format: "terminal", "markdown", "json", "html", "sarif" or "junit". width: columns of "terminal", at least 40. The
    user's home, user name, host name and tokens are taken out, as on the command line: what comes back may be shared.

    Raises UsageError for what is no report, for an unknown format, and for one whose package is missing.
    """
    from attncheck.render import interface

    _check(report, "text")
    if isinstance(width, bool) or not isinstance(width, int) or width < _NARROWEST:
        raise UsageError(f"text: width={width!r}: expected columns, at least {_NARROWEST}")
    known = FORMATS.values()
    if format not in known:
        raise UsageError(f"text: format={format!r}: expected one of {', '.join(sorted(known))}")
    return interface.render(report, format, interface.Style(width=width))


def save(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report to a file, in the format of its suffix: .html, .json, .md, .sarif, .txt or .xml (JUnit).

    Redacted as `text` is. What is saved as .json is what `attncheck render FILE` shows in any format. An earlier file
    of that name is replaced as a whole.

    Raises UsageError for what is no report, for another suffix, and where the file cannot be written.
    """
    from attncheck.render import writing

    _check(report, "save")
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise UsageError(f"save: {path!r} is no path", "for example attncheck.save(report, 'report.html')") from None
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in FORMATS:
        found = f"the suffix is {suffix}" if suffix else "it has no suffix"
        known = ", ".join(f"{ending} ({kind})" for ending, kind in FORMATS.items())
        raise UsageError(f"save: {name}: {found}, which names no format; known are {known}")
    shown = text(report, FORMATS[suffix])
    try:
        writing.write(name, shown)
    except (OSError, ValueError) as error:
        raise UsageError(f"save: {name} cannot be written: {getattr(error, 'strerror', None) or error}") from None


def _check(report: Any, name: str) -> None:
    if not isinstance(report, Report):
        raise UsageError(
            f"{name}: a {type(report).__name__} is no report", "pass what verify, compare or a watch's .report gave"
        )
