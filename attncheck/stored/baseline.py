"""`--baseline`: an earlier JSON report of the same command and target, and what it changes about a new one."""

from __future__ import annotations

import os
from dataclasses import replace

from attncheck import baseline
from attncheck.errors import UsageError
from attncheck.findings import Finding
from attncheck.render.redact import redact, redacted
from attncheck.report import Report
from attncheck.stored import report as stored
from attncheck.verdicts import Verdict


def read(path: str, command: str) -> Report:
    """The earlier report. Raises UsageError for what is none, or one of another command."""
    # Never a command that would overwrite what lies there.
    hint = f"attncheck {command} ... --format json -o {'FILE' if os.path.lexists(path) else path} writes one"
    try:
        found = stored.read(path)
    except UsageError as error:
        raise UsageError(f"--baseline {error.message}", hint) from None
    if found.command != command:
        raise UsageError(f"--baseline {path} is a report of attncheck {found.command}, expected one of {command}", hint)
    return found


def held_against(report: Report, before: Report, path: str) -> Report:
    """The report, redacted, with its known findings marked. Raises UsageError for a baseline of another target."""
    old, new = (target(one) for one in (before, report))
    if old != new:
        raise UsageError(
            f"--baseline {path} is about {old or 'no model'}, expected one about {new or 'no model'}",
            f"attncheck {report.command} ... --format json -o FILE writes one for this target",
        )
    clean = redacted(report)  # the earlier one was redacted when it was written
    findings, found = baseline.mark(
        clean.findings, before.findings, lambda finding: looked_at(clean, finding), redact(path)
    )
    return replace(clean, findings=findings, baseline=found)


def target(report: Report) -> str:
    """What a report is about, redacted: the model, the incident, the script; "" for the machine."""
    if report.model is not None:
        name = report.model.id
        return redact(os.path.normpath(name) if report.model.source == "path" else name)
    if report.incident is not None:
        return "the incident"
    return redact(report.watch.script) if report.watch is not None else ""


def looked_at(report: Report, finding: Finding) -> bool:
    """Whether this run reached a verdict where an earlier one had this finding: what is not run is not mended."""
    if report.model is not None:
        cells = [
            cell
            for cell in report.matrix
            if finding.implementation in (None, cell.implementation) and finding.scenario in ("", cell.scenario)
        ]
        return any(cell.verdict in (Verdict.OK, Verdict.MISMATCH) for cell in cells)
    status = {check.code: check.status for check in report.checks}
    return status.get(finding.code, "not_run") != "not_run" if report.checks else True
