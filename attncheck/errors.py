"""Errors that end a command with one clear line and an exit code. Everything else is a result or a bug."""

from __future__ import annotations

from typing import Any


class AttnCheckError(Exception):
    """Base of what a user may see instead of a report.

    message: what was found, what was expected, and where. hint: a command or a setting that helps.
    """

    exit_code = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AttnCheckError):
    """Wrong option, key or value (exit 2)."""

    exit_code = 2


class TargetError(AttnCheckError):
    """The target cannot be read, is not a config, or is of an unknown type (exit 2)."""

    exit_code = 2


class FindingsError(AttnCheckError):
    """What `Report.raise_for_findings` raises. report: the whole report. (exit 1)"""

    exit_code = 1

    def __init__(self, message: str, hint: str = "", report: Any = None) -> None:
        super().__init__(message, hint)
        self.report = report

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class NoVerdictError(AttnCheckError):
    """Nothing could be measured or predicted, or attncheck itself failed (exit 3)."""

    exit_code = 3
