"""How a survey's cells and rows are said: symbols with their legend, what a row leaves open, how it was read."""

from __future__ import annotations

from attncheck.render.survey_groups import places
from attncheck.surveyed import Plan, Row, State, SurveyCell

#: State -> (symbol, word, meaning). The entries below it refine some of them.
STATES: dict[State, tuple[str, str, str]] = {
    State.MEASURED: ("✓", "measured", "right, by measurement"),
    State.PREDICTED: ("~", "predicted", "right, by the library's own code over the documented contract of the kernel"),
    State.MISMATCH: ("✗", "mismatch", "what runs is not what is declared"),
    State.BREAKS: ("⊗", "breaks", "it raises an error that nobody announced, or its process dies"),
    State.NOT_SUPPORTED: ("–", "not supported", "refused with a clear message, or the model has no such feature"),
    State.UNKNOWN: ("?", "unknown", "nothing declares what should happen, or it could not be read"),
}
AT_RISK = ("!", "mismatch in an opt-in feature", "what runs is not what is declared, for those who use this feature")
NEVER_MET = (
    "i",
    "differs, never met here",
    "what runs is not what is declared, but no sequence of the model's length is long enough to meet it",
)
SHARED = ("⊘", "breaks in eager too", "it raises an error in eager as well: the scenario or the tiny model may be why")
PARTLY = ("◐", "right in part", "right as far as it was judged; the rest is unknown, see the row's details")
#: Scenarios that a line names of what is open.
_NAMED = 6
#: In place of a cell that was not asked for.
BLANK = " "


def entry(cell: SurveyCell) -> tuple[str, str, str]:
    """What the legend says of a cell."""
    note = cell.severity == "note"
    if cell.state is State.MISMATCH and cell.severity != "error":
        return NEVER_MET if note else AT_RISK
    if cell.state is State.BREAKS and note:
        return SHARED
    if cell.open and cell.state in (State.MEASURED, State.PREDICTED):
        return PARTLY
    return STATES[cell.state]


def symbol(cell: SurveyCell | None) -> str:
    """The one character of a cell."""
    return BLANK if cell is None else entry(cell)[0]


def marks(row: Row, implementation: str, plan: Plan) -> str:
    """The symbols of one implementation in the plan's order, those of opt-in scenarios behind a space."""
    places = {cell.scenario: cell for cell in row.cells if cell.implementation == implementation}
    found = [symbol(places.get(scenario)) for scenario in plan.scenarios]
    core = sum(scenario in plan.core for scenario in plan.scenarios)
    return f"{''.join(found[:core])} {''.join(found[core:])}"


def wrong(cell: SurveyCell) -> bool:
    """True for a mismatch or breakage that is no note."""
    return cell.state in (State.MISMATCH, State.BREAKS) and cell.severity != "note"


def css_class(cell: SurveyCell | None) -> str:
    """The class of a cell in the HTML page."""
    refined = {AT_RISK: "w", NEVER_MET: "i", SHARED: "i"}
    letters = {
        State.MEASURED: "m",
        State.PREDICTED: "p",
        State.MISMATCH: "x",
        State.BREAKS: "b",
        State.NOT_SUPPORTED: "n",
        State.UNKNOWN: "u",
    }
    return "n" if cell is None else refined.get(entry(cell), letters[cell.state])


def legend() -> tuple[tuple[str, str, str], ...]:
    """(symbol, word, meaning) of everything that may stand in a cell."""
    return (STATES[State.MEASURED], STATES[State.PREDICTED], PARTLY, STATES[State.MISMATCH], AT_RISK, NEVER_MET,
            STATES[State.BREAKS], SHARED, STATES[State.NOT_SUPPORTED], STATES[State.UNKNOWN])  # fmt: skip


def used(plan: Plan) -> str:
    """The scenarios in which a difference is an error."""
    return "a scenario that was asked for" if plan.asked else "a core scenario"


def commands_note(plan: Plan) -> str:
    """What to know of the commands below findings; "" where they say what the page says."""
    if plan.asked:
        return ""
    return (
        "The commands name their scenarios, and a scenario that is named counts as used: a mismatch that is a warning "
        "here is an error there."
    )


def open_questions(row: Row) -> list[tuple[str, str]]:
    """(places, reason) of what is not simply right or wrong in a row: unknown, not supported, breaks."""
    found: dict[tuple[str, str], list[SurveyCell]] = {}
    for cell in row.cells:
        if cell.open:
            word = "unknown beside the mismatch" if cell.state is State.MISMATCH else PARTLY[1]
            found.setdefault((word, cell.open), []).append(cell)
        elif cell.reason:
            found.setdefault((entry(cell)[1], cell.reason), []).append(cell)
    lines = []
    for (word, reason), cells in found.items():
        bases = [(cell.implementation, cell.basis if cell.open else "", cell.scenario) for cell in cells]
        lines.append((f"{word}: {places(bases, _NAMED)}", reason))
    return lines


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
