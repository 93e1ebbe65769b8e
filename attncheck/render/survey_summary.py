"""The summary of a survey in words and as JSON: how many types, how they were read, where predictions differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from attncheck.render import survey_words
from attncheck.render.redact import redacted
from attncheck.render.survey_groups import few
from attncheck.render.wire import SCHEMA
from attncheck.render.wording import plural
from attncheck.surveyed import Row, State, Status, Survey

#: Names of types that a line lists.
NAMED = 12


def answer(survey: Survey) -> list[str]:
    """The result in a few sentences."""
    rows = survey.surveyed
    wrong = _types(row for row in rows if any(finding.severity == "error" for finding in row.findings))
    named = f": {few(wrong, NAMED)}" if wrong else ""
    lines = [
        f"{plural(len(_types(rows)), 'model type')} probed in {plural(len(rows), 'setting')}, "
        f"{plural(len(survey.plan.implementations), 'implementation')}, "
        f"{plural(len(survey.plan.scenarios), 'scenario')}",
        f"{plural(len(wrong), 'type')} with a difference in {survey_words.used(survey.plan)}{named}",
    ]
    if survey.left:
        lines.append(f"{plural(survey.left, 'type')} not yet surveyed: the same command goes on")
    return lines


def facts(survey: Survey) -> list[tuple[str, str]]:
    """(label, words): where it was measured, and how much of it."""
    plan = survey.plan
    versions = ", ".join(f"{name} {version}" for name, version in plan.versions.items() if version)
    methods = Counter(row.method or "nothing read" for row in survey.surveyed if not row.setting)
    states = Counter(row.status for row in survey.rows if not row.setting)
    return [
        ("here", versions),
        ("options", f"dtype {plan.dtype}, device {plan.device}, seed {plan.seed}"),
        ("read through", ", ".join(f"{name} {count}" for name, count in methods.most_common())),
        (
            "not probed",
            f"{states[Status.NO_TEXT]} read no text, {states[Status.NOT_BUILT]} could not be built, "
            f"{states[Status.LOST]} lost",
        ),
    ]


def disagreements(survey: Survey) -> list[str]:
    """Where a measured flash kernel and its prediction differ, cell by cell; empty without such columns."""
    pairs = [(name.partition(":")[0], name) for name in survey.plan.implementations if ":" in name]
    lines = []
    for measured, predicted in pairs:
        same, apart, alone = 0, list[str](), 0
        for row in survey.surveyed:
            for scenario in survey.plan.scenarios:
                one, other = row.cell(measured, scenario), row.cell(predicted, scenario)
                if one is None or other is None:
                    continue
                judged = [cell.judged for cell in (one, other)]
                if not all(judged):
                    alone += any(judged)
                    continue
                told = ", ".join(one.slugs) or "right", ", ".join(other.slugs) or "right"
                if told[0] == told[1]:
                    same += 1
                else:
                    apart.append(f"  {row.name} {scenario}: measured {told[0]}, predicted {told[1]}")
        lines.append(
            f"{measured}: {same} of {same + len(apart)} cells agree with the prediction, "
            f"{alone} judged on one side only"
        )
        lines += apart
    return lines


def json_text(survey: Survey) -> str:
    """The summary as one JSON object; the rows are in results.jsonl."""
    survey = redacted(survey)
    plan, rows = survey.plan, survey.surveyed
    cells = {
        name: {
            state.value: sum(cell.state is state for row in rows for cell in row.cells if cell.implementation == name)
            for state in State
        }
        for name in plan.implementations
    }
    levels = Counter(finding.severity for row in rows for finding in row.findings)
    status = Counter(row.status.value for row in survey.rows if not row.setting)
    found = {
        "schema": SCHEMA,
        "tool": {"name": "attncheck", "version": plan.versions.get("attncheck", "")},
        "command": "survey",
        "survey": {
            "versions": dict(plan.versions),
            "options": {"dtype": plan.dtype, "device": plan.device, "seed": plan.seed},
            "implementations": list(plan.implementations),
            "scenarios": list(plan.scenarios),
            "types": {entry.value: status[entry.value] for entry in Status},
            "rows": len(rows),
            "left": survey.left,
            "cells": cells,
            "disagreements": disagreements(survey),
            "seconds": round(survey.seconds, 1),
            "cpu_seconds": round(survey.cpu_seconds, 1),
        },
        "summary": {"errors": levels["error"], "warnings": levels["warning"], "notes": levels["note"]},
    }
    return json.dumps(found, indent=2) + "\n"


def _types(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.model_type for row in rows))
