"""Rules about a framework's settings and about log lines: each fires, stays quiet, survives a crash, is documented."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attncheck import checks
from attncheck.checks import Inputs, Options, framework, log_lines
from attncheck.checks.interface import Case
from attncheck.checks.views import views
from attncheck.findings import Finding, Recommendation, Severity
from attncheck.frameworks.plugin import Fails, LogWarning, Remark, Resolution, Runs, Step
from attncheck.frameworks.section import JudgedWarning, Truth
from attncheck.frameworks.sliding_warning import TEXT, for_model
from attncheck.semantics.layout import Layout
from attncheck.semantics.observation import Basis, Crashed
from attncheck.semantics.spec import ModelSpec
from tests import runs
from tests.runs import PACKED, PLAIN, layer, model

WINDOWED, CAUSAL = layer(7), layer()
LINE = TEXT.format("sdpa")


def resolution(outcome: Any = None, **fields: Any) -> Resolution:
    return Resolution("some", "1.0", "installed", outcome or Runs("sdpa"), **{"named": "Some 1.0", **fields})


def made(effective: Any = WINDOWED, name: str = "sdpa", layout: Layout = PLAIN, **fields: Any) -> Any:
    return runs.run(runs.calls(effective, layout), layout, implementation=name, **fields)


def inputs(*of: Any, tiny: ModelSpec | None = None, **fields: Any) -> Inputs:
    return runs.inputs(tiny or model(WINDOWED), *of, versions={"transformers": "5.23.0"}, **fields)


def found(given: Inputs, slug: str) -> list[Finding]:
    return [finding for finding in checks.evaluate(given).findings if finding.slug == slug]


def judged(given: Inputs) -> JudgedWarning:
    (only,) = log_lines.judged(Case(given, views(given), checks.evaluate(given).findings))
    return only


def test_a_run_that_fails_is_an_error_with_its_line_and_its_way_out() -> None:
    way = Recommendation("use sdpa in Some")
    failing = resolution(
        Fails("ValueError", "no such thing", "attention"),
        settings={"attention": "fast"},
        file="some.yaml",
        lines={"attention": 3},
        steps=(Step("refused", "attention", "fast", "some.py"),),
        fixes=(way,),
    )
    (finding,) = found(inputs(made(), framework=failing), "run-fails")
    assert (finding.severity, finding.basis) == (Severity.ERROR, Basis.STATIC)
    assert "attention: fast" in finding.message
    assert finding.evidence.requested == "attention: fast (some.yaml, line 3)"
    assert finding.recommendations == (way,)
    assert found(inputs(made(), framework=resolution()), "run-fails") == []


def test_a_failing_implementation_is_replaced_by_one_that_it_offers() -> None:
    failing = resolution(
        Fails("E", "r", "flash_attn"), offers=("eager", "sdpa"), recommend=lambda name: Recommendation(f"use {name}")
    )
    (finding,) = found(inputs(made(), framework=failing, default="sdpa"), "run-fails")
    assert [advice.text for advice in finding.recommendations] == ["use sdpa"]


def test_remarks_become_findings_with_their_own_severity_and_basis() -> None:
    remark = Remark("setting-ignored", Severity.WARNING, "nothing happens", "x", (Recommendation("remove it"),))
    (finding,) = found(inputs(made(), framework=resolution(remarks=(remark,))), "setting-ignored")
    assert (finding.severity, finding.message, finding.basis) == (Severity.WARNING, "nothing happens", Basis.STATIC)


@pytest.mark.parametrize(
    ("wanted", "origin", "severity"),
    [
        ("<=5.6.0,>=4.55.0", "newest known", Severity.NOTE),
        ("<=5.6.0,>=4.55.0", "installed", Severity.WARNING),
        (">=4.55.0", "installed", None),
        ("", "installed", None),
    ],
)
def test_another_version_of_transformers_than_it_takes(wanted: str, origin: str, severity: Severity | None) -> None:
    given = replace(resolution(versions={"transformers": wanted}), version_from=origin)
    assert [f.severity for f in found(inputs(made(), framework=given), "other-version")] == (
        [severity] if severity else []
    )


def test_what_the_framework_does_not_run_is_a_note_at_most() -> None:
    wrong = (made(), made(CAUSAL, "flash_attention_2"))
    alone = checks.evaluate(inputs(*wrong)).findings
    assert Severity.ERROR in {finding.severity for finding in alone}
    with_framework = checks.evaluate(inputs(*wrong, framework=resolution())).findings
    assert {finding.severity for finding in with_framework} == {Severity.NOTE}
    both = checks.evaluate(inputs(made(CAUSAL), made(CAUSAL, "eager"), framework=resolution())).findings
    assert [f.implementation for f in both if f.slug == "window-ignored"] == ["sdpa"]
    named = inputs(*wrong, framework=resolution(), options=Options(implementations=frozenset(["flash_attention_2"])))
    assert Severity.ERROR in {finding.severity for finding in checks.evaluate(named).findings}


def test_scenarios_that_the_framework_feeds_count_as_used_and_have_its_own_way_out() -> None:
    way = Recommendation("do not pack")
    leak = runs.run(
        runs.calls(WINDOWED, PACKED, fed=runs.without_padding(PACKED)), PACKED, scenario="neat-packing", core=False
    )
    used = resolution(scenarios=("neat-packing",), remedies={"neat-packing": (way,)})
    given = inputs(leak, framework=used, options=Options(scenarios=frozenset(used.scenarios)))
    (finding,) = [f for f in checks.evaluate(given).findings if f.slug == "packing-leak"]
    assert finding.severity is Severity.ERROR
    assert finding.recommendations[0] == way
    beside = inputs(leak, framework=resolution(beside=("neat-packing",)))
    assert [f.severity for f in checks.evaluate(beside).findings] == [Severity.WARNING]


def test_a_line_that_was_heard_and_is_not_true_is_stale() -> None:
    given = inputs(made(logged=(LINE,)))
    (finding,) = found(given, "warning-stale")
    assert (finding.severity, finding.basis, finding.implementation) == (Severity.NOTE, Basis.MEASURED, "sdpa")
    line = judged(given)
    assert (line.truth, line.heard, line.basis) == (Truth.STALE, True, Basis.MEASURED)


def test_a_line_that_is_true_is_real_and_needs_no_finding_of_its_own() -> None:
    given = inputs(made(CAUSAL, logged=(LINE,)))
    assert judged(given).truth is Truth.REAL
    assert not [f for f in checks.evaluate(given).findings if f.slug.startswith("warning-")]


def test_a_line_about_a_window_that_nobody_declares_or_meets_is_inert() -> None:
    none = inputs(made(CAUSAL, logged=(LINE,)), tiny=model(CAUSAL))
    assert judged(none).truth is Truth.INERT
    assert len(found(none, "warning-inert")) == 1
    short = inputs(made(logged=(LINE,)), options=Options(seq_len=4))
    assert judged(short).truth is Truth.INERT


def test_a_line_about_what_could_not_be_measured_is_not_judged() -> None:
    crashed = runs.run(Crashed("signal", "died"), logged=(LINE,))
    given = inputs(crashed, made(name="eager"))
    assert judged(given).truth is Truth.UNJUDGED
    assert not [f for f in checks.evaluate(given).findings if f.slug.startswith("warning-")]


def test_lines_of_other_implementations_than_the_one_that_runs_are_passed_over() -> None:
    given = inputs(made(logged=(LINE,)), made(name="eager"), framework=resolution(Runs("eager")))
    assert log_lines.judged(Case(given, views(given))) == ()


def test_an_expected_line_is_judged_without_being_heard_and_makes_no_finding() -> None:
    expected = resolution(warnings=(LogWarning(LINE, "window-ignored", "sdpa", "somewhere"),))
    given = inputs(made(), framework=expected)
    line = judged(given)
    assert (line.truth, line.heard) == (Truth.STALE, False)
    assert found(given, "warning-stale") == []


def test_what_is_known_of_another_version_stays_static() -> None:
    known = LogWarning(LINE, "window-ignored", "sdpa", "x", "real", "sdpa ignored the window in 4.48.3")
    line = judged(inputs(made(), framework=resolution(warnings=(known,))))
    assert (line.truth, line.basis) == (Truth.REAL, Basis.STATIC)


@pytest.mark.parametrize(("seq_len", "truth"), [(2048, Truth.INERT), (4096, Truth.INERT), (4097, Truth.REAL)])
def test_what_is_known_of_another_version_is_inert_for_sequences_that_fit(seq_len: int, truth: Truth) -> None:
    """Qwen2.5 as it ships, in LLaMA-Factory 0.9.2: the window is 131 072 wide, `cutoff_len` is 2048."""
    config = {"use_sliding_window": False, "sliding_window": 4096}
    line = for_model("qwen2", config, "sdpa", "5.23.0", "<=4.49.0,>=4.41.2")
    assert line is not None
    given = inputs(made(), framework=resolution(warnings=(line,)), options=Options(seq_len=seq_len))
    assert judged(given).truth is truth


@pytest.mark.parametrize(
    ("required", "config", "known"),
    [
        (">=4.55.0,<=5.6.0", {}, ""),
        ("<=4.49.0,>=4.41.2", {"use_sliding_window": True}, "real"),
        ("<=4.49.0,>=4.41.2", {"use_sliding_window": False}, "real"),
        ("<=4.49.0,>=4.41.2", {"use_sliding_window": False, "sliding_window": None}, "inert"),
        ("<=4.45.0,>=4.41.2", {}, "inert"),
        ("<=4.45.0,>=4.41.2", {"use_sliding_window": False}, "inert"),
        ("<=4.41.2", {"use_sliding_window": True}, "stale"),
        ("", {}, ""),
    ],
)
def test_the_table_speaks_of_versions_that_are_not_installed(required: str, config: Any, known: str) -> None:
    line = for_model("qwen2", config, "sdpa", "5.23.0", required)
    assert line is not None
    assert line.known == known


def test_the_table_knows_who_prints_the_line() -> None:
    assert for_model("llama", {}, "sdpa", "5.23.0", "") is None
    assert for_model("qwen2", {}, "flash_attention_2", "5.23.0", "") is None
    assert for_model("qwen2_5_vl_text", {}, "sdpa", "5.23.0", "") is not None


@pytest.mark.parametrize("rule", [*framework.RULES, *log_lines.RULES], ids=lambda rule: rule.slug)
def test_the_rules_are_documented(rule: Any) -> None:
    assert checks.rule(rule.slug) == rule
    assert all((rule.title, rule.finds, rule.why, rule.measured, rule.fix))
