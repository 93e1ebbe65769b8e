"""What outputs say beside the readings: generation that differs from one pass, padding that reaches real tokens."""

from __future__ import annotations

import pytest

from attncheck import checks
from attncheck.checks import Options
from attncheck.findings import Severity
from attncheck.semantics.observation import Basis, Beside, Crashed, Observed, ScenarioRun
from attncheck.verdicts import Verdict
from tests import runs
from tests.runs import DECODE_8, LEFT_PAD, PLAIN, layer, model

SPEC = layer(7)
TINY = model(SPEC, SPEC)
DECODED = tuple(call for spec in TINY.layers for call in runs.calls(spec, DECODE_8))
PADDED = tuple(call for spec in TINY.layers for call in runs.calls(spec, LEFT_PAD))
ASKED = Options(scenarios=frozenset(("cache-kinds",)))


def generated(drift: float | None) -> ScenarioRun:
    return runs.run(
        Observed(DECODED, beside=Beside(drift=drift)),
        DECODE_8, scenario="cache-kinds", variant="hybrid-prompt-8", core=False,
    )  # fmt: skip


def padded(spill: float | None, calls: tuple = PADDED, **fields: object) -> ScenarioRun:
    return runs.run(
        Observed(calls, beside=Beside(spill=spill)), LEFT_PAD, scenario="left-pad", variant="mask", **fields
    )


@pytest.mark.parametrize(("options", "severity"), [(ASKED, Severity.ERROR), (Options(), Severity.WARNING)])
def test_generation_that_differs_from_one_pass_is_a_cache_mismatch(options: Options, severity: Severity) -> None:
    conclusion = checks.evaluate(runs.inputs(TINY, generated(0.2), options=options))
    (finding,) = (f for f in conclusion.findings if f.implementation == "sdpa")
    assert (finding.slug, finding.severity, finding.scenario) == ("cache-mismatch", severity, "cache-kinds")
    assert finding.basis is Basis.MEASURED
    assert finding.layers == (0, 1)
    assert finding.evidence.figures["drift"] == 0.2
    assert "20.0%" in finding.message
    assert all(cell.verdict is Verdict.MISMATCH for cell in conclusion.cells)


@pytest.mark.parametrize("drift", [None, 0.0, 2e-6])
def test_generation_that_agrees_is_right(drift: float | None) -> None:
    conclusion = checks.evaluate(runs.inputs(TINY, generated(drift), options=ASKED))
    assert not conclusion.findings
    assert all(cell.verdict is Verdict.OK for cell in conclusion.cells)


def test_padding_that_reaches_real_tokens_without_attention_is_a_note() -> None:
    conclusion = checks.evaluate(runs.inputs(TINY, padded(0.1)))
    (finding,) = conclusion.findings
    assert (finding.slug, finding.severity, finding.implementation) == ("padding-ignored", Severity.NOTE, "sdpa")
    assert finding.recommendations
    assert finding.evidence.figures["spill"] == 0.1
    assert all(cell.verdict is Verdict.OK for cell in conclusion.cells), "attention itself is right"


@pytest.mark.parametrize("spill", [None, 0.0, 1e-6])
def test_padding_that_reaches_nobody_is_not_mentioned(spill: float | None) -> None:
    assert not checks.evaluate(runs.inputs(TINY, padded(spill))).findings


def test_attention_that_sees_padding_is_told_once() -> None:
    wrong = tuple(
        call for spec in TINY.layers for call in runs.calls(spec, LEFT_PAD, fed=runs.without_padding(LEFT_PAD))
    )
    found = checks.evaluate(runs.inputs(TINY, padded(0.5, wrong))).findings
    assert [f.severity for f in found if f.slug == "padding-ignored" and f.implementation] == [Severity.ERROR]


def test_both_survive_a_crashed_probe() -> None:
    crash = Crashed("signal", "SIGSEGV")
    made = runs.inputs(
        TINY,
        runs.run(crash, DECODE_8, scenario="cache-kinds", core=False),
        runs.run(crash, LEFT_PAD, scenario="left-pad"),
        runs.run(runs.calls(SPEC, PLAIN), PLAIN),
    )
    assert not [f for f in checks.evaluate(made).findings if f.slug in ("cache-mismatch", "padding-ignored")]
