"""The summary of a survey: how many types, how they were read, what is wrong where; for terminals and as JSON."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from attncheck.render import survey_words
from attncheck.render.interface import Style
from attncheck.render.redact import redacted
from attncheck.render.symbols import ascii_only
from attncheck.render.terminal import to_text
from attncheck.render.wire import SCHEMA
from attncheck.render.wording import plural
from attncheck.surveyed import Row, State, Status, Survey

#: Names of types that a line lists.
_NAMED = 12


def answer(survey: Survey) -> list[str]:
    """The result in a few sentences."""
    rows = survey.surveyed
    wrong = _types(row for row in rows if any(finding.severity == "error" for finding in row.findings))
    lines = [
        f"{plural(len(_types(rows)), 'model type')} probed in {plural(len(rows), 'setting')}, "
        f"{plural(len(survey.plan.implementations), 'implementation')}, "
        f"{plural(len(survey.plan.scenarios), 'scenario')}",
        f"{plural(len(wrong), 'type')} with a difference in a core scenario" + (f": {_few(wrong)}" if wrong else ""),
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


def terminal(survey: Survey, style: Style, files: Sequence[str]) -> str:
    """The summary for people. files: where the tables are."""
    survey = redacted(survey)
    parts: list[Text | Table] = [Text("attncheck survey", style="bold"), *map(Text, answer(survey)), Text()]
    grid = Table.grid(padding=(0, 2))
    for label, words in facts(survey):
        grid.add_row(Text(f"  {label}", style="dim"), words)
    parts += [grid, Text(), _by_implementation(survey), Text()]
    for severity, colour in (("error", "bold red"), ("warning", "yellow")):
        lines = list(_by_slug(survey.surveyed, severity))
        parts.append(Text(f"{severity}s: {'' if lines else 'none'}", style=colour if lines else ""))
        parts += [Text(f"  {line}") for line in lines]
    if apart := disagreements(survey):
        parts += [Text(), *map(Text, apart)]
    parts += [Text(), *(Text(f"written: {name}") for name in redacted(tuple(files)))]
    seconds = f"{survey.seconds:.0f} s, {survey.cpu_seconds:.0f} s of processor time"
    parts.append(Text(f"took {seconds}", style="dim"))
    text = to_text(parts, style)
    return text if style.unicode else ascii_only(text)


def _by_implementation(survey: Survey) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("cells", justify="left")
    order = (State.MEASURED, State.PREDICTED, State.MISMATCH, State.BREAKS, State.NOT_SUPPORTED, State.UNKNOWN)
    for state in order:
        table.add_column(survey_words.STATES[state][1], justify="right")
    for name in survey.plan.implementations:
        counted = Counter(cell.state for row in survey.surveyed for cell in row.cells if cell.implementation == name)
        table.add_row(name, *(str(counted[state]) for state in order))
    return table


def _by_slug(rows: Iterable[Row], severity: str) -> Iterator[str]:
    """One line a slug and implementation: in which scenarios, and which types."""
    places: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: {"types": set(), "scenarios": set()})
    for row in rows:
        for finding in row.findings:
            if finding.severity == severity:
                entry = places[finding.slug, finding.implementation]
                entry["types"].add(row.model_type)
                entry["scenarios"].add(finding.scenario)
    for (slug, implementation), entry in sorted(places.items()):
        scenarios = ", ".join(sorted(name for name in entry["scenarios"] if name))
        yield f"{slug} x {implementation or '-'} in {scenarios or '-'}: {_named(sorted(entry['types']))}"


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
                if not {one.state, other.state} <= {State.MEASURED, State.PREDICTED, State.MISMATCH}:
                    alone += one.state is not other.state
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


def _named(names: Sequence[str]) -> str:
    return f"{len(names)} ({_few(names)})"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
