"""Severity by what the user will run, notes about windows, and what nobody honours."""

from __future__ import annotations

import pytest

from attncheck import checks
from attncheck.checks import Options
from attncheck.checks.severity import binds
from attncheck.findings import Severity
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import AttentionSpec, Note
from attncheck.verdicts import Status
from tests import runs
from tests.runs import PLAIN, layer, model

WINDOWED, CAUSAL = layer(7), layer()
TINY = model(WINDOWED)


@pytest.mark.parametrize(
    ("left", "right", "chunk", "length", "expected"),
    [
        (7, 0, None, 8, False),
        (7, 0, None, 9, True),
        (8, 8, None, 9, False),
        (8, 8, None, 10, True),
        (None, 0, 8, 8, False),
        (None, 0, 8, 9, True),
        (None, 0, None, 4, True),
    ],
)
def test_when_a_window_binds(
    left: int | None, right: int | None, chunk: int | None, length: int, expected: bool
) -> None:
    assert binds(layer(left, right, chunk), length) is expected


@pytest.mark.parametrize(
    ("window", "max_position", "seq_len", "severity"),
    [
        (1000, 3000, None, Severity.ERROR),
        (3000, 3000, None, Severity.NOTE),
        (4096, 32768, 2048, Severity.NOTE),
        (4096, 32768, 4097, Severity.ERROR),
        (4096, None, None, Severity.ERROR),
    ],
)
def test_a_lost_window_matters_only_to_sequences_that_meet_it(
    window: int, max_position: int | None, seq_len: int | None, severity: Severity
) -> None:
    real = model(layer(window - 1), max_position=max_position, window_keys=("sliding_window",))
    made = [runs.run(runs.calls(CAUSAL, PLAIN), implementation=name) for name in ("eager", "sdpa")]
    conclusion = checks.evaluate(runs.inputs(TINY, *made, real=real, options=Options(seq_len=seq_len)))
    lost = [f for f in conclusion.findings if f.slug == "window-ignored"]
    assert {f.severity for f in lost} == {severity}
    inert = [f for f in conclusion.findings if f.slug == "window-inert"]
    assert len(inert) == (severity is Severity.NOTE)
    status = Status.OK if severity is Severity.NOTE else Status.MISMATCH
    assert {entry.status for entry in conclusion.implementations} == {status}
    (unheard,) = [f for f in conclusion.findings if f.slug == "config-not-honoured"]
    assert (unheard.severity, unheard.implementation) == (Severity.NOTE, None)
    assert "sliding_window" in unheard.message


def test_a_narrower_window_is_met_one_token_earlier() -> None:
    real = model(layer(2047), max_position=2048)
    for effective, severity in ((layer(8), Severity.NOTE), (layer(6), Severity.ERROR)):
        made = runs.run(runs.calls(effective, PLAIN))
        found = checks.evaluate(runs.inputs(TINY, made, real=real)).findings
        assert next(f for f in found if f.slug == "window-off-by-one").severity is severity


def test_causality_matters_at_any_length() -> None:
    made = runs.run(runs.calls(layer(None, None), PLAIN))
    found = checks.evaluate(runs.inputs(model(CAUSAL), made, options=Options(seq_len=2))).findings
    assert [f.severity for f in found] == [Severity.ERROR]


def test_it_is_no_matter_of_the_config_when_one_implementation_is_right() -> None:
    made = (runs.run(runs.calls(WINDOWED, PLAIN), implementation="eager"), runs.run(runs.calls(CAUSAL, PLAIN)))
    assert {f.slug for f in checks.evaluate(runs.inputs(TINY, *made)).findings} == {"window-ignored"}
    alone = checks.evaluate(runs.inputs(TINY, runs.run(runs.calls(CAUSAL, PLAIN))))
    assert {f.slug for f in alone.findings} == {"window-ignored"}


def test_predictions_do_not_speak_for_all_measured_implementations() -> None:
    made = (
        runs.run(runs.calls(CAUSAL, PLAIN), implementation="eager"),
        runs.run(runs.calls(WINDOWED, PLAIN), implementation="flash_attention_2", basis=Basis.PREDICTED),
    )
    findings = {f.slug: f for f in checks.evaluate(runs.inputs(TINY, *made)).findings}
    assert set(findings) == {"window-ignored", "config-not-honoured"}
    lost, note = findings["window-ignored"], findings["config-not-honoured"]
    assert lost.recommendations[0].text == "use flash_attention_2: predicted right in plain"
    assert "any measured implementation; flash_attention_2 is predicted to honour it" in note.message
    assert note.recommendations[0].text.startswith("As far as predicted, only flash_attention_2 helps")


@pytest.mark.parametrize(("effective", "nan"), [(CAUSAL, ()), (WINDOWED, ((0, 3),))], ids=["fault", "NaN"])
def test_a_prediction_with_the_same_fault_or_none_to_read_is_no_help(
    effective: AttentionSpec, nan: tuple[tuple[int, int], ...]
) -> None:
    predicted = runs.calls(effective, PLAIN, nan_rows=nan)
    made = (
        runs.run(runs.calls(CAUSAL, PLAIN), implementation="eager"),
        runs.run(predicted, implementation="flash_attention_2", basis=Basis.PREDICTED),
    )
    note = next(f for f in checks.evaluate(runs.inputs(TINY, *made)).findings if f.slug == "config-not-honoured")
    assert "predicted" not in note.message
    assert note.recommendations[0].text.startswith("Switching the implementation does not help")


def test_a_switched_off_window_and_other_remarks_become_notes() -> None:
    notes = (
        Note("window-switched-off", "131072 is declared but off: use_sliding_window is false", "sliding_window"),
        Note("remote-code", "the file names its own model code", "auto_map"),
    )
    tiny = model(CAUSAL, notes=notes)
    made = runs.run(runs.calls(CAUSAL, PLAIN))
    found = {f.slug: f for f in checks.evaluate(runs.inputs(tiny, made)).findings}
    assert set(found) == {"window-inert", "config-remark"}
    assert {f.severity for f in found.values()} == {Severity.NOTE}
    assert "use_sliding_window is false" in found["window-inert"].message


def test_the_gradients_scenario_is_asked_for_by_training() -> None:
    assert Options(use="train").asked("gradients")
    assert not Options().asked("gradients")
    assert Options(packing=True).asked("packed-batch")
    assert not Options(use="train").asked("packed")


def test_only_a_kernel_that_is_not_picked_by_default_is_wrong() -> None:
    good, bad = runs.calls(CAUSAL, PLAIN), runs.calls(layer(None, None), PLAIN, kernel="cudnn")
    (found,) = checks.evaluate(runs.inputs(model(CAUSAL), runs.run((*good, *bad)))).findings
    assert (found.slug, found.kernel, found.severity) == ("causal-ignored", "cudnn", Severity.WARNING)
