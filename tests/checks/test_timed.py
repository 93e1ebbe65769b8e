"""A stored bench orders what is right and nothing else: the fastest right one is recommended, slow paths are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from attncheck import checks
from attncheck.checks import Conclusion, Options
from attncheck.findings import Finding, Recommendation, Severity
from attncheck.semantics.convention import Outcome
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import Basis, Crashed, ScenarioRun
from attncheck.semantics.speeds import CallSpeed, HeldBench
from attncheck.semantics.timing import Bench, BenchCase, BenchCell
from tests import runs
from tests.runs import PLAIN, layer, model

SPEC = layer()
TINY = model(SPEC)
GOOD = runs.calls(SPEC, PLAIN)
WRONG = runs.calls(SPEC, PLAIN, spoil=lambda keep: KeepMask.from_rule(keep.q_len, keep.kv_len, lambda i, j: True))
TOKENS = 16384


def run(name: str, made: Any = GOOD, **fields: Any) -> ScenarioRun:
    return runs.run(made, implementation=name, **fields)


def call(name: str, milliseconds: float, tokens: int = TOKENS, **changes: Any) -> CallSpeed:
    median = milliseconds / 1e3
    found = CallSpeed(name, name, "prefill", False, "plain", 1, tokens, 32, median, 0.99 * median, 1.01 * median, 50)
    return replace(found, **changes)


def cell(name: str, milliseconds: float, tokens: int = TOKENS) -> BenchCell:
    case = BenchCase(
        "layer", name, "prefill", False, "plain", 1, tokens, tokens, 16, 16, 128, 128, "bfloat16", mask="causal"
    )
    median = milliseconds / 1e3
    return BenchCell(case, Outcome.READ, median, 0.99 * median, 1.01 * median, 50)


def bench(*calls: CallSpeed, cells: Sequence[BenchCell] = (), **changes: Any) -> HeldBench:
    return HeldBench("old.json", "NVIDIA H100", "layer", "bfloat16", calls, Bench(tuple(cells)), **changes)


def conclude(held: HeldBench | None, *made: ScenarioRun, **fields: Any) -> Conclusion:
    def settings(name: str) -> Recommendation:
        return Recommendation(f"use {name}")

    made = made or (run("eager"), run("sdpa"), run("flex_attention"))
    return checks.evaluate(
        runs.inputs(TINY, *made, **{"default": "sdpa", "settings": settings, "bench": held, **fields})
    )


def best(found: Conclusion) -> tuple[str, str]:
    assert found.recommended is not None
    return found.recommended.implementation, found.recommended.why


def slow(found: Conclusion) -> list[Finding]:
    return [finding for finding in found.findings if finding.slug == "slow-path"]


def test_the_fastest_right_one_is_recommended_with_its_ratio_and_its_label() -> None:
    held = bench(call("eager", 39.0), call("sdpa", 12.0), call("flex_attention", 10.0))
    name, why = best(conclude(held))
    assert name == "flex_attention"
    assert "1.2 times as fast as sdpa and 3.9 times as fast as eager at 16384 tokens, forward" in why
    assert "measured by bench on NVIDIA H100" in why
    assert "measured right" in why


def test_without_a_bench_nothing_changes() -> None:
    found = conclude(None)
    assert best(found) == ("sdpa", "measured right in all scenarios of generation; what the framework picks by itself")
    assert found.speeds is None


def test_a_fast_wrong_one_is_no_winner_but_is_told() -> None:
    held = bench(call("eager", 39.0), call("sdpa", 12.0), call("flex_attention", 1.0))
    found = conclude(held, run("eager"), run("sdpa"), run("flex_attention", WRONG))
    name, why = best(found)
    assert name == "sdpa"
    assert "flex_attention is 12.0 times as fast, but wrong in plain" in why
    assert found.speeds is not None
    assert [(row.implementation, row.ordered) for row in found.speeds.rows] == [
        ("flex_attention", False),
        ("sdpa", True),
        ("eager", True),
    ]


def test_what_is_only_predicted_right_or_broke_does_not_win_by_speed() -> None:
    held = bench(call("eager", 39.0), call("sdpa", 12.0), call("flash_attention_2", 1.0), call("flex_attention", 2.0))
    flash = run("flash_attention_2", basis=Basis.PREDICTED)
    name, why = best(
        conclude(held, run("eager"), run("sdpa"), flash, run("flex_attention", Crashed("signal", "SIGSEGV")))
    )
    assert name == "sdpa"
    assert "flash_attention_2 is 12.0 times as fast, but predicted right only" in why


def test_what_is_faster_and_not_recommended_is_not_called_as_fast() -> None:
    held = bench(call("sdpa", 12.0), call("flash_attention_2", 1.0))
    name, why = best(conclude(held, run("sdpa"), run("flash_attention_2", basis=Basis.PREDICTED)))
    assert name == "sdpa"
    where = "at 16384 tokens, forward, measured by bench on NVIDIA H100"
    assert f"{where}, flash_attention_2 is 12.0 times as fast, but predicted right only" in why
    assert "within noise" not in why


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "eager"),
        ({"median": 0.0119, "p20": 0.0118, "p80": 0.0120}, "sdpa"),  # within what two runs differ by
        ({"p80": 0.013}, "sdpa"),  # within the spread
        ({"n": 2}, "sdpa"),  # nobody knows the spread of two
        ({"n": 2, "median": 0.005, "p20": 0.005, "p80": 0.005}, "eager"),
    ],
)
def test_the_default_stays_where_noise_explains_the_difference(changes: dict[str, Any], expected: str) -> None:
    name, why = best(conclude(bench(call("sdpa", 12.0), call("eager", 10.0, **changes))))
    assert name == expected
    assert ("within noise" in why) == (expected == "sdpa")


def test_the_longest_length_that_will_be_run_decides() -> None:
    held = bench(
        call("eager", 1.0, 1024),
        call("sdpa", 2.0, 1024),
        call("eager", 39.0),
        call("sdpa", 12.0),
        call("sdpa", 48.0, 32768),
    )
    assert best(conclude(held))[0] == "sdpa"
    assert "at 16384 tokens" in best(conclude(held))[1]
    name, why = best(conclude(held, options=Options(seq_len=2048)))
    assert name == "eager"
    assert "at 1024 tokens" in why


def test_what_has_no_time_there_comes_after_what_has_one() -> None:
    held = bench(call("eager", 39.0), call("flex_attention", 30.0))
    assert best(conclude(held))[0] == "flex_attention"


def test_training_goes_by_the_backward_and_says_where_there_is_none() -> None:
    backward = {"backward": True}
    held = bench(call("eager", 9.0), call("sdpa", 1.0), call("eager", 3.0, **backward), call("sdpa", 30.0, **backward))
    name, why = best(conclude(held, options=Options(use="train")))
    assert name == "eager"
    assert "forward and backward, measured by bench" in why
    assert best(conclude(held))[0] == "sdpa"
    found = conclude(bench(call("eager", 9.0), call("sdpa", 1.0)), options=Options(use="train"))
    assert found.speeds is not None
    assert "it has no backward of these sizes" in found.speeds.remarks


def test_a_faster_decode_of_another_is_told() -> None:
    decode = {"phase": "decode"}
    held = bench(call("eager", 39.0), call("sdpa", 12.0), call("eager", 1.0, **decode), call("sdpa", 3.0, **decode))
    assert "eager is 3.0 times as fast in decode, at 16384 keys" in best(conclude(held))[1]


def test_a_bench_that_is_not_used_orders_nothing_and_says_why() -> None:
    held = HeldBench("old.json", "NVIDIA H100", remarks=("it is a bench of llama",), unused="other sizes")
    found = conclude(held)
    assert best(found) == best(conclude(None))
    assert found.speeds is not None
    assert (found.speeds.unused, found.speeds.rows, found.speeds.remarks) == ("other sizes", (), held.remarks)


def test_nothing_right_was_timed() -> None:
    found = conclude(bench(call("flex_attention", 1.0)), run("eager"), run("flex_attention", WRONG))
    assert found.speeds is not None
    assert "no implementation without an error" in found.speeds.unused
    assert best(found)[0] == "eager"


def test_the_slow_path_of_what_is_used_is_told_and_names_its_bench() -> None:
    times = {"eager": 39.0, "sdpa": 12.0}
    held = bench(*(call(*pair) for pair in times.items()), cells=[cell(*pair) for pair in times.items()])
    (found,) = slow(conclude(held, default="eager"))
    assert (found.severity, found.implementation) == (Severity.WARNING, "eager")
    assert "measured by bench on NVIDIA H100" in found.message
    assert found.evidence.figures["bench"] == "old.json"
    assert found.recommendations[0].text.startswith("use sdpa: 3.2 times faster")
    assert found.reproduction.startswith("attncheck bench made/model --level layer")
    assert slow(conclude(held)) == []  # nobody uses eager


def test_the_advice_of_a_slow_path_says_what_was_only_predicted_and_leaves_out_what_was_not_compared() -> None:
    times = {"eager": 39.0, "sdpa": 12.0, "flash_attention_2": 2.0}
    held = bench(*(call(*pair) for pair in times.items()), cells=[cell(*pair) for pair in times.items()])
    flash = run("flash_attention_2", basis=Basis.PREDICTED)
    (found,) = slow(conclude(held, run("eager"), run("sdpa"), flash, default="eager"))
    (advice,) = found.recommendations
    assert advice.text.startswith("use flash_attention_2 (predicted right only): 19.5 times faster here")
    (found,) = slow(conclude(held, run("eager"), run("sdpa"), default="eager"))
    assert found.recommendations[0].text.startswith("use sdpa: 3.2 times faster here")


def test_a_faster_decode_that_is_only_predicted_says_so() -> None:
    decode = {"phase": "decode"}
    times = {"sdpa": 12.0, "flash_attention_2": 3.0}
    held = bench(*(call(*pair) for pair in times.items()), *(call(*pair, **decode) for pair in times.items()))
    name, why = best(conclude(held, run("sdpa"), run("flash_attention_2", basis=Basis.PREDICTED)))
    assert name == "sdpa"
    assert "flash_attention_2 is 4.0 times as fast in decode, at 16384 keys, but predicted right only" in why


def test_no_slow_path_beside_something_wrong_or_beyond_what_will_be_run() -> None:
    times = {"eager": 39.0, "sdpa": 12.0}
    held = bench(
        *(call(*pair) for pair in times.items()),
        *(call(name, time / 16, 1024) for name, time in times.items()),
        cells=[
            *(cell(*pair) for pair in times.items()),
            *(cell(name, time / 16, 1024) for name, time in times.items()),
        ],
    )
    assert slow(conclude(held, run("eager"), run("sdpa", WRONG), default="eager")) == []
    assert slow(conclude(held, default="eager", options=Options(seq_len=2048))) == []
