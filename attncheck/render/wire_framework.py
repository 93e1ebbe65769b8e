"""The JSON contract's types for a training framework's settings."""

from __future__ import annotations

from typing import TypedDict


class StepEntry(TypedDict):
    """One link of the chain from a setting to what runs. setting, value: "" where the framework goes on by itself."""

    setting: str
    value: str
    does: str
    source: str
    line: int | None
    basis: str


class SubModelEntry(TypedDict):
    """One sub-model with the implementation that was asked for and the one that runs ("" unknown)."""

    name: str
    requested: str
    effective: str
    why: str
    basis: str


class WarningEntry(TypedDict):
    """A log line and whether it is true. truth: "real", "stale", "inert", "unjudged"; heard: it was logged here."""

    text: str
    truth: str
    why: str
    implementation: str
    basis: str | None
    heard: bool
    printed_by: str


class FrameworkEntry(TypedDict):
    """One framework's settings resolved. version_from: "installed", "asked", "newest known".

    kind: "runs" (transformers' interface, `implementation` by its name), "own" (the framework's attention), "fails"
    (`error` and `reason`), "unknown". lines: key -> line in `file`. versions: what it requires of other packages.
    """

    name: str
    title: str
    version: str
    version_from: str
    kind: str
    implementation: str
    error: str
    reason: str
    file: str
    settings: dict[str, str]
    lines: dict[str, int]
    steps: list[StepEntry]
    sub_models: list[SubModelEntry]
    scenarios: list[str]
    warnings: list[WarningEntry]
    versions: dict[str, str]
    measured: bool
