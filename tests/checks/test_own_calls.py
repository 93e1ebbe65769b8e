"""What readings of a framework's own calls become: findings, severities, verdicts, what to write instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attncheck import checks
from attncheck.checks.interface import Inputs, Options
from attncheck.checks.registry import rule
from attncheck.environment import Environment
from attncheck.findings import Finding, Severity
from attncheck.frameworks.plugin import Asked, ModelFacts
from attncheck.frameworks.transformer_engine import resolve
from attncheck.probe.written import Plan, read
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis, Reason
from attncheck.semantics.shape import Errors, WrongCells
from attncheck.semantics.spec import Alignment, AttentionSpec, MaskSpec, ModelSpec, Part, SoftmaxSpec, Window
from attncheck.semantics.written import PLAIN, SHORT_QUERIES, CallReading, OwnCalls
from attncheck.verdicts import Status, Verdict
from tests.backends.environments import A100, H100, with_libraries

SPEC = AttentionSpec(
    Part.DECODER, 0, mask=MaskSpec(Window(4095, 0)), num_heads=32, num_kv_heads=8, head_dim=128, head_dim_v=128
)
#: Without flash-attn-4, whose zeros have tests of their own.
USUAL = with_libraries(H100, {"flash-attn-4": None})
STATIC = Plan("cpu", installed=False, longest=32768)


def inputs(
    *specs: AttentionSpec, environment: Environment = USUAL, version: str | None = None, seq_len: int | None = None,
    use: str = "train", scenarios: frozenset[str] = frozenset(), **written: str,
) -> Inputs:  # fmt: skip
    """What the documentation says of these settings for these layers."""
    model = ModelSpec("fake", specs or (SPEC,), max_position=32768)
    facts = ModelFacts("fake", "fake", spec=model)
    resolution = resolve(Asked(assigned=written, version=version), environment, facts)
    readings = read(resolution.calls, environment, replace(STATIC, longest=seq_len or 32768))
    own = OwnCalls(resolution.framework, resolution.named, "--framework x", resolution.calls, readings)
    options = Options(seq_len=seq_len, use=use, scenarios=scenarios)
    return Inputs("fake", model, model, lambda _: model, (), own=own, settings=resolution.recommend, options=options)


def with_reading(given: Inputs, api: str, scenario: str = PLAIN, /, **changes: Any) -> Inputs:
    """One reading replaced by what a run might have given."""
    assert given.own is not None
    aligned = changes.pop("aligned", None)

    def changed(one: CallReading) -> CallReading:
        if one.mended or (one.call.kernel, one.call.scenario) != (api, scenario):
            return one
        reading = replace(one.reading, basis=Basis.MEASURED, **changes)
        return replace(one, reading=reading, aligned=aligned or one.aligned)

    return replace(given, own=replace(given.own, readings=tuple(map(changed, given.own.readings))))


def found(given: Inputs, *slugs: str) -> list[Finding]:
    aside = ("window-inert",)
    findings = [
        finding
        for finding in checks.evaluate(given).findings
        if finding.scenario != SHORT_QUERIES and finding.slug not in aside
    ]
    assert [finding.slug for finding in findings] == list(slugs)
    return findings


def test_right_settings_are_quiet() -> None:
    conclusion = checks.evaluate(inputs(window_size="4095,0", attn_mask_type="causal_bottom_right"))
    assert conclusion.findings == ()
    (entry,) = conclusion.implementations
    assert (entry.name, entry.status, entry.basis) == ("transformer-engine", Status.OK, Basis.STATIC)
    assert {cell.verdict for cell in conclusion.cells} == {Verdict.OK}
    assert conclusion.recommended is None


def test_one_key_more() -> None:
    (finding,) = found(inputs(window_size="4096,0"), "window-off-by-one")
    assert finding.severity is Severity.ERROR
    assert "fused, which is selected; likewise flash, unfused" in finding.message
    assert "4097 keys" in finding.evidence.effective
    assert "4096 keys" in finding.evidence.declared
    (advice,) = finding.recommendations
    assert advice.paste == 'window_size=(4095, 0), attn_mask_type="causal"'
    assert "fused then runs" in advice.text
    assert finding.reproduction == "attncheck compare fake --framework x"


@pytest.mark.parametrize(
    ("written", "slug"),
    [
        ({}, "window-ignored"),
        ({"window_size": "-1,0"}, "window-ignored"),
        ({"window_size": "100,0"}, "window-size-wrong"),
        ({"window_size": "4094,0"}, "window-off-by-one"),
        ({"attn_mask_type": "no_mask"}, "causal-ignored"),
    ],
)
def test_each_way_to_get_the_window_wrong(written: dict[str, str], slug: str) -> None:
    (finding,) = found(inputs(**written), slug)
    assert finding.severity is Severity.ERROR
    assert finding.recommendations


def test_encoders_that_are_made_causal() -> None:
    encoder = replace(SPEC, part=Part.ENCODER, mask=MaskSpec(Window(None, None)))
    (finding,) = found(inputs(encoder, attn_mask_type="causal"), "causal-unexpected")
    assert finding.recommendations[0].paste == 'window_size=(-1, -1), attn_mask_type="no_mask"'


def test_a_window_that_the_calls_never_fill_is_quiet() -> None:
    found(inputs(window_size="4096,0", seq_len=2048))


def test_a_window_that_binds_for_no_sequence_of_the_user() -> None:
    """The call is read at the user's length, where nothing differs; with a longer reading it would be a note."""
    given = inputs(window_size="4096,0")
    short = replace(given, options=replace(given.options, seq_len=4000))
    (finding,) = found(short, "window-off-by-one")
    assert finding.severity is Severity.NOTE
    assert "never met by sequences of at most 4000 tokens" in finding.message


