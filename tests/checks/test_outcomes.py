"""What did not run, broke or was replaced: statuses, cells, findings, ranking. And the register of rules."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from attncheck import checks
from attncheck.checks import Options, registry
from attncheck.findings import Recommendation, Setting, Severity
from attncheck.semantics.observation import (
    Basis,
    Crashed,
    GradientObservation,
    NotApplicable,
    NotRun,
    Observed,
    Outcome,
    Reason,
    Rejected,
    ScenarioRun,
)
from attncheck.semantics.spec import Part
from attncheck.verdicts import Status, Verdict
from tests import runs
from tests.runs import DECODE_8, PLAIN, layer, model

SPEC = layer()
TINY = model(SPEC)
GOOD = runs.calls(SPEC, PLAIN)
REFUSAL = Rejected((Reason("the class does not support it", limit="_supports_sdpa = True"),))


def good(name: str, scenario: str = "plain", **fields: Any) -> ScenarioRun:
    return runs.run(GOOD, implementation=name, scenario=scenario, **fields)


@pytest.mark.parametrize(
    ("outcome", "verdict", "status"),
    [
        (REFUSAL, Verdict.NOT_RUN, Status.REJECTED),
        (Crashed("signal", "SIGSEGV"), Verdict.ERROR, Status.CRASHED),
        (NotRun("no GPU"), Verdict.NOT_RUN, Status.NOT_RUN),
        (NotApplicable("no cache"), Verdict.NOT_APPLICABLE, Status.NOT_RUN),
        (Observed(()), Verdict.NOT_RUN, Status.NOT_RUN),
    ],
)
def test_every_rule_survives_every_outcome(outcome: Outcome, verdict: Verdict, status: Status) -> None:
    conclusion = checks.evaluate(runs.inputs(TINY, good("eager"), runs.run(outcome)))
    cell = next(cell for cell in conclusion.cells if cell.implementation == "sdpa")
    assert cell.verdict is verdict
    entry = next(entry for entry in conclusion.implementations if entry.name == "sdpa")
    assert entry.status is status
    assert next(e for e in conclusion.implementations if e.name == "eager").status is Status.OK
    assert conclusion.recommended is not None


def test_a_refusal_is_no_finding() -> None:
    conclusion = checks.evaluate(runs.inputs(TINY, good("eager"), runs.run(REFUSAL)))
    assert conclusion.findings == ()
    assert conclusion.implementations[1].reasons == REFUSAL.reasons
    named = checks.evaluate(
        runs.inputs(TINY, good("eager"), implementations=("eager", "sdpa"), refused={"sdpa": REFUSAL})
    )
    assert named.implementations[1].status is Status.REJECTED


@pytest.mark.parametrize(
    ("eager", "fields", "severity"),
    [
        (Observed(GOOD), {}, Severity.ERROR),
        (Observed(GOOD), {"core": False}, Severity.WARNING),
        (Observed(GOOD), {"basis": Basis.PREDICTED}, Severity.WARNING),
        (Crashed("exception", "the same"), {}, Severity.NOTE),
    ],
)
def test_a_crash_that_eager_does_not_share_is_the_implementations_own(
    eager: Outcome, fields: dict[str, Any], severity: Severity
) -> None:
    broken = runs.run(Crashed("exception", "RuntimeError: out of sorts"), **fields)
    conclusion = checks.evaluate(runs.inputs(TINY, runs.run(eager, implementation="eager"), broken))
    (found,) = [f for f in conclusion.findings if f.implementation == "sdpa"]
    assert (found.slug, found.severity) == ("backend-unusable", severity)
    assert "out of sorts" in found.message
    (entry,) = [e for e in conclusion.implementations if e.name == "sdpa"]
    assert any("out of sorts" in reason.text for reason in entry.reasons)


#: Names of kernels as the profiler shows them on an H100.
TORCH_FLASH = "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4>, true>(Flash_fwd_params)"
FLASH_ATTN = "void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4>, false>(Flash_fwd_params)"


@pytest.mark.parametrize(("launched", "slugs"), [(FLASH_ATTN, []), (TORCH_FLASH, ["silent-fallback"]), ("", [])])
def test_a_gpu_kernel_of_another_library_than_the_one_requested_is_a_warning(launched: str, slugs: list[str]) -> None:
    outcome = Observed(GOOD, launched=(("", launched),) if launched else ())
    conclusion = checks.evaluate(runs.inputs(TINY, runs.run(outcome, implementation="flash_attention_2")))
    assert [found.slug for found in conclusion.findings] == slugs
    for found in conclusion.findings:
        assert found.severity is Severity.WARNING
        assert "pytorch_flash" in found.message
        assert "sdpa-flash" in found.evidence.effective


def test_sdpa_may_run_whichever_kernel_it_likes() -> None:
    outcome = Observed(GOOD, launched=(("", "some_gemm"), ("flash", TORCH_FLASH)))
    conclusion = checks.evaluate(runs.inputs(TINY, runs.run(outcome)))
    assert conclusion.findings == ()
    (entry,) = conclusion.implementations
    assert [(seen.kernel, seen.name) for seen in entry.launched] == [("", "some_gemm"), ("flash", TORCH_FLASH)]


def test_a_forced_kernel_that_refuses_is_told_with_its_reason_and_scenarios() -> None:
    refused = Observed(GOOD, refusals=(("flash", "no masks"),))
    conclusion = checks.evaluate(runs.inputs(TINY, runs.run(refused), runs.run(refused, scenario="left-pad")))
    (entry,) = conclusion.implementations
    assert [(one.kernel, one.reason, one.scenarios) for one in entry.refusals] == [
        ("flash", "no masks", ("plain", "left-pad"))
    ]


def test_a_quiet_replacement_is_a_warning() -> None:
    used = runs.run(Observed(GOOD, used_implementation="eager"))
    (found,) = checks.evaluate(runs.inputs(TINY, used)).findings
    assert (found.slug, found.severity) == ("silent-fallback", Severity.WARNING)
    assert found.evidence.effective == "eager"
    replaced = runs.inputs(
        TINY,
        good("eager"),
        implementations=("flash_attention_2",),
        replaced={"flash_attention_2": ("sdpa", "absent")},
    )
    (found,) = checks.evaluate(replaced).findings
    assert (found.slug, found.implementation, found.basis) == ("silent-fallback", "flash_attention_2", Basis.STATIC)


def test_layers_that_made_no_call_are_not_ok() -> None:
    tiny = model(SPEC, layer(7))
    conclusion = checks.evaluate(runs.inputs(tiny, good("eager")))
    assert [(cell.layers, cell.verdict) for cell in conclusion.cells] == [((0,), Verdict.OK), ((1,), Verdict.NOT_RUN)]


def test_a_part_that_the_probed_class_lacks_is_not_ok() -> None:
    tiny = model(SPEC, layer(None, None, part=Part.ENCODER))
    conclusion = checks.evaluate(runs.inputs(tiny, good("eager")))
    lacking = next(cell for cell in conclusion.cells if cell.part is Part.ENCODER)
    assert lacking.verdict is Verdict.NOT_RUN
    assert "has no encoder attention" in lacking.reason


def wrong(name: str, scenario: str = "plain", **fields: Any) -> ScenarioRun:
    spoilt = runs.calls(layer(None, None), PLAIN)
    return runs.run(spoilt, implementation=name, scenario=scenario, **fields)


@pytest.mark.parametrize(
    ("made", "best"),
    [
        ([good("eager"), good("sdpa"), wrong("flex_attention")], "sdpa"),
        ([good("eager"), wrong("sdpa"), good("flex_attention")], "flex_attention"),
        ([good("eager"), good("flash_attention_2", basis=Basis.PREDICTED)], "eager"),
        ([wrong("eager"), good("flash_attention_2", basis=Basis.PREDICTED)], "flash_attention_2"),
        ([good("eager"), good("eager", "decode"), good("sdpa")], "eager"),
        ([wrong("eager"), wrong("sdpa")], None),
    ],
)
def test_ranking(made: list[ScenarioRun], best: str | None) -> None:
    def settings(name: str) -> Recommendation:
        return Recommendation(f"use {name}", (Setting("transformers", "attn_implementation", name, f"={name}"),))

    conclusion = checks.evaluate(runs.inputs(TINY, *made, default="sdpa", settings=settings))
    assert (conclusion.recommended and conclusion.recommended.implementation) == best
    if conclusion.recommended is not None:
        assert conclusion.recommended.recommendation.settings[0].value == best
    for finding in (f for f in conclusion.findings if f.implementation):
        others = [text for advice in finding.recommendations for text in [advice.text] if text.startswith("use ")]
        assert bool(others) == (best is not None)


def test_the_default_is_marked() -> None:
    conclusion = checks.evaluate(runs.inputs(TINY, good("eager"), good("sdpa"), default="sdpa"))
    assert [(entry.name, entry.default) for entry in conclusion.implementations] == [("eager", False), ("sdpa", True)]


def test_training_needs_its_own_scenarios() -> None:
    backward = runs.calls(SPEC, PLAIN, gradient=GradientObservation(0.0, 0.0, 0.0))
    gradients = runs.run(backward, implementation="eager", scenario="gradients", core=False)
    made = (good("eager"), gradients, good("sdpa"))
    options = Options(use="train")
    conclusion = checks.evaluate(runs.inputs(TINY, *made, default="sdpa", options=options))
    assert conclusion.recommended is not None
    assert conclusion.recommended.implementation == "eager"


def verdict_of(made: ScenarioRun) -> tuple[Verdict, str, Status]:
    conclusion = checks.evaluate(runs.inputs(TINY, made))
    (cell,) = conclusion.cells
    return cell.verdict, cell.reason, conclusion.implementations[0].status


def test_layers_that_the_tiny_model_leaves_out_are_not_run() -> None:
    real = model(SPEC, layer(7))
    conclusion = checks.evaluate(runs.inputs(TINY, good("eager"), real=real))
    assert {cell.layers: cell.verdict for cell in conclusion.cells} == {(0,): Verdict.OK, (1,): Verdict.NOT_RUN}


def test_a_forward_call_that_was_not_read_is_not_ok() -> None:
    read = tuple(call for call in runs.calls(SPEC, DECODE_8) if call.step != 2)
    outcome = Observed(read, failures=("it returns nothing",))
    verdict, reason, status = verdict_of(runs.run(outcome, DECODE_8, scenario="decode"))
    assert (verdict, status) == (Verdict.NOT_RUN, Status.NOT_RUN)
    assert reason == "forward call 2 of 4 (from 0) could not be read: it returns nothing"


def test_a_backward_that_was_not_read_is_not_ok() -> None:
    outcome = Observed(GOOD, failures=("backward not read: RuntimeError: no rule",))
    verdict, reason, status = verdict_of(runs.run(outcome, scenario="gradients", core=False))
    assert (verdict, status) == (Verdict.NOT_RUN, Status.NOT_RUN)
    assert "no rule" in reason


def test_softmax_terms_that_were_not_read_are_not_ok() -> None:
    outcome = Observed(GOOD, failures=("softmax terms not read: ValueError: another shape",))
    verdict, reason, status = verdict_of(runs.run(outcome))
    assert (verdict, status) == (Verdict.UNKNOWN, Status.NOT_RUN)
    assert "another shape" in reason


@pytest.mark.parametrize("wrong", ["nan", "queries"])
def test_where_eager_cannot_be_compared_nobody_is_called_the_same(wrong: str) -> None:
    (call,) = GOOD
    spoilt = replace(call, nan_rows=((0, 3),)) if wrong == "nan" else replace(call, q_len=23)
    made = [
        runs.run(Observed(calls), implementation=name, scenario="position-jump", core=False, truth=False)
        for name, calls in (("eager", (spoilt,)), ("sdpa", GOOD))
    ]
    conclusion = checks.evaluate(runs.inputs(TINY, *made))
    (cell,) = [cell for cell in conclusion.cells if cell.implementation == "sdpa"]
    assert cell.verdict is Verdict.UNKNOWN
    assert "cannot be compared" in cell.reason


def test_rules_have_codes_slugs_and_documentation() -> None:
    listed = checks.rules()
    assert len({rule.code for rule in listed}) == len({rule.slug for rule in listed}) == len(listed)
    for rule in listed:
        assert re.fullmatch(r"ATC\d{3}", rule.code)
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", rule.slug)
        assert all(len(text) > 15 for text in (rule.finds, rule.why, rule.measured, rule.fix)), rule.slug
        assert registry.rule(rule.code) is registry.rule(rule.slug) is rule


STABLE = (
    "window-ignored",
    "window-off-by-one",
    "window-unexpected",
    "causal-ignored",
    "causal-unexpected",
    "causal-misaligned",
    "padding-ignored",
    "packing-leak",
    "packing-split",
    "mask-dropped",
    "prefix-dropped",
    "chunk-wrong",
    "softcap-dropped",
    "sinks-dropped",
    "scale-wrong",
    "bias-dropped",
    "head-map-wrong",
    "cache-mismatch",
    "gradient-mismatch",
    "nan-rows",
    "numeric-drift",
    "config-not-honoured",
    "backend-unusable",
    "install-broken",
    "silent-fallback",
)


@pytest.mark.parametrize("slug", STABLE)
def test_stable_slugs_have_a_rule(slug: str) -> None:
    assert registry.rule(slug) is not None
