"""slow-path is raised for paths that users take, beside something right and faster, and for nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attncheck.bench.session import Session
from attncheck.bench.subjects import table
from attncheck.checks.shape_results import wrong
from attncheck.checks.speed import slow_paths, wrong_kernel
from attncheck.findings import Finding, Recommendation, Setting, Severity
from attncheck.semantics.convention import Outcome
from attncheck.semantics.growth import growth
from attncheck.semantics.observation import Basis
from attncheck.semantics.shape import Shape, ShapeReading, WrongCells
from attncheck.semantics.spec import CAUSAL, FULL, Window
from attncheck.semantics.timing import Bench, BenchCase, BenchCell
from attncheck.semantics.timing_changes import BETWEEN_RUNS
from attncheck.semantics.workload import cells
from attncheck.stored import report as stored

RECORDED = Path(__file__).parents[1] / "gpu" / "recorded"
BAND = {"window": Window(1023, 0), "mask": "window 1024"}
LENGTHS = (4096, 8192, 16384)


def cell(subject: str, milliseconds: float, tokens: int = 16384, kernel: str = "", **changes: Any) -> BenchCell:
    values: dict[str, Any] = {
        "level": "kernel",
        "subject": subject,
        "phase": "prefill",
        "backward": False,
        "inputs": "plain",
        "batch": 1,
        "q_len": tokens,
        "kv_len": tokens,
        "num_heads": 16,
        "num_kv_heads": 16,
        "head_dim": 128,
        "head_dim_v": 128,
        "dtype": "bfloat16",
        "window": CAUSAL,
        "mask": "causal",
    }
    case = BenchCase(**{**values, **changes})
    case = replace(case, cells=cells(case))
    median = milliseconds / 1e3
    return BenchCell(
        case, Outcome.READ, median, 0.99 * median, 1.01 * median, 50, 1.0, peak_memory=1 << 20, kernel=kernel
    )


def settings(subject: str) -> Recommendation:
    return Recommendation(f"use {subject}", (Setting("transformers", "attn_implementation", subject, subject),))


def findings(given: Sequence[BenchCell]) -> list[Finding]:
    bench = Bench(tuple(given), growth(given))
    return list(slow_paths(bench, "attncheck bench mistral", settings))


def test_a_window_through_a_mask() -> None:
    given = [
        *(cell("sdpa", 7.9 * (n / 16384) ** 2, n, "efficient", **BAND) for n in LENGTHS),
        *(cell("flash-attn-2", 0.52 * n / 16384, n, **BAND) for n in LENGTHS),
        cell("sdpa", 1.95, kernel="flash"),
        cell("flash-attn-2", 1.9),
    ]
    (found,) = findings(given)
    assert (found.slug, found.severity, found.basis) == ("slow-path", Severity.WARNING, Basis.MEASURED)
    assert found.implementation == "sdpa"
    assert found.kernel == "efficient"
    assert "15.2 times as long as flash-attn-2" in found.message
    assert "4.1 times as long as with no window at all" in found.message
    assert "length^2.00, where a window needs 1" in found.message
    figures_ = found.evidence.figures
    assert figures_["ratio"] == pytest.approx(15.192, abs=1e-3)
    assert figures_["exponent of growth"] == pytest.approx(2.0)
    assert figures_["exponent of growth, flash-attn-2"] == pytest.approx(1.0)
    assert set(figures_) >= {"ratio at 8192", "ratio at 16384", "ratio to no window at all", "sdpa bytes"}
    assert found.recommendations[0].settings[0].value == "flash-attn-2"
    assert "15.2 times faster" in found.recommendations[0].text
    assert found.reproduction == ("attncheck bench mistral --level kernel --seq-lens 16384 --impl sdpa,flash-attn-2")


@pytest.mark.parametrize(
    ("slow", "words"),
    [
        (cell("sdpa", 3.0, inputs="padded", kernel="efficient"), "padding go to SDPA as a mask"),
        (cell("sdpa", 3.0, inputs="packed"), "documents go to SDPA as a mask"),
        (cell("eager", 30.0), "eager attention computes and stores every logit"),
        (cell("flex_attention-uncompiled", 30.0), "without torch.compile"),
    ],
)
def test_other_slow_paths(slow: BenchCell, words: str) -> None:
    fast = replace(slow, case=replace(slow.case, subject="flash-attn-2"), median=1e-3, p20=1e-3, p80=1e-3)
    (found,) = findings([slow, fast])
    assert words in found.message


@pytest.mark.parametrize(
    "given",
    [
        pytest.param([cell("sdpa", 1.4, **BAND), cell("flash-attn-2", 1.0, **BAND)], id="not slow enough"),
        pytest.param([cell("sdpa", 0.15, **BAND), cell("flash-attn-2", 0.02, **BAND)], id="launching dominates"),
        pytest.param([cell("sdpa", 1.74), cell("flash-attn-4", 0.87)], id="no mask: another library is faster"),
        pytest.param([cell("sdpa-math", 40.0), cell("flash-attn-4", 0.87)], id="a kernel that somebody chose"),
        pytest.param([cell("eager", 9.0, 1024), cell("sdpa", 1.0, 1024)], id="short"),
        pytest.param([cell("sdpa", 7.9, **BAND)], id="nothing to compare with"),
        pytest.param(
            [cell("sdpa", 7.9, **BAND), replace(cell("flash-attn-2", 0.5, **BAND), excluded="window-ignored")],
            id="the faster one is wrong",
        ),
        pytest.param(
            [replace(cell("sdpa", 7.9, **BAND), excluded="nan-rows"), cell("flash-attn-2", 0.5, **BAND)],
            id="itself is wrong",
        ),
        pytest.param([cell("sdpa", 7.9, **BAND), cell("flash-attn-2", 0.5)], id="not the same case"),
        pytest.param(
            [cell("sdpa", 3.0, window=FULL, mask="full"), cell("flash-attn-2", 1.0, window=FULL, mask="full")],
            id="full attention has no mask",
        ),
        pytest.param(
            [cell("sdpa", 3.0, phase="decode", **BAND), cell("flash-attn-2", 1.0, phase="decode", **BAND)],
            id="decode",
        ),
    ],
)
def test_quiet(given: list[BenchCell]) -> None:
    assert findings(given) == []


def test_noise_beyond_the_factor_is_needed() -> None:
    slow, fast = cell("sdpa", 1.6, **BAND), cell("flash-attn-2", 1.0, **BAND)
    assert findings([slow, fast])
    assert not findings([replace(slow, p20=1.0e-3), fast])
    assert not findings([slow, replace(fast, p80=1.2e-3)])


def test_passes_and_levels_are_told_apart() -> None:
    given = [
        cell(subject, time, **BAND, backward=backward, level=level)
        for backward in (False, True)
        for level in ("kernel", "layer")
        for subject, time in (("sdpa", 7.9), ("flash_attention_2", 0.5))
    ]
    told = findings(given)
    assert [(found.variant, found.recommendations[0].settings[0].value) for found in told] == [
        ("layer level, forward", "flash_attention_2"),
        ("layer level, forward and backward", "flash_attention_2"),
    ]  # what is slow in its layer is not told of again for its kernel alone
    kernels = findings([cell for cell in given if cell.case.level == "kernel" or cell.case.backward])
    assert {found.variant for found in kernels} == {"kernel level, forward", "layer level, forward and backward"}


def test_what_runs_without_a_choice_comes_first_and_eager_last() -> None:
    times = {"eager": 30.0, "flex_attention-uncompiled": 20.0, "sdpa": 8.0, "flash-attn-2": 0.5}
    told = findings([cell(name, time, **BAND) for name, time in times.items()])
    assert [finding.implementation for finding in told] == ["sdpa", "flex_attention", "eager"]
    assert told[0].evidence.declared == "0.50 ms (flash-attn-2)"
    assert told[0].evidence.effective == "8.00 ms at 16384 tokens"


@pytest.mark.parametrize(("ahead", "advised"), [(0.9, "flash-attn-4"), (1.1, "te-flash-4")])
def test_of_what_is_equally_fast_that_which_a_setting_reaches_is_advised(ahead: float, advised: str) -> None:
    """ahead: how far the one without a setting lies in front, as a share of the noise between runs."""

    def reachable(subject: str) -> Recommendation:
        return Recommendation("call it") if subject == "te-flash-4" else settings(subject)

    times = {"eager": 80.0, "te-flash-4": 1.39, "flash-attn-4": 1.39 * (1 + ahead * BETWEEN_RUNS), "flash-attn-2": 3.0}
    (found,) = slow_paths(Bench(tuple(cell(name, time) for name, time in times.items())), "attncheck bench", reachable)
    assert f"times as long as {advised} (kernel, causal, forward)" in found.headline
    assert found.reproduction.endswith(f"--impl eager,{advised}")
    assert ("te-flash-4 takes 1.39 ms, the same within noise" in found.message) == (advised == "flash-attn-4")
    assert bool(found.recommendations[0].settings) == (advised == "flash-attn-4")


@pytest.mark.parametrize(("later", "advised"), [(0.8, "flash-attn-4"), (1.2, "flash-attn-2")])
@pytest.mark.parametrize("rows", [(1, 1), (2, 2), (1, 2)])
def test_of_two_that_are_equally_fast_the_one_that_is_faster_at_the_longest_length_is_advised(
    later: float, advised: str, rows: tuple[int, int]
) -> None:
    """At 16k they take the same within noise; later: time of flash-attn-4 at 32k for a row, beside 1 of flash-attn-2.

    rows: of both at 32k, since grids of constant tokens have other batches at other lengths.
    """
    near = [cell("eager", 20.0), cell("flash-attn-2", 1.0), cell("flash-attn-4", 1.05)]
    times = (rows[0], later * rows[1])
    far = [cell(entry.case.subject, time, 32768, batch=n) for entry, time, n in zip(near[1:], times, rows)]
    (found,) = findings([*near, *far])
    assert found.reproduction.endswith(f"--impl eager,{advised}")
    assert found.evidence.declared.endswith(f"ms ({advised})")


def test_one_of_equals_that_was_not_timed_at_the_longest_length_leaves_the_longest_that_all_have() -> None:
    near = [cell("eager", 20.0), cell("flash-attn-2", 1.0), cell("flash-attn-4", 1.05), cell("sdpa-cudnn", 1.02)]
    far = [cell("flash-attn-2", 1.0, 32768), cell("flash-attn-4", 0.8, 32768)]
    (found,) = findings([*near, *far])
    assert found.reproduction.endswith("--impl eager,flash-attn-2")


def test_no_setting_is_named_for_a_kernel_that_sdpa_must_be_made_to_take() -> None:
    session = SimpleNamespace(apis=table(), plan=SimpleNamespace(declared=None))
    told = {name: Session.settings(session, name) for name in ("sdpa", "sdpa-cudnn", "flash-attn-4", "te-flash-4")}  # type: ignore[arg-type]
    assert {name for name, advice in told.items() if advice.settings} == {"sdpa", "flash-attn-4"}
    assert "SDPBackend.CUDNN_ATTENTION" in told["sdpa-cudnn"].text


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "mistral",
            [
                ("sdpa", "layer level, forward", "flash_attention_4"),
                ("sdpa", "layer level, forward and backward", "flash_attention_4"),
                ("flex_attention", "kernel level, forward", "flash_attention_4"),
                ("flex_attention", "kernel level, forward and backward", "flash_attention_4"),
                ("eager", "layer level, forward", "flash_attention_4"),
                ("eager", "layer level, forward and backward", "flash_attention_4"),
            ],
        ),
        (
            "swa",
            [
                ("sdpa", "kernel level, forward", "flash_attention_4"),
                ("eager", "kernel level, forward", "flash_attention_4"),
                ("eager", "kernel level, forward", "flash_attention_4"),
            ],
        ),
    ],
)
def test_what_an_h100_measured_leads_to_one_setting(name: str, told: list[tuple[str, str, str]]) -> None:
    bench = stored.read(str(RECORDED / f"bench_{name}.json")).bench
    assert bench is not None
    session = SimpleNamespace(apis=table(), plan=SimpleNamespace(declared=None))
    found = list(slow_paths(bench, "attncheck bench", lambda subject: Session.settings(session, subject)))  # type: ignore[arg-type]
    assert [
        (finding.implementation, finding.variant, finding.recommendations[0].settings[0].value.strip('"'))
        for finding in found
    ] == told


def test_a_wrong_kernel_is_an_error() -> None:
    shape = Shape(4, 2, 64, 64, Window(31, 0))
    cells_ = WrongCells((40, 8), behind=100, behind_distances=(32, 32))
    reading = ShapeReading("bad", shape, Outcome.READ, Basis.MEASURED, wrong=cells_)
    (fault,) = wrong(reading, training=True)
    found = wrong_kernel(fault, cell("bad", 1.0).case, "attncheck bench")
    assert (found.slug, found.severity, found.kernel) == ("window-off-by-one", Severity.ERROR, "bad")
    assert "not timed" in found.message
    assert found.reproduction == "attncheck bench --level kernel --impl bad"


def test_the_advice_says_for_which_pass_it_was_measured() -> None:
    given = [
        cell(subject, time, backward=backward)
        for backward in (False, True)
        for subject, time in (("eager", 30.0), ("flash-attn-2", 1.0))
    ]
    said = {finding.recommendations[0].text for finding in findings(given)}
    assert {text.rpartition("here ")[2] for text in said} == {
        "(kernel, causal, forward), 29.00 ms less a layer",
        "(kernel, causal, forward and backward), 29.00 ms less a layer",
    }


@pytest.mark.parametrize("kernel", ["cudnn", "flash"])
def test_what_is_switched_off_is_no_advice(kernel: str) -> None:
    names = {"flash-attn-2": 1.0, "sdpa-flash": 1.1, "sdpa-efficient": 2.0, "eager": 30.0}
    given = [*(cell(name, time) for name, time in names.items()), cell("sdpa", 1.5, kernel=kernel)]
    bench = Bench(tuple(given))
    (free,) = slow_paths(bench, "attncheck bench", settings)
    assert free.recommendations[0].text.startswith("use flash-attn-2:")
    (off,) = slow_paths(bench, "attncheck bench", settings, ("flash",))
    best = "sdpa" if kernel == "cudnn" else "sdpa-efficient"  # what SDPA takes by itself may be flash, too
    assert off.recommendations[0].text.startswith(f"use {best}:")
    assert "flash" not in off.message
    alone = Bench((cell("eager", 30.0), cell("flash-attn-2", 1.0)))
    assert not list(slow_paths(alone, "attncheck bench", settings, ("flash",)))
