"""Which implementation and scenario a survey's pages call wrong, on which basis, and where their cells lead."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

from markdown_it import MarkdownIt

from attncheck.render import survey_groups, survey_html, survey_markdown
from attncheck.surveyed import Row, State, Survey
from tests.survey.rows import PLAN, finding, row, survey

#: Places in which a row differs: the basis of each, and what its kernel was asked for.
PLACES = {
    ("eager", "packed"): ("measured", "a float mask"),
    ("sdpa", "decode"): ("predicted", "no mask"),
    ("sdpa", "packed"): ("predicted", "no mask"),
}


def scattered() -> Row:
    """A message that is found in three of six places, and two breakages: of sdpa alone, and of eager."""
    leaks = [
        finding(implementation=name, scenario=scenario, basis=basis, requested=asked)
        for (name, scenario), (basis, asked) in PLACES.items()
    ]
    broken = [
        finding("backend-unusable", name, scenario=scenario, severity=severity, message=f"It broke in {scenario}")
        for name, scenario, severity in (("sdpa", "plain", "warning"), ("eager", "decode", "note"))
    ]
    found = row("llama", *leaks, *broken)
    crashed = {(entry.implementation, entry.scenario): entry.severity for entry in broken}
    cells = (
        replace(cell, state=State.BREAKS, slugs=(), severity=crashed[place], reason="It broke")
        if (place := (cell.implementation, cell.scenario)) in crashed
        else replace(cell, basis=PLACES[place][0])
        if place in PLACES
        else cell
        for cell in found.cells
    )
    return replace(found, cells=tuple(cells))


def claims(where: str) -> set[tuple[str, str, str]]:
    """(implementation, basis, scenario)s that a line of a page names."""
    found = re.findall(r"(?:^|; )([\w, ]+) \((\w+)\): ([\w, -]+)", where)
    return {
        (name, basis, place)
        for names, basis, places in found
        for name in names.split(", ")
        for place in places.split(", ")
    }


def entries(page: str) -> dict[str, tuple[str, str]]:
    """Anchor -> (slug, where) of every finding of the HTML page."""
    root = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    found = [entry for entry in root.iter("div") if "finding" in (entry.get("class") or "").split()]
    return {
        entry.attrib["id"]: (
            entry.findtext("./p/strong") or "",
            "; ".join(line.text or "" for line in entry.findall("p[@class='dim']")),
        )
        for entry in found
    }


def real(found: Row) -> set[tuple[str, str, str]]:
    return {(entry.implementation, entry.basis, entry.scenario) for entry in found.findings}


def test_no_page_names_a_place_that_is_not_wrong_or_another_basis_than_its_own() -> None:
    page, text = survey_html.page(survey(scattered())), survey_markdown.text_of(survey(scattered()))
    told = set[tuple[str, str, str]]().union(*(claims(where) for _, where in entries(page).values()))
    assert told == real(scattered())
    lines = [part for line in text.splitlines() if line.startswith('- <a id="t-') for part in line.split("<br>")[1:]]
    assert set[tuple[str, str, str]]().union(*map(claims, lines)) == real(scattered())
    wrong = {
        (cell.implementation, cell.scenario)
        for cell in scattered().cells
        if cell.state in (State.MISMATCH, State.BREAKS)
    }
    assert {(name, scenario) for name, _, scenario in told} == wrong


def test_evidence_that_differs_is_told_apart_and_is_one_difference() -> None:
    found = survey_groups.groups(scattered())
    leaks = [group for group in found if group.lead.slug == "packing-leak"]
    assert [group.where for group in leaks] == ["eager (measured): packed", "sdpa (predicted): decode, packed"]
    assert [dict(group.evidence)["requested"] for group in leaks] == ["a float mask", "no mask"]
    assert survey_groups.differences(found) == 2  # one leak, one breakage; a note is none
    page = survey_html.page(survey(scattered()))
    assert "llama: 2 differences" in page
    (one,) = [group for group in survey_groups.groups(scattered(), evidence=False) if group.lead.slug == "packing-leak"]
    assert one.where == "eager (measured): packed; sdpa (predicted): decode, packed"


def test_each_wrong_cell_leads_to_what_was_found_in_that_place() -> None:
    page = survey_html.page(survey(scattered()))
    root = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    (line,) = root.findall(".//tbody/tr")
    places = [(name, scenario) for name in PLAN.implementations for scenario in PLAN.scenarios]
    at = entries(page)
    seen = {}
    for place, cell in zip(places, line.findall("td")):
        link = cell.find("a")
        if link is not None:
            seen[place] = at[link.attrib["href"].removeprefix("#")]
    assert {place: slug for place, (slug, _) in seen.items()} == {
        **dict.fromkeys(PLACES, "packing-leak"),
        ("sdpa", "plain"): "backend-unusable",
        ("eager", "decode"): "backend-unusable",
    }
    assert all(place in {(name, scenario) for name, _, scenario in claims(where)} for place, (_, where) in seen.items())


def test_symbols_of_the_markdown_table_are_links_to_what_was_found_in_that_place() -> None:
    text = survey_markdown.text_of(survey(scattered()))
    page = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert (
        '<code>✓<a href="#t-llama-backend-unusable-2">⊘</a> <a href="#t-llama-packing-leak">!</a></code></td>\n'
        '<td><code><a href="#t-llama-backend-unusable">⊗</a><a href="#t-llama-packing-leak">!</a> '
        '<a href="#t-llama-packing-leak">!</a></code>'
    ) in page
    both = "eager (measured): packed; sdpa (predicted): decode, packed"
    assert f"</a>**warning** `packing-leak` (decoder): Packed documents attend to each other<br>{both}<br>`" in text


def test_the_pages_say_that_a_command_which_names_a_scenario_counts_it_as_used() -> None:
    opt_in, asked = survey(scattered()), Survey(replace(PLAN, asked=True), (scattered(),))
    for page in (survey_html.page, survey_markdown.text_of):
        assert "a mismatch that is a warning here is an error there" in page(opt_in)
        assert "is an error there" not in page(asked)
