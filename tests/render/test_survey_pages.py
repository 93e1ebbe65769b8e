"""The support matrix as a page, as Markdown and as a summary: every state is told apart and linked to its finding."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from attncheck.render import survey_html, survey_markdown, survey_summary, survey_terminal, survey_words
from attncheck.render.interface import Style
from attncheck.render.symbols import ascii_only
from attncheck.surveyed import Row, State, Status, Survey, SurveyCell
from tests.survey.rows import PLAN, finding, row, survey, vision

NASTY = '<script>alert("x")</script>'


def sample() -> Survey:
    wrong = finding("window-ignored", severity="error", scenario="plain", message=f"The window is not applied {NASTY}")
    mixed = row("mistral", wrong, setting="window", assignments=("sliding_window=64",))
    states = tuple(
        SurveyCell("eager", scenario, state, reason="refused in words")
        for scenario, state in zip(PLAN.scenarios, (State.BREAKS, State.NOT_SUPPORTED, State.UNKNOWN))
    )
    partly = SurveyCell("sdpa", "plain", State.PREDICTED, "predicted", open="cross: declared window: unknown")
    lost = Row("bamba", status=Status.NOT_BUILT, reason="ValueError: no layer attends", last=True)
    return survey(row("llama", finding()), mixed, row("odd", cells=(*states, partly)), lost, vision())


def test_the_page_is_well_formed_and_holds_every_row() -> None:
    page = survey_html.page(sample())
    root = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    headings = [found.text for found in root.iter("a") if (found.get("href") or "").startswith("#t-")]
    assert {"llama", "mistral (window)", "odd"} <= set(headings)
    assert NASTY not in page


def test_every_mismatch_is_linked_to_a_finding_that_exists() -> None:
    page = survey_html.page(sample())
    targets = set(re.findall(r'href="#([^"]+)"', page))
    present = set(re.findall(r' id="([^"]+)"', page))
    assert targets <= present
    assert 'href="#t-mistral--window--window-ignored"' in page


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = survey_html.page(sample())
    assert "default-src 'none'" in page or "default-src &#x27;none&#x27;" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


def test_each_state_has_a_symbol_of_its_own() -> None:
    cells = [SurveyCell("eager", "plain", state, severity="error") for state in State]
    cells.append(SurveyCell("eager", "plain", State.MISMATCH, severity="warning"))
    cells += [SurveyCell("eager", "plain", state, severity="note") for state in (State.MISMATCH, State.BREAKS)]
    cells.append(SurveyCell("eager", "plain", State.MEASURED, open="the rest"))
    symbols = [survey_words.symbol(cell) for cell in (*cells, None)]
    assert len(set(symbols)) == len(symbols)
    assert {mark for mark, _, _ in survey_words.legend()} == set(symbols) - {survey_words.BLANK}
    assert len(set(ascii_only("".join(symbols)))) == len(symbols)


def test_a_finding_is_shown_with_the_command_that_measures_it_again() -> None:
    page = survey_html.page(sample())
    assert "attncheck compare mistral --set sliding_window=64 --impl eager,sdpa --scenario plain" in page
    assert "attncheck compare mistral --set sliding_window=64" in survey_markdown.text_of(sample())


def test_markdown_has_one_symbol_a_scenario_and_links_only_to_what_is_there() -> None:
    text = survey_markdown.text_of(sample())
    wrong = "<code>[✗](#t-mistral--window--window-ignored)✓ ✓</code>"
    assert f"| [mistral (window)](#t-mistral--window-) | <code>✓✓ ✓</code> | {wrong} |" in text
    assert "| odd | <code>⊗– ?</code> | <code>◐&nbsp; &nbsp;</code>" in text
    anchors = re.findall(r'<a id="([^"]+)">', text)
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(anchors)
    assert "vit" in text


def test_what_was_not_probed_is_told_with_its_reason() -> None:
    page = survey_html.page(sample())
    assert "no layer attends" in page
    assert "No text model (images, audio, time series): 1" in page


@pytest.mark.parametrize("width", [60, 100])
def test_the_summary_names_what_is_wrong(width: int) -> None:
    text = survey_terminal.terminal(sample(), Style(width=width), ["matrix.html"])
    assert "window-ignored x sdpa (measured) in plain" in text
    assert "matrix.html" in text
    assert all(len(line) <= width for line in text.splitlines())


def test_a_small_matrix_stands_in_the_terminal_and_a_large_one_in_its_files() -> None:
    text = survey_terminal.terminal(sample(), Style(width=100), [])
    assert re.search(r"mistral \(window\) +✓✓ ✓ +✗✓ ✓", text)
    assert "each symbol a scenario: plain, decode, packed" in text
    assert "✗ mismatch: what runs is not what is declared" in text
    many = survey(*(row(f"type{number}") for number in range(60)))
    assert "type7 " not in survey_terminal.terminal(many, Style(width=100), [])


def test_the_summary_as_json_counts_states_and_types() -> None:
    found = json.loads(survey_summary.json_text(sample()))
    assert found["schema"] == 1
    assert found["command"] == "survey"
    assert found["survey"]["types"] == {"surveyed": 2, "no_text": 1, "not_built": 1, "lost": 0}
    assert found["survey"]["cells"]["sdpa"]["mismatch"] == 2
    assert found["summary"] == {"errors": 1, "warnings": 1, "notes": 0}


def test_a_measured_kernel_and_its_prediction_are_laid_side_by_side() -> None:
    plan = replace(
        PLAN, implementations=("flash_attention_2", "flash_attention_2:predicted"), scenarios=("plain", "decode")
    )
    cells = (
        SurveyCell("flash_attention_2", "plain", State.MEASURED, "measured"),
        SurveyCell("flash_attention_2", "decode", State.MISMATCH, "measured", ("window-ignored",), "error"),
        SurveyCell("flash_attention_2:predicted", "plain", State.PREDICTED, "predicted"),
        SurveyCell("flash_attention_2:predicted", "decode", State.PREDICTED, "predicted"),
    )
    lines = survey_summary.disagreements(Survey(plan, (row("llama", cells=cells),)))
    assert lines == [
        "flash_attention_2: 1 of 2 cells agree with the prediction, 0 judged on one side only",
        "  llama decode: measured window-ignored, predicted right",
    ]
    assert survey_summary.disagreements(sample()) == []


def test_the_exit_code_follows_the_findings() -> None:
    assert sample().exit_code("error") == 1
    assert survey(row("llama", finding())).exit_code("error") == 0
    assert survey(row("llama", finding())).exit_code("warning") == 1
    assert sample().exit_code("never") == 0
    unread = (SurveyCell("eager", "plain", State.UNKNOWN),)
    assert survey(row("llama", cells=unread)).exit_code("error") == 3


def test_predicted_symbols_strike_nothing_out_in_markdown() -> None:
    cells = tuple(SurveyCell("sdpa", scenario, State.PREDICTED, "predicted") for scenario in PLAN.scenarios)
    page = MarkdownIt("gfm-like", {"linkify": False}).render(survey_markdown.text_of(survey(row("llama", cells=cells))))
    assert "<code>~~ ~</code>" in page


def test_a_row_whose_findings_are_notes_is_linked_too() -> None:
    remark = finding("config-remark", "", severity="note", scenario="", basis="static", message="head_map unknown")
    text = survey_markdown.text_of(survey(row("llama", remark)))
    assert "| [llama](#t-llama) |" in text
    assert "`config-remark` (decoder): head_map unknown<br>static\n" in text


@pytest.mark.parametrize(
    ("state", "severity", "scenario", "asked", "kept"),
    [
        (State.MISMATCH, "error", "plain", False, True),
        (State.BREAKS, "warning", "plain", False, True),
        (State.MISMATCH, "note", "plain", False, False),
        (State.BREAKS, "note", "plain", False, False),
        (State.MISMATCH, "warning", "packed", False, False),
        (State.BREAKS, "warning", "packed", False, False),
        (State.MISMATCH, "error", "packed", True, True),
    ],
)
def test_the_filter_keeps_rows_that_are_wrong_where_it_matters_to_everybody(
    state: State, severity: str, scenario: str, asked: bool, kept: bool
) -> None:
    cell = SurveyCell("sdpa", scenario, state, "measured", severity=severity)
    page = survey_html.page(Survey(replace(PLAN, asked=asked), (row("llama", cells=(cell,)),)))
    assert ('<tr class="wrong">' in page) is kept
    assert ("in a scenario that was asked for<" in page) is asked


def test_what_is_never_met_is_not_called_an_opt_in_feature() -> None:
    never = finding("window-ignored", severity="note", scenario="plain", message="never met by at most 3000 tokens")
    text = survey_terminal.terminal(survey(row("moshi", never)), Style(width=100), [])
    assert re.search(r"moshi +✓✓ ✓ +i✓ ✓", text)
    assert "i differs, never met here" in text
    assert "opt-in" not in text


def test_what_a_row_leaves_open_is_said_of_its_own_places_alone() -> None:
    cells = (
        SurveyCell("eager", "plain", State.UNKNOWN, reason="not read"),
        SurveyCell("sdpa", "packed", State.UNKNOWN, reason="not read"),
        SurveyCell("eager", "decode", State.MISMATCH, "measured", ("packing-leak",), "warning", open="cross: unknown"),
    )
    assert survey_words.open_questions(row("llama", cells=cells)) == [
        ("unknown: eager: plain; sdpa: packed", "not read"),
        ("unknown beside the mismatch: eager (measured): decode", "cross: unknown"),
    ]