def test_kernels_that_do_not_run_are_a_warning() -> None:
    (finding,) = found(inputs(environment=A100, version="1.11.0", window_size="4095,0"), "window-off-by-one")
    assert finding.severity is Severity.WARNING
    assert finding.kernel == "fused"
    assert "not what is selected" in finding.message


def test_the_known_defect_is_named_where_nothing_ran() -> None:
    (finding,) = found(inputs(version="1.11.0", window_size="4095,0"), "window-off-by-one")
    assert finding.basis is Basis.STATIC
    assert "TransformerEngine#1197" in finding.message
    assert finding.recommendations[0].paste == 'pip install "transformer-engine>=1.12"'
    assert finding.recommendations[1].paste.startswith("window_size=(4096, 0)")


def test_zeros() -> None:
    full = replace(SPEC, mask=MaskSpec(Window(None, 0)))
    (finding,) = found(inputs(full, environment=H100, NVTE_FUSED_ATTN="0"), "kernel-output-wrong")
    assert finding.severity is Severity.ERROR
    assert "nothing but zeros" in finding.message
    assert finding.recommendations[0].paste == "export NVTE_FLASH_ATTN_V4=0"
    assert finding.recommendations[1].paste == 'window_size=(32768, 0), attn_mask_type="causal"'
    found(inputs(full, NVTE_FUSED_ATTN="0"))


def test_zeros_of_a_backend_that_does_not_run_are_a_warning() -> None:
    full = replace(SPEC, mask=MaskSpec(Window(None, 0)))
    (finding,) = found(inputs(full, environment=H100), "kernel-output-wrong")
    assert finding.severity is Severity.WARNING
    assert finding.kernel == "flash-4"


@pytest.mark.parametrize(
    ("softmax", "written", "slug"),
    [
        (SoftmaxSpec(softcap=50.0), {}, "softcap-dropped"),
        (SoftmaxSpec(softcap=50.0), {"softcap": "30"}, "softcap-dropped"),
        (SoftmaxSpec(), {"softcap": "30"}, "softcap-unexpected"),
        (SoftmaxSpec(sinks=True), {}, "sinks-dropped"),
        (SoftmaxSpec(sinks=True), {"softmax_type": "off-by-one"}, "sinks-dropped"),
        (SoftmaxSpec(), {"softmax_type": "off-by-one"}, "sinks-unexpected"),
        (SoftmaxSpec(scale=0.5), {}, "scale-wrong"),
        (SoftmaxSpec(), {"softmax_scale": "1.0"}, "scale-wrong"),
    ],
)
def test_terms_of_the_softmax(softmax: SoftmaxSpec, written: dict[str, str], slug: str) -> None:
    (finding,) = found(inputs(replace(SPEC, softmax=softmax), window_size="4095,0", **written), slug)
    assert finding.severity is Severity.ERROR
    assert finding.recommendations


def test_terms_that_were_measured_right_do_not_matter() -> None:
    given = inputs(replace(SPEC, softmax=SoftmaxSpec(softcap=50.0)), window_size="4095,0", NVTE_FLASH_ATTN="0")
    small = Errors(0.001)
    for kernel in ("flash", "flash-4", "fused", "unfused"):
        given = with_reading(given, kernel, kernel=small, plain=small)
    found(given)
    far = with_reading(given, "unfused", kernel=Errors(0.9), plain=small)
    (finding,) = found(far, "softcap-dropped")
    assert finding.basis is Basis.MEASURED
    assert "off by 0.9" in finding.evidence.effective


