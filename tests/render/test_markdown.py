"""Markdown for GitHub: golden pages; whatever a report holds stays text; a page is never too long for an issue."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from syrupy.assertion import SnapshotAssertion

from attncheck.findings import Evidence, Recommendation, Setting
from attncheck.render import interface, markup
from attncheck.render.interface import Style
from attncheck.report import Report
from attncheck.semantics.convention import Convention, Outcome
from attncheck.verdicts import Launched
from tests import sample_machines, sample_reports

PAGES = {
    "healthy": sample_reports.healthy_report,
    "faulty": sample_reports.faulty_report,
    "h100": sample_machines.h100_report,
    "cpu": sample_machines.cpu_report,
    "static": sample_machines.static_report,
    "incident": sample_machines.incident_report,
}
EVIL = "a|b <script>alert(1)</script> `code` ``two`` **bold** [link](http://x) <!-- --> @octocat #1 ~~~ ``` \\ $x$ _it_"
GITHUB = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def page(report: Report, **style: object) -> str:
    return interface.render(report, "markdown", Style(**style))  # type: ignore[arg-type]


class Elements(HTMLParser):
    """What a browser would make of the page: open elements, table shapes and all text outside of code."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.rows: list[int] = []
        self.tables: list[list[int]] = []
        self.prose = ""
        self.code = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "br":
            return
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("td", "th"):
            self.tables[-1][-1] += 1

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "code" in self.open:
            self.code += data
        else:
            self.prose += data


def rendered(text: str) -> Elements:
    elements = Elements()
    elements.feed(GITHUB.render(text))
    elements.close()
    assert not elements.open
    return elements


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_the_one_that_was_looked_at(name: str, snapshot: SnapshotAssertion) -> None:
    assert page(PAGES[name]()) == snapshot


@pytest.mark.parametrize("name", PAGES)
def test_every_fold_closes_and_every_table_is_square(name: str) -> None:
    text = page(PAGES[name]())
    assert text.count("<details>") == text.count("</details>") == text.count("</summary>") > 0
    for table in rendered(text).tables:
        assert len(set(table)) == 1, table


@pytest.mark.parametrize("name", PAGES)
def test_each_group_of_findings_has_a_fold(name: str) -> None:
    report = PAGES[name]()
    text = page(report)
    for slug in {finding.slug for finding in report.findings}:
        assert re.search(rf"<details><summary><b>. (error|warning|note) {slug} ATC\d+</b>", text)


def test_the_summary_comes_first_and_the_environment_last() -> None:
    text = page(sample_machines.h100_report())
    marks = [
        "✗ broken: files-clobbered",
        "### What can run",
        "### What a window",
        "### Findings",
        "Every call",
        "Environ",
    ]
    assert sorted(marks, key=text.index) == marks


def test_fix_evidence_and_reproduction_can_be_copied() -> None:
    code = rendered(page(sample_machines.h100_report())).code
    for words in (
        "pip install --force-reinstall --no-deps flash-attn-4==4.0.0b36\n",
        'python -c "import flash_attn.cute"\n',
        "flash_attn/cute/interface.py as flash-attn's RECORD has it",
    ):
        assert words in code


def test_the_table_shows_what_people_trip_over() -> None:
    text = page(sample_machines.h100_report())
    assert "| flash-attn-2 | 9 keys | `window_size=(W-1, 0)` | bottom-right |" in text
    assert "| cudnn-graph | 8 keys | `use_causal_mask=True, sliding_window_length=W` | top-left |" in text
    assert "| ✗ | `causal=True, window_size=(-1, 0)`<br>no query sees any key: every output row is 0" in text
    assert "| ✗ row sum 1.0 | sdpa-cudnn" in text


def evil_report() -> Report:
    report = sample_reports.faulty_report()
    assert report.model is not None
    setting = Setting("transformers", EVIL, EVIL, EVIL)
    finding = dataclasses.replace(
        report.findings[0],
        message=EVIL,
        scenario="plain",
        evidence=Evidence(declared=EVIL, requested=EVIL, effective=EVIL, figures={EVIL: EVIL}),
        reproduction=EVIL,
        recommendations=(Recommendation(EVIL, (setting,)),),
    )
    cells = tuple(dataclasses.replace(cell, reason=EVIL) for cell in report.matrix)
    notes = tuple(dataclasses.replace(note, text=EVIL) for note in report.model.notes)
    return dataclasses.replace(
        report,
        model=dataclasses.replace(report.model, id=EVIL, source_detail=EVIL, model_type=EVIL, notes=notes),
        arguments={"--set": EVIL},
        findings=(finding, *report.findings[1:]),
        matrix=cells,
        environment=dataclasses.replace(report.environment, variables={"NVTE_FLASH_ATTN": EVIL}, gpu_note=EVIL),
    )


def test_markup_in_a_report_stays_text() -> None:
    text = page(evil_report())
    elements = rendered(text)
    known = {
        "h2",
        "h3",
        "p",
        "ul",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "code",
        "pre",
        "sub",
        "br",
        "strong",
    }
    assert elements.tags <= known | {"details", "summary", "b", "blockquote"}
    for table in elements.tables:
        assert len(set(table)) == 1, table
    shown = " ".join(elements.prose.replace("\u200b", "").split())
    assert "a|b <script>alert(1)</script> `code` ``two`` **bold** [link](http://x)" in shown
    assert EVIL in elements.code


