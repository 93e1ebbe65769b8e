"""Rules about masks, packing and cache, from hand-made runs to findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from attncheck import checks
from attncheck.checks import Options
from attncheck.findings import Finding, Severity
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import Layout
from attncheck.semantics.observation import Basis, Requested, ScenarioRun
from attncheck.semantics.spec import AttentionSpec, Part
from attncheck.verdicts import Status, Verdict
from tests import runs
from tests.runs import DECODE_16, LEFT_PAD, PACKED, PLAIN, layer, model, without_padding

WINDOWED, CAUSAL, FULL = layer(7), layer(), layer(None, None)
TINY = model(WINDOWED)
REAL = model(*[layer(4095)] * 32)


def findings(conclusion: checks.Conclusion, severity: Severity | None = None) -> list[Finding]:
    return [f for f in conclusion.findings if severity is None or f.severity is severity]


def test_a_right_run_is_ok_and_finds_nothing() -> None:
    made = [runs.run(runs.calls(WINDOWED, PLAIN), implementation=name) for name in ("eager", "sdpa")]
    conclusion = checks.evaluate(runs.inputs(TINY, *made, real=REAL))
    assert conclusion.findings == ()
    assert {cell.verdict for cell in conclusion.cells} == {Verdict.OK}
    assert {cell.layers for cell in conclusion.cells} == {tuple(range(32))}
    assert {entry.status for entry in conclusion.implementations} == {Status.OK}
    assert conclusion.recommended is not None


@pytest.mark.parametrize(
    ("effective", "slug"),
    [(CAUSAL, "window-ignored"), (layer(8), "window-off-by-one"), (layer(3), "window-size-wrong")],
)
def test_window_findings_name_real_layers_and_the_first_wrong_cell(effective: AttentionSpec, slug: str) -> None:
    made = runs.run(runs.calls(effective, PLAIN))
    conclusion = checks.evaluate(runs.inputs(TINY, made, real=REAL))
    (found,) = findings(conclusion, Severity.ERROR)
    assert (found.slug, found.implementation, found.part, found.scenario) == (slug, "sdpa", Part.DECODER, "plain")
    assert found.layers == tuple(range(32))
    assert found.basis is Basis.MEASURED
    assert "4096" in found.message
    assert found.evidence.first_difference is not None
    assert found.evidence.declared_mask is not None
    assert found.evidence.declared == "8 keys: 7 back, 0 ahead"
    (cell,) = conclusion.cells
    assert (cell.verdict, cell.difference) == (Verdict.MISMATCH, slug)
    assert conclusion.implementations[0].status is Status.MISMATCH
    assert conclusion.recommended is None


def test_two_faults_give_two_findings() -> None:
    tiny = model(CAUSAL)
    made = runs.run(runs.calls(FULL, LEFT_PAD, fed=without_padding(LEFT_PAD)), LEFT_PAD, scenario="left-pad")
    found = findings(checks.evaluate(runs.inputs(tiny, made)))
    assert {entry.slug for entry in found} == {"causal-ignored", "padding-ignored"}


def test_one_finding_for_all_variants_layers_and_heads_of_a_scenario() -> None:
    tiny = model(WINDOWED, WINDOWED)
    spoilt = [call for spec in tiny.layers for call in runs.calls(replace(CAUSAL, layer=spec.layer), PLAIN)]
    made = [runs.run(spoilt, variant=variant) for variant in ("no-mask", "ones-mask")]
    (found,) = findings(checks.evaluate(runs.inputs(tiny, *made)), Severity.ERROR)
    assert found.layers == (0, 1)
    assert found.evidence.figures["variants"] == "no-mask, ones-mask"
    assert found.evidence.heads == ()


def test_a_wrong_head_is_listed() -> None:
    made = runs.run(runs.calls(CAUSAL, PLAIN, heads=[2], declared=WINDOWED))
    (found,) = findings(checks.evaluate(runs.inputs(TINY, made)))
    assert (found.slug, found.evidence.heads) == ("window-ignored", (2,))
    assert "1 head of 4" in found.message


def test_only_the_layers_that_declare_the_same_are_concerned() -> None:
    tiny = model(WINDOWED, CAUSAL)
    real = model(*[layer(4095), layer()] * 3)
    made = runs.run((*runs.calls(CAUSAL, PLAIN), *runs.calls(replace(CAUSAL, layer=1), PLAIN)))
    conclusion = checks.evaluate(runs.inputs(tiny, made, real=real))
    (found,) = findings(conclusion)
    assert found.layers == (0, 2, 4)
    assert {(cell.layers, cell.verdict) for cell in conclusion.cells} == {
        ((0, 2, 4), Verdict.MISMATCH),
        ((1, 3, 5), Verdict.OK),
    }


def packed(variant: str, scenario: str, leaks: bool) -> ScenarioRun:
    fed = without_padding(PACKED) if leaks else None
    made = runs.calls(CAUSAL, PACKED, fed=fed)
    return runs.run(made, PACKED, scenario=scenario, variant=variant, core=False)


def test_packing_leaks_are_warnings_until_packing_is_asked_for() -> None:
    made = packed("no-mask", "packed-cache", True)
    tiny = model(CAUSAL)
    for options, severity, status in (
        (Options(), Severity.WARNING, Status.OK),
        (Options(packing=True), Severity.ERROR, Status.MISMATCH),
        (Options(scenarios=frozenset({"packed-cache"})), Severity.ERROR, Status.MISMATCH),
        (Options(scenarios=frozenset({"plain"})), Severity.WARNING, Status.OK),
    ):
        conclusion = checks.evaluate(runs.inputs(tiny, made, options=options))
        (found,) = findings(conclusion)
        assert (found.slug, found.severity) == ("packing-leak", severity)
        assert conclusion.implementations[0].status is status


def test_packing_advice_names_the_form_that_was_seen_to_work() -> None:
    tiny = model(CAUSAL)
    good = packed("no-mask", "packed", False)
    masked = packed("ones-mask", "packed", True)
    cached = packed("no-mask", "packed-cache", True)
    found = {f.scenario: f for f in checks.evaluate(runs.inputs(tiny, good, masked, cached)).findings}
    assert "no attention_mask" in found["packed"].recommendations[0].text
    assert "use_cache=False" in found["packed-cache"].recommendations[0].text


def test_implementations_that_disagree_about_a_position_jump() -> None:
    tiny = model(CAUSAL)
    made = []
    for name, split in (("eager", True), ("sdpa", True), ("flash_attention_2", False)):
        calls = runs.calls(CAUSAL, PLAIN, fed=PACKED if split else None)
        made.append(runs.run(calls, implementation=name, scenario="position-jump", core=False, truth=False))
    options = Options(packing=True)
    conclusion = checks.evaluate(runs.inputs(tiny, *made, options=options))
    (found,) = findings(conclusion)
    assert (found.slug, found.severity, found.implementation) == (
        "packing-split",
        Severity.WARNING,
        "flash_attention_2",
    )
    assert "cut before token 11" in found.evidence.declared
    verdicts = {cell.implementation: cell.verdict for cell in conclusion.cells}
    assert verdicts == {"eager": Verdict.UNKNOWN, "sdpa": Verdict.OK, "flash_attention_2": Verdict.MISMATCH}


def test_another_fault_is_no_disagreement_about_a_jump() -> None:
    made = []
    for name, spec in (("eager", WINDOWED), ("sdpa", CAUSAL)):
        calls = runs.calls(spec, PLAIN, fed=PACKED)
        made.append(runs.run(calls, implementation=name, scenario="position-jump", core=False, truth=False))
    assert checks.evaluate(runs.inputs(TINY, *made)).findings == ()


def test_unfilled_cache_slots() -> None:
    def wider(keep: KeepMask) -> KeepMask:
        return KeepMask(tuple(row | 1 << keep.kv_len for row in keep.rows), keep.kv_len + 4)

    made = runs.run(runs.calls(CAUSAL, DECODE_16, spoil=wider), DECODE_16, scenario="decode")
    (found,) = findings(checks.evaluate(runs.inputs(model(CAUSAL), made)))
    assert (found.slug, found.severity) == ("cache-mismatch", Severity.ERROR)


def test_who_lost_it() -> None:
    right, wrong = (runs.calls(spec, PLAIN)[0].masks[0].keep for spec in (WINDOWED, CAUSAL))
    for asked, words, drawn in (
        (Requested("bool", mask=(wrong,)), "the framework lost it", wrong),
        (Requested("bool", mask=(right,)), "the kernel lost it", right),
        (Requested("none", is_causal=True), "the framework lost it", None),
    ):
        made = runs.run(runs.calls(CAUSAL, PLAIN, requested=asked))
        (found,) = findings(checks.evaluate(runs.inputs(TINY, made)))
        assert found.evidence.requested.endswith(words)
        assert found.evidence.requested_mask == drawn
    passed = runs.run(runs.calls(CAUSAL, PLAIN, requested=Requested("none", is_causal=True, sliding_window=8)))
    (found,) = findings(checks.evaluate(runs.inputs(TINY, passed)))
    assert "sliding_window=8" in found.evidence.requested
    assert "lost it" not in found.evidence.requested


def test_eager_is_the_third_corner() -> None:
    for eager, words in ((WINDOWED, "as declared"), (CAUSAL, "the same"), (layer(8), "wrong in another way")):
        made = (runs.run(runs.calls(eager, PLAIN), implementation="eager"), runs.run(runs.calls(CAUSAL, PLAIN)))
        found = findings(checks.evaluate(runs.inputs(TINY, *made)))
        assert next(f for f in found if f.implementation == "sdpa").evidence.figures["eager"] == words


def test_an_unknown_declaration_is_compared_with_eager_only() -> None:
    tiny = model(layer(7, unknown=frozenset({"window"})))
    eager = runs.run(runs.calls(WINDOWED, PLAIN), implementation="eager")
    alone = checks.evaluate(runs.inputs(tiny, eager))
    assert alone.findings == ()
    assert {cell.verdict for cell in alone.cells} == {Verdict.UNKNOWN}
    same = checks.evaluate(runs.inputs(tiny, eager, runs.run(runs.calls(WINDOWED, PLAIN))))
    assert same.findings == ()
    assert all("unknown" in cell.reason for cell in same.cells)
    (found,) = checks.evaluate(runs.inputs(tiny, eager, runs.run(runs.calls(CAUSAL, PLAIN)))).findings
    assert (found.slug, found.implementation) == ("window-ignored", "sdpa")
    assert "eager has" in found.message


def test_cross_attention_is_judged_by_both_layouts() -> None:
    tiny = model(CAUSAL, layer(None, None, part=Part.CROSS))
    cross = layer(None, None, part=Part.CROSS)
    for fed, slugs in ((None, set()), (without_padding(LEFT_PAD), {"padding-ignored"})):
        calls = (
            *runs.calls(CAUSAL, LEFT_PAD),
            *runs.calls(cross, LEFT_PAD, encoder=fed or LEFT_PAD),
        )
        made = runs.run(calls, LEFT_PAD, scenario="left-pad", encoder=LEFT_PAD)
        conclusion = checks.evaluate(runs.inputs(tiny, made))
        assert {(f.slug, f.part) for f in conclusion.findings} == {(slug, Part.CROSS) for slug in slugs}


def test_layers_numbered_in_call_order_are_found_behind_layers_that_do_not_attend() -> None:
    tiny = model(layer(attends=False), WINDOWED, layer(attends=False), CAUSAL)
    calls = (*runs.calls(replace(WINDOWED, layer=0), PLAIN), *runs.calls(replace(CAUSAL, layer=1), PLAIN))
    conclusion = checks.evaluate(runs.inputs(tiny, runs.run(calls)))
    assert conclusion.findings == ()
    assert {cell.layers for cell in conclusion.cells} == {(1,), (3,)}


def custom_mask(variant: str, wrong: Callable[[int, int], bool] | None) -> ScenarioRun:
    keep = KeepMask.from_rule(24, 24, lambda i, j: j <= i and (i < 11) == (j < 11))
    layout = Layout((replace(PLAIN.rows[0], custom=keep),), PLAIN.steps)
    spoil = None if wrong is None else lambda mask: KeepMask.from_rule(24, 24, wrong)
    calls = runs.calls(CAUSAL, layout, spoil=spoil)
    return runs.run(calls, layout, scenario="custom-mask", variant=variant, core=False)


def test_a_mask_that_works_in_another_form() -> None:
    dropped = custom_mask("documents-boolean", lambda i, j: j <= i)
    tiny = model(CAUSAL)
    (found,) = findings(checks.evaluate(runs.inputs(tiny, custom_mask("documents-additive", None), dropped)))
    assert (found.slug, found.severity) == ("mask-dropped", Severity.WARNING)
    assert "additive form" in found.recommendations[0].text
    (found,) = findings(checks.evaluate(runs.inputs(tiny, dropped)))
    assert "additive form" not in found.recommendations[0].text
