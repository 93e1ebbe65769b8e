"""What kernels of known abilities are seen to do, be refused and get wrong."""

from __future__ import annotations

from typing import Any

import pytest

from attncheck.probe.ability_rows import ability, merged, steps
from attncheck.probe.kernels import abilities
from attncheck.semantics.convention import EMPTY_ROWS, Ability, Outcome
from attncheck.semantics.observation import Crashed, NotRun

ARGUMENTS = {"device": "cpu", "dtype": "float32", "seed": 0, "plugins": ("tests.plugins.fake_apis",)}


def tried(api: str, feature: str, **further: Any) -> Ability:
    return abilities.run(f"{api}|{feature}", {**ARGUMENTS, **further})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("feature", ["softcap", "sinks", "alibi"])
def test_terms_that_are_honoured_ignored_and_unknown(feature: str, dtype: str) -> None:
    good = tried("fake-inclusive", feature, dtype=dtype)
    assert (good.value, good.agrees, good.outcome) == ("honoured", True, Outcome.READ)
    bad = tried(f"fake-no-{feature}", feature, dtype=dtype)
    assert (bad.value, bad.agrees) == ("ignored", False)
    none = tried("fake-lacking", feature, dtype=dtype)
    assert (none.value, none.agrees, none.outcome) == ("no argument", None, Outcome.REFUSED)
    assert none.detail.startswith("no argument for")


def test_a_term_that_is_applied_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    from attncheck.probe.kernels import terms

    monkeypatch.setattr(terms, "CAP", 2.5)
    right = terms.Ask
    monkeypatch.setattr(terms, "Ask", lambda **given: right(**{**given, "softcap": 5.0}))
    wrong = tried("fake-inclusive", "softcap")
    assert (wrong.value, wrong.agrees) == ("wrong", False)


@pytest.mark.parametrize(("api", "value"), [("fake-inclusive", "interleaved"), ("fake-tiled", "tiled")])
def test_the_kv_head_of_each_query_head(api: str, value: str) -> None:
    found = tried(api, "gqa")
    assert (found.value, found.agrees) == (value, value == "interleaved")


@pytest.mark.parametrize("variant", EMPTY_ROWS)
@pytest.mark.parametrize(
    ("api", "value"),
    [("fake-inclusive", "0"), ("fake-nan", "NaN"), ("fake-uniform", "mean of V"), ("fake-first-key", "row sum 1")],
)
def test_what_rows_without_keys_hold(api: str, value: str, variant: str) -> None:
    found = tried(api, f"empty-rows|{variant}")
    assert found.value == f"{variant}: {value}"
    assert found.agrees is True, "the other rows are right"


def test_finfo_min_gives_the_mean_of_v_on_a_cpu() -> None:
    assert tried("sdpa-math", "empty-rows|finfo.min").value == "finfo.min: mean of V"
    assert tried("sdpa-math", "empty-rows|bool").value == "bool: 0"


def test_one_width_is_wrong() -> None:
    assert tried("fake-width-80", "head_dim|64").agrees is True
    wrong = tried("fake-width-80", "head_dim|80")
    assert wrong.agrees is False
    assert "off by 0.25" in wrong.detail


def test_dtypes_run_in_themselves() -> None:
    for dtype in ("float32", "bfloat16"):
        found = tried("sdpa-math", f"dtype|{dtype}")
        assert (found.value, found.agrees) == (dtype, True)
    assert found.figures["relative error"] > 1e-4, "bfloat16 was not computed in float32"


def test_backward() -> None:
    assert tried("fake-inclusive", "backward").agrees is True
    wrong = tried("fake-gradient", "backward")
    assert wrong.agrees is False
    assert wrong.value == "causal: dk off by 1; window 8 back: dk off by 1"
    none = tried("fake-forward-only", "backward")
    assert (none.value, none.outcome) == ("no backward", Outcome.REFUSED)


