"""Symbols and colours of verdicts and severities; every symbol stands beside a word, so neither is needed to read."""

from __future__ import annotations

from attncheck.findings import Severity
from attncheck.verdicts import Status, Verdict

SEVERITY: dict[Severity, tuple[str, str]] = {
    Severity.ERROR: ("✗", "bold red"),
    Severity.WARNING: ("!", "yellow"),
    Severity.NOTE: ("i", "cyan"),
}

VERDICT: dict[Verdict, tuple[str, str, str]] = {
    Verdict.OK: ("✓", "ok", "green"),
    Verdict.MISMATCH: ("✗", "mismatch", "bold red"),
    Verdict.UNKNOWN: ("?", "unknown", "magenta"),
    Verdict.ERROR: ("✗", "broke", "bold magenta"),
    Verdict.NOT_RUN: ("○", "NOT RUN", "magenta"),
    Verdict.NOT_APPLICABLE: ("–", "n/a", "dim"),
}

STATUS: dict[Status, tuple[str, str, str]] = {
    Status.OK: ("✓", "ok", "green"),
    Status.MISMATCH: ("✗", "mismatch", "bold red"),
    Status.REJECTED: ("–", "rejected", "yellow"),
    Status.CRASHED: ("✗", "broke", "bold magenta"),
    Status.NOT_RUN: ("○", "NOT RUN", "magenta"),
}

#: Mark in front of a verdict that no kernel of this machine was run for.
PREDICTED = "~"
STATIC = "°"

_ASCII = str.maketrans("✓✗⊗◐⊘○–—·…°█▀■→←×≥≤≈≠−‘’“”─│±²³µ", "+xX/0o--.~'###><x><~!-''\"\"-|~23u")


def ascii_only(text: str) -> str:
    """The text with each symbol replaced by one ASCII character (so that columns stay aligned), `?` for the rest."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
