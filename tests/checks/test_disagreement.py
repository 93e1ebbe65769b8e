"""Layers that declare nothing knowable where eager is no measure: implementations are laid beside each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attncheck import checks
from attncheck.checks.registry import rule
from attncheck.findings import Finding, Severity
from attncheck.semantics.layout import Layout
from attncheck.semantics.observation import Basis, Crashed, Method, ScenarioRun
from attncheck.semantics.spec import AttentionSpec
from attncheck.verdicts import Verdict
from tests import runs
from tests.runs import LEFT_PAD, PLAIN, layer, model

SLUG = "implementations-disagree"
#: As gemma2 declares with use_bidirectional_attention: it looks both ways, how far is not known.
BOTH = layer(None, None, unknown=frozenset({"window"}))


def ran(**effective: AttentionSpec) -> list[ScenarioRun]:
    """Implementation -> what it computes."""
    return [runs.run(runs.calls(spec, PLAIN), PLAIN, implementation=name) for name, spec in effective.items()]


def found(given: list[ScenarioRun], spec: AttentionSpec = BOTH, **fields: Any) -> list[Finding]:
    findings = checks.evaluate(runs.inputs(model(spec), *given, **fields)).findings
    return [finding for finding in findings if finding.slug == SLUG]


def test_two_windows_and_nobody_says_which() -> None:
    """eager, the usual measure, did not run."""
    given = ran(sdpa=layer(8, 8), flex_attention=layer(8, 8), flash_attention_2=layer(7, 7))
    (finding,) = found(given, default="sdpa")
    assert finding.severity is Severity.WARNING
    assert finding.basis is Basis.MEASURED
    assert finding.implementation is None
    assert "sdpa, flex_attention: reach 8 back and 8 ahead" in finding.message
    assert "flash_attention_2: reach 7 back and 7 ahead" in finding.message
    assert finding.evidence.first_difference == (0, 0, 8)
    assert finding.evidence.missed > 0
    assert "--impl sdpa,flex_attention,flash_attention_2 --scenario plain" in finding.reproduction
    assert finding.recommendations[0].text.startswith("name sdpa")
    assert len(finding.recommendations) == 2


def test_gemma2_on_an_h100() -> None:
    """Recorded: eager and sdpa see 7 back, flash attention 7 back and 7 ahead. Who looks one way only is wrong."""
    given = ran(eager=layer(7), sdpa=layer(7), flash_attention_2=layer(7, 7), flash_attention_4=layer(7, 7))
    assert found(given, default="eager") == []
    findings = checks.evaluate(runs.inputs(model(BOTH), *given)).findings
    assert {(finding.implementation, finding.slug) for finding in findings if finding.severity is Severity.ERROR} == {
        ("eager", "causal-unexpected"),
        ("sdpa", "causal-unexpected"),
    }


def test_the_cells_stay_without_a_verdict() -> None:
    """Nobody knows which one is right."""
    given = ran(sdpa=layer(8, 8), flash_attention_2=layer(7, 7))
    cells = checks.evaluate(runs.inputs(model(BOTH), *given)).cells
    assert {cell.verdict for cell in cells} == {Verdict.UNKNOWN}


def test_quiet_when_they_agree() -> None:
    assert found(ran(sdpa=layer(7, 7), flex_attention=layer(7, 7), flash_attention_2=layer(7, 7))) == []


def test_quiet_where_eager_is_a_measure() -> None:
    """Then the others are compared with it, which is an error's business."""
    given = ran(eager=layer(8, 8), flash_attention_2=layer(7, 7))
    assert found(given) == []
    slugs = {finding.slug for finding in checks.evaluate(runs.inputs(model(BOTH), *given)).findings}
    assert "window-off-by-one" in slugs


def test_without_eager_the_others_are_still_compared() -> None:
    assert len(found(ran(sdpa=layer(8, 8), flash_attention_2=layer(7, 7)))) == 1


@pytest.mark.parametrize("spec", [layer(7), replace(BOTH, unknown=frozenset({"kind"}))])
def test_quiet_where_the_mask_is_declared_or_the_kind_is_unknown(spec: AttentionSpec) -> None:
    assert found(ran(eager=layer(7), sdpa=layer(7, 7)), spec) == []


def test_three_ways() -> None:
    (finding,) = found(ran(flex_attention=layer(8, 8), sdpa=layer(None, None), flash_attention_2=layer(7, 7)))
    assert finding.evidence.figures["camps"] == 3
    assert "sdpa: every key" in finding.message


def test_a_crashed_probe_is_survived_and_the_others_are_compared() -> None:
    crashed = runs.run(Crashed("signal", "SIGSEGV"), PLAIN, implementation="flash_attention_3")
    assert len(found([crashed, *ran(sdpa=layer(8, 8), flash_attention_2=layer(7, 7))])) == 1
    assert found([crashed, *ran(sdpa=layer(8, 8))]) == []


def test_broken_numbers_are_no_opinion() -> None:
    nan = runs.run(runs.calls(layer(7, 7), PLAIN, nan_rows=((0, 3),)), PLAIN, implementation="sdpa")
    assert found([nan, *ran(flex_attention=layer(8, 8))]) == []


def test_black_box_readings_are_not_laid_beside_exact_ones() -> None:
    """They cannot see a query's own key."""
    outside = runs.run(runs.calls(layer(7, 7), PLAIN, method=Method.PERTURBATION), PLAIN, implementation="sdpa")
    assert found([outside, *ran(flex_attention=layer(8, 8))]) == []


def test_who_breaks_the_inputs_is_another_rules() -> None:
    """An implementation that sees padding is reported for that; what is left agrees."""
    two = runs.TWO_FULL
    leaking = runs.run(runs.calls(layer(7), LEFT_PAD, fed=two), LEFT_PAD, implementation="sdpa", scenario="left-pad")
    given = [
        leaking,
        *(
            runs.run(runs.calls(layer(7), LEFT_PAD), LEFT_PAD, implementation=name, scenario="left-pad")
            for name in ("eager", "flash_attention_2")
        ),
    ]
    assert found(given) == []


def test_padding_rows_are_no_disagreement() -> None:
    """Queries of padding tokens see whatever a kernel likes."""

    def spoil(keep: Any) -> Any:
        return runs.cells(keep, lambda query, key, kept: kept or (query < 3 and key < 3))

    padded = Layout((max(LEFT_PAD.rows, key=lambda row: row.document.count(-1)),), LEFT_PAD.steps)
    assert padded.rows[0].document[:3] == (-1, -1, -1)
    given = [
        runs.run(
            runs.calls(layer(7), padded, spoil=spoil if name == "sdpa" else None),
            padded,
            implementation=name,
            scenario="left-pad",
        )
        for name in ("eager", "sdpa")
    ]
    leaks = {finding.slug for finding in checks.evaluate(runs.inputs(model(BOTH), *given)).findings}
    assert SLUG not in leaks


def test_predictions_are_called_predictions() -> None:
    predicted = runs.run(
        runs.calls(layer(7, 7), PLAIN), PLAIN, implementation="flash_attention_2", basis=Basis.PREDICTED
    )
    (finding,) = found([predicted, *ran(sdpa=layer(8, 8))])
    assert finding.basis is Basis.PREDICTED


def test_the_rule_is_documented() -> None:
    documented = rule(SLUG)
    assert documented is not None
    assert all((documented.title, documented.finds, documented.why, documented.measured, documented.fix))
