"""The framework section of a report as its wire type."""

from __future__ import annotations

from attncheck.frameworks.section import FrameworkSection
from attncheck.render import wire_framework as wire


def framework(found: FrameworkSection) -> wire.FrameworkEntry:
    """The section as plain JSON values."""
    return {
        "name": found.name,
        "title": found.title,
        "version": found.version,
        "version_from": found.version_from,
        "kind": found.kind.value,
        "implementation": found.implementation,
        "error": found.error,
        "reason": found.reason,
        "file": found.file,
        "settings": dict(found.settings),
        "lines": dict(found.lines),
        "steps": [
            {
                "setting": step.setting,
                "value": step.value,
                "does": step.does,
                "source": step.source,
                "line": step.line,
                "basis": step.basis.value,
            }
            for step in found.steps
        ],
        "sub_models": [
            {
                "name": part.name,
                "requested": part.requested,
                "effective": part.effective,
                "why": part.why,
                "basis": part.basis.value,
            }
            for part in found.sub_models
        ],
        "scenarios": list(found.scenarios),
        "warnings": [
            {
                "text": warning.text,
                "truth": warning.truth.value,
                "why": warning.why,
                "implementation": warning.implementation,
                "basis": None if warning.basis is None else warning.basis.value,
                "heard": warning.heard,
                "printed_by": warning.printed_by,
            }
            for warning in found.warnings
        ],
        "versions": dict(found.versions),
        "measured": found.measured,
    }