def test_nobody_is_mentioned_and_no_issue_is_referenced() -> None:
    prose = rendered(page(evil_report())).prose
    assert "octocat" in prose
    assert not re.search(r"@[A-Za-z0-9]|#\d|GH-\d", prose)


def test_machines_with_markup_in_their_facts_stay_text() -> None:
    call = Convention("any", EVIL, "window", 64, 64, Outcome.REFUSED, None, detail=EVIL)
    report = sample_machines.h100_report()
    report = dataclasses.replace(report, conventions=(*report.conventions, call), missing={"torch": EVIL})
    elements = rendered(page(report))
    assert "script" not in elements.tags
    assert all(len(set(table)) == 1 for table in elements.tables)


@given(st.text(alphabet=st.sampled_from("ab1 `*_[]()<>&|~#@-+=.\\$!\n\"'"), max_size=60))
def test_text_comes_out_as_it_went_in(words: str) -> None:
    """Whatever markup is made of: as a paragraph, a list entry and a table's cell it reads as it was written."""
    for wrapped in ("x {}", "- x {}", "| a |\n|---|\n| x {} |"):
        elements = rendered(wrapped.format(markup.text(words)))
        shown = " ".join(elements.prose.replace("\u200b", "").split())
        assert shown.removeprefix("a ") == " ".join(f"x {words}".split())
        assert elements.tags <= {"p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}


@given(st.text(alphabet=st.sampled_from("ab1 `*_[]<>&|~#@\\\n"), max_size=60))
def test_code_comes_out_as_it_went_in(words: str) -> None:
    line = " ".join(words.split())
    for wrapped in ("x {}", "| a |\n|---|\n| x {} |"):
        assert rendered(wrapped.format(markup.code(words))).code.replace("\u200b", "") == line
    elements = rendered(markup.fenced(f"x{words}"))
    assert elements.code == f"x{words}".strip("\n") + "\n"


def test_the_beginning_of_a_line_is_no_heading_list_or_rule() -> None:
    for words in ("# a", "- a", "+ a", "1. a", "2) a", "---", "===", "> a", "    a", "12"):
        elements = rendered(markup.text(words))
        assert elements.tags == {"p"}
        assert elements.prose.strip() == words.strip()


def long_reports() -> dict[str, Report]:
    report = sample_reports.faulty_report()
    machine = sample_machines.h100_report()
    big = "x" * 8_000
    many = tuple(
        dataclasses.replace(report.findings[0], slug=f"slug-{i}", message=f"{i} {big}", reproduction=big)
        for i in range(120)
    )
    environment = dataclasses.replace(report.environment, variables={f"NVTE_{i}": big for i in range(500)})
    assert report.model is not None
    endless = dataclasses.replace(report.model, id=big, source_detail=big)
    calls = tuple(sample_machines.read("any", f"size=8, n={i}", 8, 0) for i in range(3_000))
    return {
        "findings": dataclasses.replace(report, findings=many),
        "environment": dataclasses.replace(report, environment=environment),
        "model": dataclasses.replace(report, model=endless, arguments={str(i): big for i in range(400)}),
        "table": dataclasses.replace(machine, conventions=calls),
        "all": dataclasses.replace(machine, findings=many, conventions=calls, environment=environment),
    }


@pytest.mark.parametrize("name", long_reports())
def test_no_page_is_too_long_for_an_issue(name: str) -> None:
    text = page(long_reports()[name])
    assert len(text) <= markup.LIMIT
    assert text.count("<details>") == text.count("</details>")
    assert not [table for table in rendered(text).tables if len(set(table)) > 1]


def test_what_was_left_out_is_named() -> None:
    text = page(long_reports()["findings"])
    assert "> Left out or shortened, to stay within what GitHub accepts: details of slug-" in text
    assert "`--format json` has it all" in text
    assert "<details><summary>Environment</summary>" in text  # a bug report without it is worth little
    assert re.search(r"and \d+ more", text)
    assert "every call of the convention table" in page(long_reports()["table"]).split("> Left out")[1]


def test_a_page_that_fits_says_nothing_about_length() -> None:
    for build in PAGES.values():
        assert "Left out" not in page(build())


def test_an_encoding_without_symbols_gets_ascii() -> None:
    text = page(sample_machines.h100_report(), unicode=False)
    assert text.isascii()
    assert "x broken: files-clobbered" in text


@pytest.mark.parametrize("form", ["terminal", "markdown", "html"])
def test_kernels_whose_names_differ_in_what_is_cut_off_are_one_line(form: str) -> None:
    report = sample_reports.faulty_report()
    cutlass = "kernel_cutlass_kernel_flash_fwd_sm90_object_at__tensor0000o"
    ran = tuple(Launched(kernel, f"{cutlass}{end}") for kernel, end in (("", "1110"), ("", "2142"), ("flash", "1110")))
    sdpa = dataclasses.replace(report.implementations[1], launched=ran)
    text = interface.render(dataclasses.replace(report, implementations=(report.implementations[0], sdpa)), form)
    assert text.count("kernel_flash_fwd_sm90") == 2


def test_kernels_that_ran_are_in_a_fold() -> None:
    report = sample_reports.faulty_report()
    name = "void flash::flash_fwd_kernel<Traits, `x`>"
    sdpa = dataclasses.replace(report.implementations[1], launched=(Launched("flash", name),))
    text = page(dataclasses.replace(report, implementations=(report.implementations[0], sdpa)))
    assert "<details><summary>Kernels that ran</summary>" in text
    assert "flash::flash_fwd_kernel" in rendered(text).code
