"""The ledger explains every mismatch and holds nothing that no longer happens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attncheck.survey.options import SurveyOptions
from attncheck.survey.run import survey
from attncheck.surveyed import Row
from tests.campaigns.sweep import SAMPLE, findings
from tests.survey import ledger
from tests.survey.ledger import Entry, entries, stale, unexplained, unknown_types
from tests.survey.rows import PLAN, finding, row

ENTRY = Entry(
    name="packing",
    verdict="limitation",
    what="",
    slugs=("packing-leak",),
    implementations=("sdpa",),
    scenarios=("packed",),
    types=("llama",),
    variants=("no-mask", "ones-mask"),
)
ASKED = PLAN.implementations, PLAN.scenarios


def test_every_entry_of_the_ledger_is_complete() -> None:
    found = entries()
    assert found
    assert all(entry.types == tuple(sorted(set(entry.types))) for entry in found), "types are sorted, each once"


def test_an_entry_explains_its_own_mismatch_and_no_other() -> None:
    mine = row("llama", finding())
    assert unexplained([mine], [ENTRY]) == []
    for other in (
        row("mistral", finding()),
        row("llama", finding("packing-split")),
        row("llama", finding(implementation="eager")),
        row("llama", finding(scenario="plain")),
        row("llama", finding(variants=("boolean",))),
    ):
        assert unexplained([other], [ENTRY]), other


def test_a_note_is_no_mismatch() -> None:
    assert unexplained([row("llama", finding(severity="note"))], []) == []


def test_an_entry_that_no_longer_happens_is_stale() -> None:
    assert stale([row("llama", finding())], [ENTRY], ASKED) == []
    assert stale([row("llama")], [ENTRY], ASKED) == [
        "packing: no longer seen in llama",
        "packing: never seen as packing-leak",
        "packing: never seen as sdpa",
        "packing: never seen as packed",
    ]


def test_what_was_not_surveyed_is_not_stale() -> None:
    assert stale([row("mistral")], [ENTRY], ASKED) == []
    assert stale([row("llama")], [ENTRY], (("eager",), ("packed",))) == []
    assert stale([row("llama")], [ENTRY], (("sdpa",), ("plain",))) == []


def test_a_type_that_does_not_exist_is_told() -> None:
    assert unknown_types([row("mistral")], [ENTRY]) == ["llama"]


def test_a_sample_of_types_shows_what_the_ledger_says_of_them(tmp_path: Path) -> None:
    rows = sampled(tmp_path, SAMPLE[:6], seed=0)
    problems = ledger.words(unexplained(rows, entries())) + stale(rows, entries(), ledger_places(rows))
    assert not problems, "\n".join(problems)


@pytest.mark.slow
def test_all_types_show_what_the_ledger_says_and_the_seed_does_not_matter(tmp_path: Path) -> None:
    rows = sampled(tmp_path / "one", (), seed=0)
    known = entries()
    problems = ledger.words(unexplained(rows, known)) + stale(rows, known, ledger_places(rows))
    assert not problems, "\n".join(problems)
    assert not unknown_types(rows, known)
    assert findings(rows) == findings(sampled(tmp_path / "two", (), seed=1))


def sampled(folder: Path, types: tuple[str, ...], seed: int) -> list[Row]:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return list(survey(SurveyOptions(folder=str(folder), types=types, seed=seed)).rows)


def ledger_places(rows: list[Row]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    cells = [cell for entry in rows for cell in entry.cells]
    return tuple({cell.implementation for cell in cells}), tuple({cell.scenario for cell in cells})


#: The findings that were known before the survey was written (numbers of the field survey, section 3), as far as they
#: can be seen without a GPU and without patching transformers: (number, slug, type, implementation, scenario).
KNOWN_BEFORE = (
    (1, "causal-ignored", "doge", "flex_attention", "plain"),
    (2, "causal-unexpected", "gemma", "eager", "bidirectional"),
    (2, "causal-unexpected", "gemma", "flex_attention", "bidirectional"),
    (3, "causal-unexpected", "gemma", "sdpa", "bidirectional"),
    (4, "causal-unexpected", "gemma2", "eager", "bidirectional"),
    (5, "window-ignored", "moshi", "eager", "plain"),
    (5, "window-ignored", "moshi", "sdpa", "plain"),
    *(
        (7, "packing-leak", name, "eager", "packed")
        for name in (
            "bert", "bert-generation", "biogpt", "camembert", "data2vec-text", "electra", "ernie", "gpt_oss", "opt",
            "roberta", "roberta-prelayernorm", "roc_bert", "xlm-roberta", "xlm-roberta-xl",
        )
    ),
    *(
        (9, "packing-leak", name, "flash_attention_2", "packed")
        for name in ("fuyu", "gpt_bigcode", "persimmon", "recurrent_gemma", "zaya", "ctrl")
    ),
    (10, "packing-leak", "llama", "sdpa", "packed-cache"),
    (11, "packing-leak", "llama", "flash_attention_2", "packed-batch"),
    (12, "packing-split", "llama", "flash_attention_2", "position-jump"),
    (13, "window-ignored", "qwen2_moe", "flash_attention_2", "plain"),
    (15, "window-off-by-one", "t5gemma", "flash_attention_2", "plain"),
    (16, "window-off-by-one", "mistral", "flash_attention_2", "bidirectional"),
)  # fmt: skip


@pytest.mark.parametrize(("number", "slug", "name", "implementation", "scenario"), KNOWN_BEFORE)
def test_what_was_known_before_was_found_by_the_survey(
    number: int, slug: str, name: str, implementation: str, scenario: str
) -> None:
    """An entry of the ledger that no survey shows is stale, so what stands in it was found."""
    assert any(
        entry.verdict == "genuine"
        and slug in entry.slugs
        and name in entry.types
        and implementation in entry.implementations
        and scenario in entry.scenarios
        for entry in entries()
    )
