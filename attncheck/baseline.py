"""An earlier report as a baseline: which findings are known, which are new, and which are gone. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from attncheck.findings import Finding, Severity


@dataclass(frozen=True, slots=True)
class Gone:
    """A finding of the baseline that was looked for again and not found; the fields are those of `Finding`."""

    code: str
    slug: str
    severity: Severity
    message: str
    implementation: str | None = None
    scenario: str = ""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a baseline changed about a report.

    file: of the earlier report. known, new: findings of the report that stand in it, and that do not. gone: those of
    the earlier report that are not found any more. unseen: how many are not found because nobody looked this time.
    """

    file: str
    known: int = 0
    new: int = 0
    gone: tuple[Gone, ...] = ()
    unseen: int = 0


def mark(
    now: Sequence[Finding], before: Sequence[Finding], looked: Callable[[Finding], bool], file: str
) -> tuple[tuple[Finding, ...], Baseline]:
    """The findings of now with `known` set, and what became of those before.

    A finding is known when one of the same fingerprint, at least as severe, stood there; each of those before stands
    for one of now. looked: whether the place of an earlier finding was looked at again. Both must be redacted alike.
    """
    left: dict[str, list[Finding]] = {}
    for finding in sorted(before, key=lambda finding: finding.severity.rank):
        left.setdefault(finding.fingerprint, []).append(finding)  # the mildest first
    marked: list[Finding] = []
    for finding in now:
        same = left.get(finding.fingerprint, [])
        match = next((old for old in same if old.severity.rank >= finding.severity.rank), None)
        if match is not None:
            same.remove(match)
        elif same:
            same.pop()  # worse than it was: not known, and the milder one is not gone either
        marked.append(replace(finding, known=match is not None))
    missing = [finding for finding in before if any(finding is one for one in left[finding.fingerprint])]
    gone = [finding for finding in missing if looked(finding)]
    known = sum(finding.known for finding in marked)
    return tuple(marked), Baseline(file, known, len(marked) - known, tuple(map(_gone, gone)), len(missing) - len(gone))


def _gone(finding: Finding) -> Gone:
    return Gone(finding.code, finding.slug, finding.severity, finding.message, finding.implementation, finding.scenario)
