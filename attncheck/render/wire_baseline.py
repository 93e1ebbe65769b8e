"""The JSON contract's types of a baseline, and how one is written."""

from __future__ import annotations

from typing import TypedDict

from attncheck.baseline import Baseline


class GoneEntry(TypedDict):
    """A finding of the baseline that is not found any more."""

    code: str
    slug: str
    severity: str
    message: str
    implementation: str | None
    scenario: str


class BaselineEntry(TypedDict):
    """What an earlier report changed about this one; the counts are of findings."""

    file: str
    known: int
    new: int
    gone: list[GoneEntry]
    unseen: int


def entry(baseline: Baseline) -> BaselineEntry:
    """The baseline as it stands in a JSON report."""
    gone: list[GoneEntry] = [
        {
            "code": one.code,
            "slug": one.slug,
            "severity": one.severity.value,
            "message": one.message,
            "implementation": one.implementation,
            "scenario": one.scenario,
        }
        for one in baseline.gone
    ]
    return {
        "file": baseline.file,
        "known": baseline.known,
        "new": baseline.new,
        "gone": gone,
        "unseen": baseline.unseen,
    }