def test_a_backward_that_refuses_the_window_only() -> None:
    found = tried("fake-no-window-backward", "backward")
    assert (found.value, found.agrees, found.outcome) == ("right (causal); window: refused", True, Outcome.READ)
    assert found.detail == "window: refused: FakeAttention has no backward with a window"
    assert "causal dq" in found.figures
    assert not [name for name in found.figures if name.startswith("window")]


def test_grouped_heads_are_tried_although_they_are_said_to_be_refused() -> None:
    refused = tried("fake-ungrouped", "gqa", grouped=False)
    assert (refused.value, refused.outcome, refused.agrees) == ("no grouped heads: refused", Outcome.REFUSED, None)
    assert refused.detail.endswith("No available kernel: FakeAttention requires num_heads to be equal")
    assert tried("fake-inclusive", "gqa", grouped=False).value == "interleaved"
    for feature in ("dtype|float32", "softcap", "backward", "empty-rows|bool", "determinism", "head_dim|64"):
        found = tried("fake-ungrouped", feature, grouped=False)
        assert (found.outcome, found.agrees) in [(Outcome.READ, True), (Outcome.READ, None)]


def test_determinism() -> None:
    same = tried("fake-lacking", "determinism")
    assert same.value == "forward: the same every time; backward: the same every time"
    noisy = tried("fake-noisy", "determinism")
    assert noisy.value == (
        "forward: the same every time; backward: differs; backward with deterministic=True: the same every time"
    )
    assert noisy.figures["backward difference"] > 0
    assert noisy.figures["switch"] == "deterministic=True"
    assert tried("fake-forward-only", "determinism").value.startswith("forward: the same every time; no backward")


def test_a_refusal_is_the_answer() -> None:
    found = tried("fake-refusing", "gqa")
    assert (found.value, found.detail) == ("refused", "FakeAttention only supports fp8")


def rows_of(outcomes: dict[str, object]) -> dict[str, Ability]:
    found = [(step, ability(step, outcome)) for step, outcome in outcomes.items()]
    return {row.feature: row for row in merged(found)}


def width(size: str, agrees: bool = True) -> Ability:
    figures: dict[str, float | int | str] = {"relative error": 0.001 if agrees else 0.3, "kernel": "void flash<64>()"}
    detail = "" if agrees else "off by 0.3"
    return Ability("a", "head_dim", size, Outcome.READ, None, agrees, "flash", detail, figures)


def test_widths_are_one_row() -> None:
    outcomes: dict[str, object] = {step: width(step.split("|")[2]) for step in steps("a") if "head_dim" in step}
    assert rows_of(outcomes)["head_dim"].value == "8 .. 512, (192, 128), (576, 512)"
    outcomes["a|head_dim|80"] = width("80", agrees=False)
    outcomes["a|head_dim|512"] = Crashed("signal", "the process died of SIGSEGV")
    outcomes["a|head_dim|576x512"] = Ability("a", "head_dim", "refused", Outcome.REFUSED, None, detail="too wide")
    row = rows_of(outcomes)["head_dim"]
    assert row.value == "8 .. 64, 96 .. 288, (192, 128); wrong: 80"
    assert (row.agrees, row.outcome, row.kernel) == (False, Outcome.READ, "flash")
    assert row.detail == "80: off by 0.3; 512 crashed: the process died of SIGSEGV; (576, 512) refused: too wide"
    assert row.figures["wrong"] == "80"


def test_nothing_read_is_not_ok() -> None:
    rows = rows_of({step: NotRun("it crashed 3 times before") for step in steps("a")})
    for row in rows.values():
        assert (row.value, row.outcome, row.agrees, row.basis) == ("not run", Outcome.NOT_RUN, None, None)
    crashed = rows_of({"a|dtype|float32": Crashed("signal", "SIGSEGV"), "a|gqa": Crashed("timeout", "no answer")})
    assert [row.outcome for row in crashed.values()] == [Outcome.CRASHED, Outcome.CRASHED]
