"""The HTML report: well-formed, everything escaped, nothing loaded, small, usable without sight and mouse."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from attncheck.findings import Evidence, Recommendation, Severity
from attncheck.render import html_markup, html_masks, verdict
from attncheck.render.html_style import DARK, LIGHT
from attncheck.semantics.convention import Convention, Outcome
from attncheck.semantics.keepmask import KeepMask
from attncheck.stored import report as stored
from tests import sample_machines, sample_reports
from tests.builders import causal
from tests.html_pages import EVIL, PAGES, evil_report, hundred_layers, page, parsed, tree

RECORDED = sorted((Path(__file__).parents[1] / "gpu" / "recorded").glob("*.json"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_well_formed(name: str) -> None:
    text = page(PAGES[name]())
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    root = tree(text)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for link in root.iter("a"):
        assert str(link.get("href")).removeprefix("#") in ids
    for grid in root.iter("table"):
        widths = {sum(int(cell.get("colspan", "1")) for cell in row) for row in grid.iter("tr")}
        assert len(widths) == 1
    assert parsed(text).found


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_reports_have_pages(path: Path) -> None:
    report = stored.read(str(path))
    text = page(report)
    root = tree(text)
    plots = re.findall(r"data:image/svg\+xml;base64,[^\"]+", text)
    assert len(text.encode()) - sum(map(len, plots)) < 300_000
    assert all(len(plot) < 120_000 for plot in plots)
    said = " ".join("".join(root.itertext()).split())
    for slug in {finding.slug for finding in report.findings}:
        assert slug in said
    if report.findings:
        assert root.findall(".//button[@class='copy']")
    with_masks = {f.slug for f in report.findings if f.evidence.effective_mask != f.evidence.declared_mask}
    assert len(root.findall(".//figure")) >= len(with_masks)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_used_without_sight_and_mouse(name: str) -> None:
    root = tree(page(PAGES[name]()))
    levels = [int(element.tag[1]) for element in root.iter() if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for image in root.iter("img"):
        assert len(image.get("alt", "")) > 20
    for picture in root.iter("svg"):
        assert picture.get("aria-hidden") == "true" or (picture.get("role") == "img" and picture.get("aria-label"))
    for button in root.iter("button"):
        assert "".join(button.itertext()) == "Copy"
        assert str(button.get("aria-label")).startswith("Copy the ")
    for box in root.iter("div"):
        if box.get("class") in ("scroll", "panels"):
            assert box.get("tabindex") == "0"
            assert box.get("aria-label")
    for row in root.iter("tr"):
        assert any(cell.tag == "th" and cell.get("scope") for cell in row)


def test_nothing_is_loaded_and_nothing_else_may_run() -> None:
    for build in PAGES.values():
        text = page(build())
        elements = parsed(text)
        policy = next(str(a["content"]) for _, a in elements.found if a.get("http-equiv") == "Content-Security-Policy")
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        for tag, attributes in elements.found:
            assert tag not in ("link", "iframe", "object", "embed", "form", "base")
            assert not [name for name in attributes if name.startswith("on") or name in ("style", "srcset")]
            assert (
                str(attributes.get("src", "data:")).startswith("data:image/svg+xml;base64,") or "src" not in attributes
            )
            assert str(attributes.get("href", "#")).startswith("#")
        assert [tag for tag, _ in elements.found].count("script") == 1
        assert "url(http" not in text
        assert "@import" not in text


def test_markup_in_a_report_stays_text() -> None:
    text = page(evil_report())
    tree(text)
    elements = parsed(text)
    plain = {tag for build in PAGES.values() for tag, _ in parsed(page(build())).found}
    assert {tag for tag, _ in elements.found} <= plain
    assert [tag for tag, _ in elements.found].count("script") == 1
    assert "alert(1)</script>" not in text
    assert not [attributes for _, attributes in elements.found if "onerror" in attributes]
    shown = EVIL.replace("\u202e", "\\u202e")
    assert elements.text.count(shown) > 30
    assert "\u202e" not in text


def test_machines_with_markup_in_their_facts_stay_text() -> None:
    report = sample_machines.h100_report()
    call = Convention(EVIL, EVIL, "window", 64, 64, Outcome.REFUSED, None, detail=EVIL)
    text = page(dataclasses.replace(report, conventions=(*report.conventions, call), missing={"torch": EVIL}))
    tree(text)
    assert [tag for tag, _ in parsed(text).found].count("script") == 1


@given(st.text(max_size=60))
def test_any_text_and_attribute_comes_out_as_it_went_in(words: str) -> None:
    element = tree(html_markup.tag("p", words, title=words))
    shown = html_markup._HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", html_markup.printable(words))
    assert (element.text or "") == shown
    assert element.get("title") == re.sub(r"[\n\t]", " ", shown)  # as every XML parser reads an attribute


def test_html_that_is_put_together_as_a_plain_string_is_escaped() -> None:
    made = html_markup.tag("b", "x")
    assert html_markup.tag("p", made) == "<p><b>x</b></p>"
    assert html_markup.tag("p", made + "") == "<p>&lt;b&gt;x&lt;/b&gt;</p>"


def test_styles_become_classes_and_unknown_ones_nothing() -> None:
    text = Text.assemble(("a<", "bold red"), "b", ("c", 'link"><script>'))
    assert html_markup.words(text) == '<span class="bold red">a&lt;</span>bc'


@given(st.lists(st.integers(0, 2**12 - 1), min_size=1, max_size=12), st.lists(st.integers(0, 2**12 - 1), max_size=12))
def test_paths_hold_exactly_the_cells_of_the_masks(declared: list[int], effective: list[int]) -> None:
    rows = (*effective, *declared)[: len(declared)]
    wanted, seen = KeepMask(tuple(declared), 12), KeepMask(tuple(rows), 12)
    figure = html_masks.figure(Evidence(declared_mask=wanted, effective_mask=seen), "")
    if wanted == seen:
        assert not figure
        return
    panels = tree(figure).findall(".//div[@class='panel']")
    cells = {str(panel.get("data-name")): _cells(panel) for panel in panels}
    assert cells["declared"]["kept"] == set(wanted.cells())
    assert cells["effective"]["kept"] == set(wanted.cells()) & set(seen.cells())
    assert cells["effective"]["leaked"] == set(seen.minus(wanted).cells())
    assert cells["effective"]["missed"] == set(wanted.minus(seen).cells())


def _cells(panel: ElementTree.Element) -> dict[str, set[tuple[int, int]]]:
    found: dict[str, set[tuple[int, int]]] = {"kept": set(), "leaked": set(), "missed": set()}
    for path in panel.iter("path"):
        state = str(path.get("class")).split()[0]
        for x, y, w, h in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)h-\d+z", str(path.get("d"))):
            area = {(int(y) + i, int(x) + j) for i in range(int(h)) for j in range(int(w))}
            assert not area & found[state]
            found[state] |= area
    return found


def test_requested_stands_between_declared_and_effective_where_it_is_known() -> None:
    evidence = Evidence(declared_mask=causal(8, 2), requested_mask=causal(8, 3), effective_mask=causal(8))
    panels = tree(html_masks.figure(evidence, "")).findall(".//div[@class='panel']")
    assert [panel.get("data-name") for panel in panels] == ["declared", "requested", "effective"]
    marks = [mark for panel in panels for mark in panel.iter("rect") if mark.get("class") == "first"]
    assert [(mark.get("x"), mark.get("y")) for mark in marks] == [("0", "2")] * 3
    other = dataclasses.replace(evidence, requested_mask=causal(9))
    assert len(tree(html_masks.figure(other, "")).findall(".//div[@class='panel']")) == 2


def test_a_large_mask_is_cropped_around_its_first_difference() -> None:
    lost = KeepMask.from_rule(300, 300, lambda i, j: j <= i and (i, j) != (250, 240))
    figure = tree(html_masks.figure(Evidence(declared_mask=causal(300), effective_mask=lost), ""))
    assert int(str(figure.get("data-queries"))) == int(str(figure.get("data-keys"))) == html_masks.CELLS
    query = int(str(figure.get("data-query"))) + int(str(figure.get("data-y")))
    assert (query, int(str(figure.get("data-key"))) + int(str(figure.get("data-x")))) == (250, 240)
    assert "query 250, key 240" in "".join(figure.itertext())


def test_a_model_of_a_hundred_layers_stays_below_a_megabyte() -> None:
    text = page(hundred_layers())
    root = tree(text)
    assert len(text.encode()) < 1_000_000
    assert len(root.findall(".//section[@id='declared']//tbody/tr")) == 100
    assert len(root.findall(".//details[@class='finding error']")) == 40
    drawn = text.count("<figure")
    assert 10 < drawn < 100  # ragged masks have no long runs
    assert text.count("Its picture is left out") == 100 - drawn
    assert sum(1 for _ in root.iter()) < 12_000  # a page is laid out by elements: never one a cell


def test_each_fix_and_reproduction_can_be_copied() -> None:
    root = tree(page(sample_reports.faulty_report()))
    copied = {"".join(box.find("pre").itertext()) for box in root.findall(".//div[@class='copyable']")}  # type: ignore[union-attr]
    for finding in sample_reports.faulty_report().findings:
        assert not finding.reproduction or finding.reproduction in copied
        assert {advice.paste for advice in finding.recommendations if advice.paste} <= copied


@pytest.mark.parametrize("name", ["faulty", "watch", "settings", "without"])
def test_the_counts_stand_once_at_the_top(name: str) -> None:
    report = PAGES[name]()
    header = tree(page(report)).find(".//header")
    assert header is not None
    said = " ".join(header.itertext())
    for severity in (Severity.ERROR, Severity.WARNING):
        assert said.count(verdict.count(report, severity)) == 1


def test_every_cell_of_a_stacked_table_can_say_what_it_is() -> None:
    (grid,) = [table for table in tree(page(PAGES["watch"]())).iter("table") if table.get("class") == "stack"]
    headings = ["".join(cell.itertext()) for cell in grid.findall("./thead/tr/th")]
    for row in grid.findall("./tbody/tr"):
        assert [cell.get("data-label") for cell in row.findall("td")] == headings[1:]


def test_more_ways_to_mend_something_than_a_few_are_in_a_fold() -> None:
    report = sample_reports.faulty_report()
    lead = report.findings[0]
    ways = tuple(Recommendation(f"Way {number}.") for number in range(7))
    for count, folded in ((4, 0), (5, 2), (7, 4)):
        many = dataclasses.replace(report, findings=(dataclasses.replace(lead, recommendations=ways[:count]),))
        card = tree(page(many)).find(".//details[@class='finding error']")
        assert card is not None
        inside = [" ".join(fold.itertext()) for fold in card.findall("./details")]
        found = [text for text in inside if "Way" in text]
        assert [text.count("Way") for text in found] == ([folded] if folded else [])
        assert "".join(card.itertext()).count("Way ") == count


def test_tables_of_a_bench_that_would_have_the_same_title_say_their_shape() -> None:
    root = tree(page(stored.read(str(next(path for path in RECORDED if path.stem == "bench_headline")))))
    titles = ["".join(title.itertext()) for title in root.iter("h2")]
    assert len(set(titles)) == len(titles)
    assert "Kernel: prefill, forward, causal (32 heads, head_dim 64, bfloat16)" in titles


def test_an_encoding_without_symbols_gets_references() -> None:
    text = page(sample_reports.healthy_report(), unicode=False)
    assert text.isascii()
    assert "".join(tree(text).itertext()) == "".join(tree(page(sample_reports.healthy_report())).itertext())


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_contrasts(colours: dict[str, str]) -> None:
    """WCAG 2: 4.5 for text, 3 for what a picture says."""
    for name in ("ink", "dim", "link", "red", "green", "yellow", "cyan", "magenta"):
        for ground in ("page", "card"):
            assert _contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for state in ("kept", "masked"):
        assert _contrast(colours["mark"], colours[state]) >= 3, state
    assert _contrast(colours["kept"], colours["masked"]) >= 3
    assert _contrast(colours["missed"], "#111111") >= 4.5


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG21/#dfn-relative-luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