def test_numbers_that_nothing_explains() -> None:
    given = with_reading(inputs(window_size="4095,0"), "fused", kernel=Errors(0.9), plain=Errors(0.001))
    (finding,) = found(given, "numeric-drift")
    assert finding.severity is Severity.ERROR


def test_nan() -> None:
    given = with_reading(inputs(window_size="4095,0"), "fused", nan=("output",))
    (finding,) = found(given, "nan-rows")
    assert finding.severity is Severity.ERROR


def test_a_crash_is_an_error_and_the_other_kernels_are_judged() -> None:
    given = with_reading(inputs(window_size="4096,0"), "fused", outcome=Outcome.CRASHED, detail="signal: SIGSEGV")
    conclusion = checks.evaluate(given)
    slugs = {finding.slug: finding for finding in conclusion.findings if finding.scenario == PLAIN}
    assert slugs["backend-unusable"].severity is Severity.ERROR
    assert slugs["window-off-by-one"].severity is Severity.WARNING
    (cell,) = [cell for cell in conclusion.cells if cell.kernel == "" and cell.scenario == PLAIN]
    assert cell.verdict is Verdict.ERROR


def test_what_was_refused_is_not_run_and_never_ok() -> None:
    reasons = (Reason("TransformerEngine drops te-fused for this call: cuDNN says no"),)
    given = with_reading(inputs(window_size="4095,0"), "fused", outcome=Outcome.REFUSED, reasons=reasons)
    conclusion = checks.evaluate(given)
    (cell,) = [cell for cell in conclusion.cells if cell.kernel == "" and cell.scenario == PLAIN]
    assert cell.verdict is Verdict.NOT_RUN
    assert "cuDNN says no" in cell.reason
    assert conclusion.implementations[0].status is Status.NOT_RUN


@pytest.mark.parametrize(
    ("use", "scenarios", "severity"),
    [
        ("train", frozenset(), Severity.NOTE),
        ("generate", frozenset(), Severity.WARNING),
        ("generate", frozenset({SHORT_QUERIES}), Severity.ERROR),
    ],
)
def test_a_diagonal_at_the_first_key(use: str, scenarios: frozenset[str], severity: Severity) -> None:
    findings = checks.evaluate(inputs(window_size="4095,0", use=use, scenarios=scenarios)).findings
    (finding,) = findings
    assert (finding.slug, finding.severity) == ("causal-misaligned", severity)
    assert finding.recommendations[0].paste == 'attn_mask_type="causal_bottom_right"'
    assert findings[0].scenario == SHORT_QUERIES


def test_a_measured_diagonal_counts_and_not_the_documented_one() -> None:
    given = inputs(window_size="4095,0", use="generate")
    moved = with_reading(given, "fused", SHORT_QUERIES, aligned=Alignment.BOTTOM_RIGHT, wrong=None)
    moved = with_reading(moved, "unfused", SHORT_QUERIES, aligned=Alignment.BOTTOM_RIGHT, wrong=None)
    assert checks.evaluate(moved).findings == ()


def test_a_fault_in_some_heads_names_them() -> None:
    cells = WrongCells((4096, 0), heads=(3,), behind=5, behind_distances=(4096, 4096))
    (finding,) = found(with_reading(inputs(window_size="4095,0"), "fused", wrong=cells), "window-off-by-one")
    assert finding.evidence.heads == (3,)


def test_layers_that_differ_are_recommended_together() -> None:
    full = replace(SPEC, layer=1, mask=MaskSpec(Window(None, 0)))
    conclusion = checks.evaluate(inputs(SPEC, full, window_size="4096,0"))
    assert {finding.slug for finding in conclusion.findings} >= {"window-off-by-one", "window-unexpected"}
    assert conclusion.recommended is not None
    pastes = [setting.paste for setting in conclusion.recommended.recommendation.settings]
    assert pastes == [
        'DotProductAttention(..., window_size=(4095, 0), attn_mask_type="causal")  # layers 0',
        'DotProductAttention(..., window_size=(-1, 0), attn_mask_type="causal")  # layers 1',
    ]


def test_every_slug_has_a_documented_rule() -> None:
    slugs = (
        *("window-ignored", "window-off-by-one", "window-size-wrong", "window-unexpected", "causal-ignored"),
        *("causal-unexpected", "causal-misaligned", "kernel-output-wrong", "keys-missing", "nan-rows", "numeric-drift"),
        *("softcap-dropped", "softcap-unexpected", "sinks-dropped", "sinks-unexpected", "scale-wrong"),
        *("backend-unusable", "gradient-mismatch", "head-map-wrong", "silent-fallback"),
    )
    assert all(rule(slug) is not None for slug in slugs)
