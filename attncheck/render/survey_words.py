"""How a survey's cells, rows and differences are said: symbols, groups of findings, commands that show them again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from attncheck.surveyed import Plan, Row, State, SurveyCell, SurveyFinding

#: State -> (symbol, word, meaning). `PARTLY` and `AT_RISK` refine two of them.
STATES: dict[State, tuple[str, str, str]] = {
    State.MEASURED: ("✓", "measured", "right, by measurement"),
    State.PREDICTED: ("~", "predicted", "right, by the library's own code over the documented contract of the kernel"),
    State.MISMATCH: ("✗", "mismatch", "what runs is not what is declared"),
    State.BREAKS: ("⊗", "breaks", "it raises an error that nobody announced, or its process dies"),
    State.NOT_SUPPORTED: ("–", "not supported", "refused with a clear message, or the model has no such feature"),
    State.UNKNOWN: ("?", "unknown", "nothing declares what should happen, or it could not be read"),
}
AT_RISK = ("!", "mismatch in an opt-in feature", "what runs is not what is declared, for those who use this feature")
PARTLY = ("◐", "right in part", "right as far as it was judged; the rest is unknown, see the row's details")
#: In place of a cell that was not asked for.
BLANK = " "


def symbol(cell: SurveyCell | None) -> str:
    """The one character of a cell."""
    if cell is None:
        return BLANK
    if cell.state is State.MISMATCH and cell.severity != "error":
        return AT_RISK[0]
    if cell.open and cell.state in (State.MEASURED, State.PREDICTED):
        return PARTLY[0]
    return STATES[cell.state][0]


def marks(row: Row, implementation: str, plan: Plan) -> str:
    """The symbols of one implementation in the plan's order, those of opt-in scenarios behind a space."""
    places = {cell.scenario: cell for cell in row.cells if cell.implementation == implementation}
    found = [symbol(places.get(scenario)) for scenario in plan.scenarios]
    core = sum(scenario in plan.core for scenario in plan.scenarios)
    return f"{''.join(found[:core])} {''.join(found[core:])}"


def css_class(cell: SurveyCell | None) -> str:
    """The class of a cell in the HTML page."""
    if cell is None:
        return "n"
    if cell.state is State.MISMATCH and cell.severity != "error":
        return "w"
    letters = {
        State.MEASURED: "m",
        State.PREDICTED: "p",
        State.MISMATCH: "x",
        State.BREAKS: "b",
        State.NOT_SUPPORTED: "n",
        State.UNKNOWN: "u",
    }
    return letters[cell.state]


def legend() -> tuple[tuple[str, str, str], ...]:
    """(symbol, word, meaning) of everything that may stand in a cell."""
    return (*(STATES[state] for state in (State.MEASURED, State.PREDICTED)), PARTLY, STATES[State.MISMATCH], AT_RISK,
            *(STATES[state] for state in (State.BREAKS, State.NOT_SUPPORTED, State.UNKNOWN)))  # fmt: skip


def anchor(row: Row) -> str:
    """The id of a row's details."""
    return "t-" + "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in row.name)


@dataclass(frozen=True, slots=True)
class Together:
    """Findings of one row that say the same thing: one message under several implementations and scenarios."""

    lead: SurveyFinding
    implementations: tuple[str, ...]
    scenarios: tuple[str, ...]


_RANK = {"error": 0, "warning": 1, "note": 2}


def together(row: Row) -> list[Together]:
    """The findings of a row, worst first; those of one slug, severity, part and message as one."""
    same: dict[tuple[str, ...], list[SurveyFinding]] = {}
    for finding in row.findings:
        key = finding.severity, finding.slug, finding.part, finding.message
        same.setdefault(key, []).append(finding)
    found = [
        Together(
            group[0],
            tuple(dict.fromkeys(finding.implementation for finding in group if finding.implementation)),
            tuple(dict.fromkeys(finding.scenario for finding in group if finding.scenario)),
        )
        for group in same.values()
    ]
    return sorted(found, key=lambda entry: _RANK[entry.lead.severity])


def command(row: Row, implementations: Sequence[str], scenarios: Sequence[str]) -> str:
    """The command that measures this row again, in these places."""
    names = [name.partition(":")[0] for name in implementations]
    names = names if "eager" in names or not names else ["eager", *names]
    words = ["attncheck", "compare", row.model_type]
    for text in row.assignments:
        words += ["--set", shlex.quote(text)]
    if names:
        words += ["--impl", ",".join(dict.fromkeys(names))]
    if scenarios:
        words += ["--scenario", ",".join(scenarios)]
    return " ".join(words)


def open_questions(row: Row) -> list[tuple[str, str]]:
    """(places, reason) of what is not simply right or wrong in a row: unknown, not supported, breaks."""
    found: dict[tuple[str, str], list[SurveyCell]] = {}
    for cell in row.cells:
        reason = cell.open or cell.reason
        if reason:
            word = PARTLY[1] if cell.open else STATES[cell.state][1]
            found.setdefault((word, reason), []).append(cell)
    lines = []
    for (word, reason), cells in found.items():
        names = list(dict.fromkeys(cell.implementation for cell in cells))
        scenarios = list(dict.fromkeys(cell.scenario for cell in cells))
        where = f"{', '.join(names)} in {few(scenarios)}"
        lines.append((f"{word}: {where}", reason))
    return lines


def few(names: Sequence[str], most: int = 6) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def facts(row: Row) -> list[tuple[str, str]]:
    """(label, words) of a row's heading part."""
    lines = [("class", row.model_class)]
    if row.assignments:
        lines.append(("set", " ".join(row.assignments)))
    if row.default:
        lines.append(("default", f"{row.default}, when nobody asks for an implementation"))
    lines.append(("read", METHODS.get(row.method, row.method)))
    for part, fields in row.declared.items():
        if fields:
            lines.append((f"{part}, declared", f"unknown: {', '.join(fields)}"))
    return [(label, text) for label, text in lines if text]


#: How the masks of a row were read, in words.
METHODS = {
    "calls": "every attention call repeated with identity values: masks by head, scale, softcap, sinks, head map",
    "black-box": "each layer's outputs when its inputs are replaced: the union of the masks of all heads; scale, "
    "softcap, sinks and head map are not measured",
    "black-box+calls": "some attention calls repeated with identity values, the other layers through their outputs: "
    "there only the union of the masks of all heads, and no scale, softcap, sinks or head map",
}
