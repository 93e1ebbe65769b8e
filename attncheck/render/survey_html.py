"""The support matrix as one HTML page: type by implementation by scenario, each mismatch linked to its finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attncheck.render import survey_groups, survey_summary, survey_words
from attncheck.render.html_head import head
from attncheck.render.html_markup import Html, bullets, code, coloured, facts, fold, join, tag
from attncheck.render.markup import clipped
from attncheck.render.redact import redacted
from attncheck.render.survey_groups import Group
from attncheck.render.survey_style import SCRIPT, STYLE
from attncheck.render.wording import plural
from attncheck.surveyed import Plan, Row, Status, Survey, SurveyCell

_SEVERITY = {"error": ("✗ error", "bold red"), "warning": ("! warning", "yellow"), "note": ("i note", "cyan")}


def page(survey: Survey) -> str:
    """The page; loads nothing, and its table reads without its script."""
    survey = redacted(survey)
    title = f"Attention of transformers {survey.plan.versions.get('transformers', '')}"
    body = tag(
        "body",
        tag("a", "To the matrix", href="#matrix", class_="skip"),
        tag("header", tag("h1", title), *_summary(survey)),
        tag(
            "main",
            tag("section", tag("h2", "Support matrix"), _tools(survey.plan), _matrix(survey), id="matrix"),
            tag(
                "section",
                tag("h2", "Details by model type"),
                *([tag("p", note)] if (note := survey_words.commands_note(survey.plan)) else []),
                *(_details(row) for row in survey.surveyed),
                id="details",
            ),
            tag("section", tag("h2", "Not probed"), *_missing(survey), id="missing"),
        ),
        tag("footer", f"attncheck {survey.plan.versions.get('attncheck', '')}. This page loads nothing."),
        tag("script", Html(SCRIPT)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head(title, STYLE, SCRIPT), body, lang='en')}\n"


def _summary(survey: Survey) -> Iterator[Html]:
    yield bullets(survey_summary.answer(survey), class_="answer")
    yield facts(survey_summary.facts(survey))
    marks = [join([tag("b", mark), f" {word}: {meaning}"]) for mark, word, meaning in survey_words.legend()]
    yield bullets(marks, class_="key")
    links = [("#matrix", "Support matrix"), ("#details", "Details by model type"), ("#missing", "Not probed")]
    yield tag("nav", bullets(tag("a", name, href=href) for href, name in links), aria_label="Contents")


def _tools(plan: Plan) -> Html:
    return tag(
        "div",
        tag("label", "Find a model type ", tag("input", type="search", id="find")),
        tag(
            "label",
            tag("input", type="checkbox", id="only"),
            f" only rows with a mismatch or breakage in {survey_words.used(plan)}",
        ),
        tag("span", id="count", role="status", class_="dim"),
        class_="tools",
    )


def _matrix(survey: Survey) -> Html:
    plan = survey.plan
    top: list[Html] = [tag("th", "model type", scope="col", rowspan=2, class_="corner")]
    below: list[Html] = []
    for name in plan.implementations:
        top.append(
            tag("th", tag("span", name, class_="group"), scope="colgroup", colspan=len(plan.scenarios), class_="first")
        )
        for number, scenario in enumerate(plan.scenarios):
            span = tag("span", scenario, class_="scenario")
            below.append(tag("th", span, scope="col", class_=None if number else "first"))
    rows = [_row(row, plan) for row in survey.surveyed]
    grid = tag("table", tag("thead", tag("tr", *top), tag("tr", *below)), tag("tbody", *rows))
    return tag("div", grid, class_="support", tabindex=0, role="region", aria_label="Support matrix")


def _row(row: Row, plan: Plan) -> Html:
    at = survey_groups.anchor(row)
    found = survey_groups.by_place(survey_groups.groups(row))
    heading = tag("a", row.name, href=f"#{at}")
    cells = [tag("th", heading, scope="row", class_="set" if row.setting else None)]
    places = {(cell.implementation, cell.scenario): cell for cell in row.cells}
    for name in plan.implementations:
        for scenario in plan.scenarios:
            cells.append(_cell(places.get((name, scenario)), at, found))
    wrong = any(survey_words.wrong(cell) for cell in row.cells if cell.scenario in plan.used)
    return tag("tr", *cells, class_="wrong" if wrong else None)


def _cell(cell: SurveyCell | None, at: str, found: Mapping[tuple[str, str], Sequence[Group]]) -> Html:
    mark: str = survey_words.symbol(cell)
    group = survey_groups.behind(cell, found) if cell is not None else None
    if cell is not None and group is not None:
        here = dict.fromkeys(entry.lead.slug for entry in found[cell.implementation, cell.scenario])
        mark = tag("a", mark, href=f"#{group.anchor}", title=", ".join(here))
    elif cell is not None and (cell.reason or cell.open):
        mark = tag("a", mark, href=f"#{at}")
    return tag("td", mark, class_=survey_words.css_class(cell))


def _details(row: Row) -> Html:
    groups = survey_groups.groups(row)
    wrong = survey_groups.differences(groups)
    said = f"{row.name}: {plural(wrong, 'difference')}" if wrong else row.name
    parts: list[Html] = [
        facts([(label, code(text) if label == "set" else text) for label, text in survey_words.facts(row)])
    ]
    parts += [_finding(row, group) for group in groups]
    questions = survey_words.open_questions(row)
    if questions:
        parts.append(tag("h4", "Not judged, or not supported"))
        parts.append(bullets(join([tag("span", where, class_="dim"), " ", clipped(why)]) for where, why in questions))
    if row.notes:
        parts += [tag("h4", "Remarks on the config"), bullets(clipped(note, 300) for note in row.notes)]
    return tag("details", tag("summary", said), *parts, id=survey_groups.anchor(row), class_="row")


def _finding(row: Row, group: Group) -> Html:
    lead = group.lead
    words, colour = _SEVERITY[lead.severity]
    shown = [("show it", code(survey_groups.command(row, group)))] if group.shown else []
    return tag(
        "div",
        tag(
            "p",
            coloured(words, colour),
            " ",
            tag("strong", lead.slug),
            " ",
            tag("span", f"{lead.code} {lead.part}", class_="dim"),
        ),
        tag("p", clipped(lead.message)),
        tag("p", group.where, class_="dim"),
        facts([*group.evidence, *shown]),
        class_=f"finding {lead.severity}",
        id=group.anchor,
    )


def _missing(survey: Survey) -> Iterator[Html]:
    titles = {
        Status.NOT_BUILT: "No tiny model could be built",
        Status.LOST: "The process died or took too long",
        Status.NO_TEXT: "No text model (images, audio, time series)",
    }
    for status, title in titles.items():
        rows = [row for row in survey.rows if row.status is status]
        if not rows:
            continue
        listed = bullets(
            join([code(row.name), " ", tag("span", clipped(row.reason, 300), class_="dim")]) for row in rows
        )
        yield fold(f"{title}: {len(rows)}", listed)
    if survey.left:
        yield tag("p", f"{plural(survey.left, 'type')} not yet surveyed.")
