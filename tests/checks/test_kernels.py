"""Rules about kernels: each fires on a kernel that is wrong on purpose, as it was read, and is quiet on a right one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import pytest

from attncheck import doctor
from attncheck.checks import kernel_numbers, kernels
from attncheck.checks.machine import Machine
from attncheck.findings import Finding, Severity
from attncheck.probe import ability_rows, apis, conventions
from attncheck.probe.jobs import Jobs
from attncheck.probe.kernels import abilities as ability_job
from attncheck.probe.kernels import conventions as convention_job
from attncheck.semantics.convention import Ability, Convention, Outcome
from attncheck.semantics.observation import Basis, Crashed
from tests import builders
from tests.plugins import fake_apis

PLUGINS = ("tests.plugins.fake_apis",)
ARGUMENTS = {"device": "cpu", "dtype": "float32", "seed": 0, "plugins": PLUGINS}
JUDGES = (
    *(kernels.broken_contracts, kernels.differing_windows, kernels.crashes),
    *(kernel_numbers.empty_rows, kernel_numbers.wrong_outputs, kernel_numbers.nondeterministic),
)


@cache
def table(name: str) -> tuple[Convention, ...]:
    """The convention table of one fake, read in this process."""
    api = next(api for api in fake_apis.BACKEND.apis if api.name == name)
    rows = []
    for index, spelling in enumerate(api.spellings):
        for q_len, kv_len in (conventions.EQUAL, *spelling.lengths):
            row = convention_job.run(f"{name}|{index}|{q_len}x{kv_len}", ARGUMENTS)
            assert isinstance(row, Convention)
            rows.append(row)
    return tuple(rows)


@cache
def seen(name: str, *features: str) -> tuple[Ability, ...]:
    """Its abilities."""
    steps = [step for step in ability_rows.steps(name) if not features or step.split("|")[1] in features]
    return ability_rows.merged([(step, ability_row(step)) for step in steps])


def ability_row(step: str) -> Ability:
    return ability_rows.ability(step, ability_job.run(step, ARGUMENTS))


def machine(rows: Iterable[Convention] = (), abilities: Iterable[Ability] = ()) -> Machine:
    return Machine(builders.ENVIRONMENT, conventions=tuple(rows), abilities=tuple(abilities))


def found(judge: Callable[[Machine], Iterable[Finding]], **given: Iterable[object]) -> list[Finding]:
    findings = list(judge(machine(**given)))  # type: ignore[arg-type]
    for finding in findings:
        assert finding.evidence.effective
        assert finding.reproduction.startswith("attncheck doctor --check ")
        assert finding.recommendations
    return findings


def crashed(rows: Iterable[Convention]) -> list[Convention]:
    blank = Convention("", "", "", 0, 0, Outcome.CRASHED, None, detail="the process died of SIGSEGV")
    return [
        replace(blank, api=row.api, call=row.call, question=row.question, q_len=row.q_len, kv_len=row.kv_len)
        for row in rows
    ]


@pytest.mark.parametrize("judge", JUDGES)
def test_a_right_kernel_gives_no_finding(judge: Callable[[Machine], Iterable[Finding]]) -> None:
    assert not found(judge, rows=table("fake-inclusive"), abilities=seen("fake-inclusive"))


@pytest.mark.parametrize("judge", JUDGES)
def test_rows_that_crashed_were_refused_or_not_run(judge: Callable[[Machine], Iterable[Finding]]) -> None:
    rows = crashed(table("fake-inclusive"))
    others = [replace(row, outcome=kind) for kind in (Outcome.REFUSED, Outcome.NOT_RUN) for row in rows]
    broken = ability_rows.merged(
        [(step, ability_rows.ability(step, Crashed("signal", "SIGSEGV"))) for step in ability_rows.steps("fake")]
    )
    refused = [replace(row, outcome=Outcome.REFUSED, value="refused") for row in broken]
    findings = found(judge, rows=[*rows, *others], abilities=[*broken, *refused])
    assert {finding.slug for finding in findings} <= {"kernel-crashes"}


def test_a_broken_promise() -> None:
    (finding, other) = found(kernels.broken_contracts, rows=table("fake-off-by-one"))
    assert (finding.slug, finding.severity) == ("kernel-contract-broken", Severity.WARNING)
    assert finding.message == (
        "fake-off-by-one, window=(8, 0): promised 9 keys: 8 back, 0 ahead, measured 8 keys: 7 back, 0 ahead"
    )
    assert "32 x 64: 8 keys: 7 back, 0 ahead, bottom-right" in finding.evidence.effective
    assert "window=(8, 3)" in other.message


def test_all_zero_output_and_what_to_write_instead() -> None:
    good = [replace(row, api="fake-minus-one", call="window=(None, 0)") for row in table("fake-inclusive")[3:6]]
    findings = found(kernels.broken_contracts, rows=[*table("fake-minus-one"), *good])
    finding = next(finding for finding in findings if "window=(-1, 0)" in finding.message)
    assert finding.message == (
        "fake-minus-one, window=(-1, 0): promised all earlier keys, measured all 64 output rows are exactly 0"
    )
    assert finding.recommendations[0].settings[0].paste == "window=(None, 0)"


def test_another_alignment() -> None:
    findings = found(kernels.broken_contracts, rows=table("fake-wrong-corner"))
    causal = next(finding for finding in findings if "window=(-1, 0)" in finding.message)
    assert "promised all earlier keys, bottom-right with 32 queries x 64 keys" in causal.message
    assert "measured all earlier keys, top-left" in causal.message


def test_the_same_number_means_two_things() -> None:
    rows = [*table("fake-inclusive"), *table("fake-exclusive"), *table("fake-top-left")]
    (finding,) = found(kernels.differing_windows, rows=rows)
    assert (finding.slug, finding.severity) == ("window-conventions-differ", Severity.NOTE)
    assert finding.message == "A window of 8 means 8 keys to fake-exclusive and 9 keys to fake-inclusive, fake-top-left"
    assert [setting.paste for setting in finding.recommendations[0].settings] == [
        *("window=(W, 0)", "window=(W-1, 0)", "window=(W-1, 0)")
    ]
    assert not found(kernels.differing_windows, rows=[*table("fake-inclusive"), *table("fake-top-left")])


def test_a_mask_that_is_written_out_is_no_convention() -> None:
    rows = [replace(row, number=None) for row in table("fake-exclusive")]
    assert not found(kernels.differing_windows, rows=[*table("fake-inclusive"), *rows])


def test_another_number_than_8_says_nothing_about_8() -> None:
    """It has `window=(7, 0)`, 8 keys, and the same written out, beside `window=(8, 0)`, 9 keys."""
    rows = table("fake-other-windows")
    assert {row.keys for row in rows if row.question == "window" and row.q_len == row.kv_len} == {8, 9}
    assert not found(kernels.differing_windows, rows=[*table("fake-inclusive"), *rows])
    (finding,) = found(kernels.differing_windows, rows=[*table("fake-exclusive"), *rows])
    assert finding.message == "A window of 8 means 8 keys to fake-exclusive and 9 keys to fake-other-windows"


def test_one_api_whose_calls_mean_two_things() -> None:
    both = [*table("fake-inclusive"), *(replace(row, api="fake-inclusive") for row in table("fake-exclusive"))]
    both = [row if row.keys == 9 else replace(row, call="band(8)", pattern="band({})") for row in both]
    (finding,) = found(kernels.differing_windows, rows=both)
    assert finding.message == "A window of 8 means 8 keys to fake-inclusive (band(8)) and 9 keys to fake-inclusive"
    assert [setting.paste for setting in finding.recommendations[0].settings] == ["window=(W-1, 0)"], "one an API"
    assert "fake-inclusive band(8): 8 keys" in finding.evidence.effective


def test_flash_attention_and_cudnn_show_the_incident() -> None:
    """The spellings are those of the backends, the readings those of an H100."""
    rows = [
        reading("flash-attn-2", "window_size=(8, 0)", 9),
        reading("cudnn-graph", "use_causal_mask=True, sliding_window_length=8", 8),
        reading("cudnn-graph", "TOP_LEFT, left_bound=9, right_bound=0", 9),
        reading("varlen_attn", "window_size=(7, 0)", 8),
        reading("varlen_attn", "window_size=(8, 0)", 9),
        reading("xformers-mask", "attn_bias=LowerTriangularFromBottomRightMask().make_local_attention(8)", 8),
        reading("xformers-mask", "attn_bias=LocalAttentionFromBottomRightMask(7, 0)", 8),
        reading("sdpa-math", "attn_mask=(j <= i) & (i - j < 8)", 8),
    ]
    (finding,) = found(kernels.differing_windows, rows=rows)
    assert finding.message == (
        "A window of 8 means 8 keys to cudnn-graph, xformers-mask and 9 keys to flash-attn-2, varlen_attn"
    )
    assert {setting.framework: setting.paste for setting in finding.recommendations[0].settings} == {
        "cudnn-graph": "use_causal_mask=True, sliding_window_length=W",
        "xformers-mask": "attn_bias=LowerTriangularFromBottomRightMask().make_local_attention(W)",
        "flash-attn-2": "window_size=(W-1, 0)",
        "varlen_attn": "window_size=(W-1, 0)",
    }


def reading(api: str, call: str, keys: int) -> Convention:
    """A spelling of a backend as read here, without its kernel."""
    spelling = next(spelling for spelling in apis.known()[api][1].spellings if spelling.text == call)
    return Convention(
        api, call, "window", 64, 64, Outcome.READ, Basis.MEASURED, keys - 1, 0, keys,
        number=spelling.number, pattern=spelling.pattern,
    )  # fmt: skip


def test_an_irregular_reading_is_told_by_its_rows_not_by_a_key_count() -> None:
    (finding, *_) = found(kernels.broken_contracts, rows=table("fake-bounded")[3:6])
    assert finding.message.startswith(
        "fake-bounded, window=(-1, 0): promised all earlier keys, top-left with 64 queries x 32 keys, measured neither "
        "diagonal, top-left nor bottom-right, explains every row; query 33 is the first of 31"
    )
    assert "keys 1 to 31, not keys 0 to 31" in finding.evidence.effective


def test_a_library_without_operators_is_no_crash() -> None:
    with Jobs(60.0) as jobs:
        only = ("fake-no-operators",)
        rows, abilities = conventions.read(jobs, builders.ENVIRONMENT, "cpu", only=only, plugins=PLUGINS)
    assert [(row.outcome, row.question) for row in rows] == [(Outcome.REFUSED, "")]
    for judge in JUDGES:
        assert not found(judge, rows=rows, abilities=abilities)


@pytest.mark.parametrize(("other", "words"), [("fake-uniform", "mean of V"), ("fake-first-key", "row sum 1")])
def test_rows_without_keys_that_differ(other: str, words: str) -> None:
    given = [*seen("fake-inclusive", "empty-rows"), *seen(other, "empty-rows")]
    (finding,) = found(kernel_numbers.empty_rows, abilities=given)
    assert (finding.slug, finding.severity) == ("empty-rows-differ", Severity.NOTE)
    assert f"bool mask: 0 (fake-inclusive); {words} ({other})" in finding.message
    assert not found(kernel_numbers.empty_rows, abilities=seen(other, "empty-rows"))


def test_nan_in_rows_without_keys() -> None:
    (finding,) = found(kernel_numbers.empty_rows, abilities=seen("fake-nan", "empty-rows"))
    assert (finding.code, finding.slug, finding.severity) == ("ATC501", "nan-rows", Severity.WARNING)
    assert "fake-nan gives NaN or Inf to queries that see no key: bool mask; -inf mask" in finding.message
    (finding,) = found(kernel_numbers.empty_rows, rows=table("fake-nan"))
    assert "window=(-1, 0), 64 queries x 32 keys" in finding.message


@pytest.mark.parametrize(
    ("api", "feature", "words"),
    [
        ("fake-width-80", "head_dim", "wrong numbers at head_dim 80 (80: off by 0.25"),
        ("fake-no-softcap", "softcap", "takes softcap and ignores it (off by"),
        ("fake-no-sinks", "sinks", "takes sinks and ignores it (off by"),
        ("fake-tiled", "gqa", "query heads read kv heads in another order: tiled"),
        ("fake-gradient", "backward", "wrong gradients: causal: dk off by 1"),
    ],
)
def test_wrong_numbers(api: str, feature: str, words: str) -> None:
    (finding,) = found(kernel_numbers.wrong_outputs, abilities=[*seen(api, feature), *seen("fake-inclusive", feature)])
    assert (finding.slug, finding.severity) == ("kernel-output-wrong", Severity.ERROR)
    assert finding.message.startswith(f"{api}: {words}")
    assert "fake-inclusive" in finding.recommendations[0].text


def test_all_that_is_wrong_with_one_api_is_one_finding() -> None:
    wrong = [
        Ability("zeros", feature, "not readable" if feature == "gqa" else "", Outcome.READ, Basis.MEASURED, False,
                figures={"wrong": "64", "limit": 0.03})
        for feature in ("dtype", "gqa", "backward")
    ]  # fmt: skip
    right = [replace(row, api="good", agrees=True) for row in wrong]
    half = [replace(right[0], api="half"), replace(wrong[1], api="half")]
    finding, other = found(kernel_numbers.wrong_outputs, abilities=[*wrong, *right, *half])
    assert finding.message == ("zeros: wrong numbers in 64; wrong numbers with grouped heads; wrong gradients: "), (
        "what is unreadable has no order"
    )
    assert finding.recommendations[0].text == "Instead of zeros use one that was right here: good."
    assert finding.evidence.figures["backward limit"] == 0.03
    assert other.message == "half: wrong numbers with grouped heads"
    call = Convention(
        "zeros", "causal=True", "causal", 64, 64, Outcome.READ, Basis.MEASURED, empty_rows=64, agrees=False
    )
    (told, _) = found(kernel_numbers.wrong_outputs, rows=[call], abilities=[*wrong, *half])
    assert told.message == "zeros: causal=True gives nothing but zeros, which spoils dtype, gqa, backward"
    some = [replace(call, empty_rows=3)]
    assert "nothing but zeros" not in found(kernel_numbers.wrong_outputs, rows=some, abilities=wrong)[0].message


def test_wrong_probabilities_under_a_right_mask() -> None:
    rows = [replace(row, figures={**row.figures, "relative error": 0.5}) for row in table("fake-inclusive")[:3]]
    (finding,) = found(kernel_numbers.wrong_outputs, rows=rows)
    assert "fake-inclusive, window=(8, 0): the probabilities are off by 0.5" in finding.message


def test_gradients_that_differ_from_run_to_run() -> None:
    (finding,) = found(kernel_numbers.nondeterministic, abilities=seen("fake-noisy", "determinism"))
    assert (finding.slug, finding.severity) == ("backward-nondeterministic", Severity.NOTE)
    assert finding.message == "fake-noisy: the backward of the same call differs from run to run"
    assert finding.recommendations[0].settings[0].paste == "deterministic=True"


def test_gradients_without_a_switch_that_mends_them() -> None:
    (noisy,) = seen("fake-noisy", "determinism")
    figures = {name: value for name, value in noisy.figures.items() if "switch" not in name}
    given = [replace(noisy, figures=figures), *seen("fake-inclusive", "determinism")]
    (finding,) = found(kernel_numbers.nondeterministic, abilities=given)
    assert finding.recommendations[0].text.endswith("use one that was steady here: fake-inclusive.")


def test_all_that_change_from_run_to_run_are_one_note() -> None:
    (noisy,) = seen("fake-noisy", "determinism")
    bare = {name: value for name, value in noisy.figures.items() if "switch" not in name}
    steady = seen("fake-inclusive", "determinism")
    wrong = [replace(steady[0], api="zeros"), replace(steady[0], api="zeros", feature="dtype", agrees=False)]
    given = [noisy, replace(noisy, api="second"), replace(noisy, api="bare", figures=bare), *steady, *wrong]
    (finding,) = found(kernel_numbers.nondeterministic, abilities=given)
    assert finding.message == "fake-noisy, second, bare: the backward of the same call differs from run to run"
    switched, other = finding.recommendations
    assert [setting.framework for setting in switched.settings] == ["fake-noisy", "second"]
    assert other.text == "bare: where runs must be repeated bit for bit, use one that was steady here: fake-inclusive."


def test_calls_with_one_cause_are_one_warning() -> None:
    row = Convention(
        "flash", "window=(8, 0)", "window", 64, 64, Outcome.READ, Basis.MEASURED, 8, 0, 9,
        expected="8 keys: 7 back, 0 ahead", agrees=False, number=8, pattern="window=({}, 0)",
    )  # fmt: skip
    seven = replace(row, call="window=(7, 0)", number=7, left=7, keys=8, expected="7 keys: 6 back, 0 ahead")
    zeros = replace(
        row, call="causal=True", question="causal", number=None, pattern="", left=None, keys=None, empty_rows=64,
        expected="all earlier keys", detail="all 64 output rows are exactly 0",
    )  # fmt: skip
    windows, empty = found(kernels.broken_contracts, rows=[row, seven, zeros])
    assert windows.message == (
        "flash, window=(8, 0): promised 8 keys: 7 back, 0 ahead, measured 9 keys: 8 back, 0 ahead; "
        "likewise window=(7, 0)"
    )
    assert windows.recommendations[0].settings[0].paste == "window=(W-1, 0)"
    assert "causal=True" in empty.message
    assert "likewise" not in empty.message
    assert len(found(kernels.broken_contracts, rows=[row, replace(seven, keys=9, left=8)])) == 2, "other causes"


@pytest.mark.parametrize(
    ("slug", "runs"),
    [
        ("kernel-contract-broken", {"promise"}),
        ("empty-rows-differ", {"promise", "reading", "repeated"}),
        ("window-conventions-differ", set()),
        ("kernel-output-wrong", {"promise", "reading", "repeated"}),
        ("backward-nondeterministic", {"repeated"}),
        ("kernel-crashes", {"promise", "reading", "crash"}),
    ],
)
def test_a_check_that_looked_at_nothing_did_not_run(slug: str, runs: set[str]) -> None:
    (check,) = (check for check in doctor.machine_checks() if check.rule.slug == slug)
    row = Convention("api", "call", "causal", 64, 64, Outcome.READ, Basis.MEASURED, agrees=True)
    unrun = replace(row, outcome=Outcome.NOT_RUN, basis=None, agrees=None, detail="not installed")
    repeated = Ability("api", "determinism", "", Outcome.READ, Basis.MEASURED)
    cases = {
        "nothing": machine(rows=[unrun]),
        "promise": machine(rows=[row, unrun]),
        "reading": machine(rows=[replace(row, agrees=None)]),
        "crash": machine(rows=[replace(unrun, outcome=Outcome.CRASHED)]),
        "repeated": machine(rows=[unrun], abilities=[repeated]),
    }
    assert {name for name, facts in cases.items() if check.refusal(facts) == ""} == runs
    refusal = check.refusal(cases["nothing"])
    assert "api: not installed" in refusal or slug == "window-conventions-differ"


def test_windows_are_compared_when_two_apis_take_a_number() -> None:
    (check,) = (check for check in doctor.machine_checks() if check.rule.slug == "window-conventions-differ")
    one = machine(rows=table("fake-inclusive"))
    assert check.refusal(one).endswith("could be read: only fake-inclusive")
    assert check.refusal(machine(rows=[*table("fake-inclusive"), *table("fake-top-left")])) == ""


def test_a_kernel_that_dies() -> None:
    with Jobs(60.0) as jobs:
        rows, abilities = conventions.read(jobs, builders.ENVIRONMENT, "cpu", only=("fake-dying",), plugins=PLUGINS)
    (finding,) = found(kernels.crashes, rows=rows, abilities=abilities)
    assert (finding.slug, finding.severity) == ("kernel-crashes", Severity.WARNING)
    assert "fake-dying crashes here: window=(8, 0), 64 queries x 64 keys (and" in finding.message
    assert "SIGSEGV" in finding.message
    assert "head_dim: 80 crashed" in finding.evidence.effective
