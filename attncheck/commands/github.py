"""Inside a GitHub workflow: findings as annotations, and the report in Markdown as the summary of the step."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from attncheck.commands.running import complain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attncheck.report import Report

#: GitHub shows so many annotations of each type of one step, and drops the others.
MOST = 10
#: Bytes of the summary of a step that GitHub accepts.
LARGEST_SUMMARY = 1 << 20


def tell(report: Report, format_name: str, output: str | None, stream: TextIO | None = None) -> None:
    """Annotate and summarize where a GitHub workflow runs this, else do nothing.

    stream: where annotations go (GitHub reads both), standard output by default. They go there only where it is for
    people: not below a report in another format.
    """
    if os.environ.get("GITHUB_ACTIONS") == "true" and (format_name == "terminal" or output is not None):
        stream = stream or sys.stdout
        stream.writelines(f"{line}\n" for line in annotated(report))
        stream.flush()
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        _summarize(report, summary, output)


def annotated(report: Report) -> Iterator[str]:
    """Workflow commands, one a kind of finding, errors first; notes and what a baseline knows are left out."""
    from attncheck.findings import Severity
    from attncheck.render import baseline
    from attncheck.render.finding_groups import groups
    from attncheck.render.places import place
    from attncheck.render.redact import redacted

    report = baseline.fresh(redacted(report))
    left = {Severity.ERROR: MOST, Severity.WARNING: MOST}
    for group in groups(report.findings):
        lead = group.lead
        if left.get(lead.severity, 0) == 0:
            continue
        left[lead.severity] -= 1
        names = dict.fromkeys(name for finding in group.findings for name in (finding.implementation,) if name)
        scenarios = dict.fromkeys(finding.scenario for finding in group.findings if finding.scenario)
        where = "; ".join(", ".join(some) for some in (names, scenarios) if some)
        basis = "" if lead.basis is None else f" ({lead.basis.value})"
        lines = [f"{lead.headline or lead.message}{basis}", where]
        lines += [f"fix: {advice.text}" for advice in lead.recommendations[:1]]
        lines += [f"more: attncheck explain {lead.slug}"]
        found = place(report, lead)
        # A file outside of the checkout has no place where GitHub could show it.
        inside = found is not None and not found.file.startswith(("/", "~", "..")) and found.file[1:2] != ":"
        at = {"file": found.file, "line": found.line} if found is not None and inside else {}
        yield command(lead.severity.value, "\n".join(filter(None, lines)), {**at, "title": f"{lead.slug} {lead.code}"})


def command(kind: str, message: str, properties: dict[str, str | int | None]) -> str:
    """One workflow command. Escaped as GitHub's own toolkit does it, so that no text of a report can be another one."""
    named = [f"{name}={_property(str(value))}" for name, value in properties.items() if value not in (None, "")]
    return f"::{kind}{' ' if named else ''}{','.join(named)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _summarize(report: Report, path: str, output: str | None) -> None:
    """Append the report in Markdown, unless it went there itself or would not fit."""
    from attncheck.render import interface

    try:
        if output is not None and os.path.exists(output) and os.path.samefile(output, path):
            return
        page = interface.render(report, "markdown").encode("utf-8", "backslashreplace")
        with open(path, "ab") as file:
            if file.tell() + len(page) < LARGEST_SUMMARY:
                file.write(page + b"\n")
    except OSError as error:
        complain(f"GITHUB_STEP_SUMMARY cannot be written: {error.strerror or error}", "the report itself is complete")
