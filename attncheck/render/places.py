"""Where a finding stands for tools that annotate files: file and line of the key that it is about, as far as known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from attncheck.findings import Finding
from attncheck.frameworks.section import FrameworkSection
from attncheck.render.wording import layer_ranges
from attncheck.report import Report
from attncheck.verdicts import Model

#: Beginning of a slug -> the declared fields it is about, names of `Model.sources`, the nearest first.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "window": ("window", "layers"),
    "chunk": ("chunk", "window", "layers"),
    "causal": ("direction", "layers"),
    "softcap": ("softcap",),
    "sinks": ("sinks",),
    "scale": ("scale",),
    "bias": ("bias",),
}
#: A word that can only be a key: in quotes or before an equals sign, or with an underscore in it.
_KEY = re.compile(r"[`'\"]([\w.]+)[`'\"]|\b([\w.]+)(?==)|\b([\w.]*_[\w.]*\w)")
_LINE = re.compile(r", line (\d+)")


@dataclass(frozen=True, slots=True)
class Place:
    """A file, as named in the report, and the line in it, from 1; None where no single line can be named."""

    file: str
    line: int | None = None
    key: str = ""


def place(report: Report, finding: Finding) -> Place | None:
    """Where the reader should look: the settings file, else the config.json that was given as a path; else None."""
    if report.framework is not None and report.framework.file:
        found = _in_settings(report.framework, finding)
        if found.line is not None or report.model is None or not report.model.file:
            return found
    if report.model is not None and report.model.file:
        return _in_config(report.model, finding)
    return None


def logical(report: Report, finding: Finding) -> str:
    """The same without a file: `mistralai/Mistral-7B-v0.1/decoder/layers 0-31`, `train.py:8 in step`, `machine`."""
    where = str(finding.evidence.figures.get("where", ""))
    if where:
        return where
    layers = f"layers {layer_ranges(finding.layers)}" if finding.layers else ""
    subject = report.model.id if report.model is not None else "machine"
    return "/".join(part for part in (subject, finding.part.value if finding.part else "", layers) if part)


def _in_config(model: Model, finding: Finding) -> Place:
    for key in (*_named(finding), *_declaring(model, finding)):
        line = model.lines.get(key)
        if line is None:
            ends = [(known, at) for known, at in model.lines.items() if known.endswith(f".{key}")]
            line = ends[0][1] if len(ends) == 1 else None
        if line is not None:
            return Place(model.file, line, key)
    return Place(model.file)


def _in_settings(section: FrameworkSection, finding: Finding) -> Place:
    """The line that a message names, the key that it names, or the setting that picked what runs."""
    if section.file in finding.message and (written := _LINE.search(finding.message)):
        return Place(section.file, int(written[1]))
    for key in _named(finding):
        if key in section.lines:
            return Place(section.file, section.lines[key], key)
    if finding.implementation is not None and finding.implementation == section.implementation:
        step = next((step for step in section.steps if step.line is not None), None)
        if step is not None:
            return Place(section.file, step.line, step.setting)
    return Place(section.file)


def _named(finding: Finding) -> Iterator[str]:
    """Keys that the finding names: in its words first, then in what it tells the reader to set."""
    for text in (finding.message, finding.headline, finding.evidence.declared):
        for found in _KEY.finditer(text):
            yield found[1] or found[2] or found[3]
    for advice in finding.recommendations:
        yield from (setting.key for setting in advice.settings)


def _declaring(model: Model, finding: Finding) -> Iterator[str]:
    """Keys from which the config declares what the finding is about."""
    for name in _FIELDS.get(finding.slug.partition("-")[0], ()):
        yield from re.findall(r"[\w.]+", model.sources.get(name, ""))
