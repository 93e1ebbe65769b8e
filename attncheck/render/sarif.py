"""The report as SARIF 2.1.0, the format of code scanning: the rules with their documentation, one result a finding."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from attncheck import checks
from attncheck.findings import Finding, Severity
from attncheck.render import rules
from attncheck.render.interface import Renderer, Style
from attncheck.render.markup import clipped
from attncheck.render.places import Place, logical, place
from attncheck.render.sides import sides
from attncheck.render.wording import first_line
from attncheck.report import Report

VERSION = "2.1.0"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
#: Stands for the home directory of who measured, whose path no report names.
HOME = "HOME"
#: Characters of one message; GitHub shows no more than the first 1,000 in lists, and accepts 64 kB.
_LONGEST = 4_000
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}


def render(report: Report, style: Style) -> str:
    """One JSON object. Findings of a baseline have the state `unchanged`, others `new`, where there is a baseline."""
    return json.dumps(to_sarif(report), indent=1, allow_nan=False, ensure_ascii=not style.unicode) + "\n"


def to_sarif(report: Report) -> dict[str, Any]:
    """The whole log with its one run."""
    codes = list(dict.fromkeys(finding.code for finding in report.findings))
    numbers = {code: number for number, code in enumerate(codes)}
    slugs = {finding.code: finding.slug for finding in report.findings}
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "attncheck",
                "semanticVersion": report.version,
                "version": report.version,
                "rules": [_rule(code, slugs[code]) for code in codes],
            }
        },
        "automationDetails": {"id": _category(report)},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": report.exit_code in (0, 1),
                "exitCode": report.exit_code,
                "properties": {"arguments": dict(report.arguments)},
            }
        ],
        "results": [_result(report, finding, numbers[finding.code]) for finding in report.findings],
    }
    if any(_home(found) for finding in report.findings if (found := place(report, finding)) is not None):
        run["originalUriBaseIds"] = {HOME: {"description": {"text": "the home directory of who measured"}}}
    return {"$schema": SCHEMA, "version": VERSION, "runs": [run]}


def _category(report: Report) -> str:
    """What code scanning keeps apart: the same command on another target is another series of results."""
    subject = report.model.id if report.model is not None else ""
    return "/".join(part for part in ("attncheck", report.command, subject) if part) + "/"


def _rule(code: str, slug: str) -> dict[str, Any]:
    """The rule's documentation; only its name for a rule of another release, in a stored report."""
    rule = checks.rule(slug)
    if rule is None or rule.code != code:
        text = {"text": f"{slug}: a rule of another release of attncheck"}
        return {"id": code, "name": _camel(slug), "shortDescription": text, "fullDescription": text, "help": text}
    sections = [*rules.sections(rule), ("More", f"attncheck explain {rule.slug}")]
    return {
        "id": code,
        "name": _camel(slug),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.finds},
        "help": {
            "text": "\n\n".join(f"{title}: {text}" for title, text in sections),
            "markdown": "\n\n".join(f"**{title}.** {text}" for title, text in sections),
        },
        "properties": {"tags": ["attention", slug]},
    }


def _camel(slug: str) -> str:
    return "".join(word.capitalize() for word in slug.split("-"))


def _result(report: Report, finding: Finding, number: int) -> dict[str, Any]:
    found = place(report, finding)
    location: dict[str, Any] = {
        "logicalLocations": [{"fullyQualifiedName": logical(report, finding), "kind": "resource"}]
    }
    if found is not None:
        location = {"physicalLocation": _physical(found), **location}
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": number,
        "level": _LEVELS[finding.severity],
        "kind": "fail",
        "message": {"text": clipped(_message(finding), _LONGEST)},
        "locations": [location],
        # GitHub matches results by the second name alone, and would take it from the text of the line otherwise.
        "partialFingerprints": {
            "attncheck/v1": finding.fingerprint,
            "primaryLocationLineHash": f"{finding.fingerprint}:1",
        },
        "properties": _properties(finding),
    }
    if report.baseline is not None:
        result["baselineState"] = "unchanged" if finding.known else "new"
    return result


def _message(finding: Finding) -> str:
    """What, where, and what to do, in plain text."""
    evidence = zip(sides(finding), (finding.evidence.declared, finding.evidence.effective))
    where = ", ".join(filter(None, (finding.implementation, finding.kernel, finding.scenario, finding.variant)))
    how = "not measured" if finding.basis is None else finding.basis.value
    lines = [
        f"{finding.message} ({how}{f': {where}' if where else ''})",
        *(f"{name}: {text}" for name, text in evidence if text),
        *(f"fix: {advice.text}{f' | {advice.paste}' if advice.paste else ''}" for advice in finding.recommendations),
        *([f"reproduce: {finding.reproduction}"] if finding.reproduction.strip() else []),
    ]
    return "\n".join(lines)


def _properties(finding: Finding) -> dict[str, Any]:
    named = {
        "slug": finding.slug,
        "implementation": finding.implementation,
        "kernel": finding.kernel,
        "part": None if finding.part is None else finding.part.value,
        "layers": list(finding.layers),
        "scenario": finding.scenario,
        "variant": finding.variant,
        "basis": None if finding.basis is None else finding.basis.value,
        "headline": first_line(finding.headline),
        "requested": finding.evidence.requested,
        "reproduction": finding.reproduction,
    }
    return {name: value for name, value in named.items() if value}


def _physical(found: Place) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": _artifact(found.file)}
    if found.line is not None:
        location["region"] = {"startLine": found.line}
    return location


def _artifact(file: str) -> dict[str, str]:
    """The file as a URI reference; relative ones are understood from the root of the checkout."""
    path = file.replace("\\", "/")
    if path.startswith("~/"):
        return {"uri": quote(path[2:]), "uriBaseId": HOME}
    if re.match(r"[A-Za-z]:/", path):
        return {"uri": f"file:///{quote(path, safe='/:')}"}
    return {"uri": f"file://{quote(path)}" if path.startswith("/") else quote(path.removeprefix("./"))}


def _home(found: Place) -> bool:
    return found.file.startswith(("~/", "~\\"))


RENDERER = Renderer("sarif", "SARIF 2.1.0, for code scanning", render, changes=False)
