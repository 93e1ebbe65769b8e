"""What is said of a framework's own calls: kernels that do not run, counts of a probe, the command, what to write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attncheck import checks
from attncheck.environment import Environment
from attncheck.findings import Finding, Severity
from attncheck.render.sides import first_difference
from attncheck.semantics.shape import WrongCells
from attncheck.semantics.spec import MaskSpec, Window
from attncheck.semantics.written import SHORT_QUERIES
from attncheck.verdicts import Verdict
from tests.backends.environments import H100
from tests.checks.test_own_calls import SPEC, found, inputs, with_reading

FULL = replace(SPEC, mask=MaskSpec(Window(None, 0)))


def zeros(environment: Environment = H100, **variables: str) -> Finding:
    (finding,) = found(inputs(FULL, environment=environment, **variables), "kernel-output-wrong")
    return finding


def diagonal(**written: Any) -> Finding:
    (finding,) = (f for f in checks.evaluate(inputs(**written)).findings if f.scenario == SHORT_QUERIES)
    assert finding.slug == "causal-misaligned"
    return finding


# Kernels that do not run ----------------------------------------------------------------------------


def test_a_kernel_that_a_variable_switched_off_is_a_note_that_says_to_leave_it_so() -> None:
    finding = zeros(NVTE_FUSED_ATTN="0", NVTE_FLASH_ATTN_V4="0")
    assert (finding.severity, finding.kernel) == (Severity.NOTE, "flash-4")
    assert "flash-4: switched off here" in finding.headline
    assert finding.evidence.figures["switched_off"] == "flash-4"
    (advice,) = finding.recommendations
    assert advice.text == "flash-4 does not run here: keep NVTE_FLASH_ATTN_V4=0."
    assert advice.paste == "export NVTE_FLASH_ATTN_V4=0"


def test_all_flash_attention_switched_off_names_that_variable() -> None:
    finding = zeros(NVTE_FLASH_ATTN="0")
    assert finding.severity is Severity.NOTE
    assert finding.recommendations[0].paste == "export NVTE_FLASH_ATTN=0"


def test_a_kernel_that_is_not_selected_needs_nothing_changed() -> None:
    finding = zeros()
    assert finding.severity is Severity.WARNING
    (advice,) = finding.recommendations
    assert advice.text.startswith("flash-4 is not selected here, so nothing has to change")
    assert advice.paste == "export NVTE_FLASH_ATTN_V4=0"
    assert "report it" not in advice.text


def test_what_crashes_while_switched_off_is_a_note() -> None:
    from attncheck.semantics.convention import Outcome

    given = inputs(window_size="4095,0", NVTE_FUSED_ATTN="0")
    broken = with_reading(given, "fused", outcome=Outcome.CRASHED, detail="signal: SIGSEGV")
    (finding,) = found(broken, "backend-unusable")
    assert finding.severity is Severity.NOTE
    (cell,) = [cell for cell in checks.evaluate(broken).cells if (cell.kernel, cell.scenario) == ("", "plain")]
    assert cell.verdict is Verdict.OK


def test_switched_off_and_yet_selected_is_an_error() -> None:
    """What the real one says wins over what was read of it."""
    given = inputs(FULL, environment=H100, NVTE_FUSED_ATTN="0", NVTE_FLASH_ATTN_V4="0")
    assert given.own is not None
    readings = tuple(
        replace(one, call=replace(one.call, selected=one.call.kernel == "flash-4")) for one in given.own.readings
    )
    (finding,) = found(replace(given, own=replace(given.own, readings=readings)), "kernel-output-wrong")
    assert finding.severity is Severity.ERROR


# Counts ---------------------------------------------------------------------------------------------


def test_counts_of_a_probe_say_what_was_looked_at() -> None:
    cells = WrongCells((4096, 0), behind=320, behind_distances=(4096, 4096), keys=39, over=32)
    (finding,) = found(with_reading(inputs(window_size="4095,0"), "fused", wrong=cells), "window-off-by-one")
    assert finding.evidence.figures["keys_probed"] == 39
    assert finding.evidence.figures["heads_probed"] == 32
    said = first_difference(finding)
    assert said == "query 4096 sees key 0; of the 39 keys probed, over 32 heads: 320 cells leaked"
    assert "320" not in finding.message


def test_counts_in_no_headline() -> None:
    cells = WrongCells((9, 1), ahead=7, ahead_distances=(1, 3), missed=320, missed_distances=(5, 5), keys=39, over=32)
    given = with_reading(inputs(replace(SPEC, mask=MaskSpec(Window(None, None)))), "fused", wrong=cells)
    finding = next(f for f in checks.evaluate(given).findings if f.slug == "keys-missing")
    assert finding.evidence.effective == "later keys too, 1 to 3 away; no keys 5 away"


def test_counts_over_the_whole_mask_stand_alone() -> None:
    """Nothing ran: the documented window beside the declared one, every key of one head's mask."""
    (finding,) = found(inputs(window_size="4096,0"), "window-off-by-one")
    tokens = int(finding.evidence.figures["tokens"])
    assert "keys_probed" not in finding.evidence.figures
    assert first_difference(finding) == f"query 4096 sees key 0; {tokens - 4096} cells leaked"


# The command ----------------------------------------------------------------------------------------


def test_the_command_starts_with_the_variables_that_decide() -> None:
    given = inputs(window_size="4096,0")
    assert given.own is not None
    told = replace(given, own=replace(given.own, before="NVTE_FLASH_ATTN_V4=0 NVTE_FUSED_ATTN=0"))
    (finding,) = found(told, "window-off-by-one")
    assert finding.reproduction == "NVTE_FLASH_ATTN_V4=0 NVTE_FUSED_ATTN=0 attncheck compare fake --framework x"


# What to write --------------------------------------------------------------------------------------


def test_a_window_in_place_of_none_names_the_length_that_it_holds_for() -> None:
    finding = zeros(NVTE_FUSED_ATTN="0")
    switch, window = finding.recommendations
    assert window.paste == 'window_size=(32768, 0), attn_mask_type="causal"'
    assert "for sequences of at most 32768 tokens, and of no longer ones" in window.text
    assert "at most" not in switch.text
    (usual,) = found(inputs(window_size="4096,0"), "window-off-by-one")
    assert "at most" not in usual.recommendations[0].text


def test_layers_of_two_kinds_are_told_the_length_as_well() -> None:
    conclusion = checks.evaluate(inputs(SPEC, replace(FULL, layer=1), environment=H100, NVTE_FUSED_ATTN="0"))
    assert conclusion.recommended is not None
    pastes = [setting.paste for setting in conclusion.recommended.recommendation.settings]
    assert pastes == [
        'DotProductAttention(..., window_size=(4095, 0), attn_mask_type="causal")  # layers 0',
        'DotProductAttention(..., window_size=(32768, 0), attn_mask_type="causal")  # layers 1; at most 32768 tokens',
    ]


# The diagonal ---------------------------------------------------------------------------------------


def test_a_diagonal_is_compared_with_a_diagonal() -> None:
    finding = diagonal(window_size="4095,0")
    assert finding.evidence.effective == "a diagonal that starts at the first key (top-left)"
    assert finding.evidence.declared == "one that ends at the last key (bottom-right)"
    assert "(top-left), not one that ends at the last key (bottom-right) (fused, which is selected" in finding.headline
    assert "4095 back" not in finding.headline


@pytest.mark.parametrize(("variables", "likewise"), [({}, True), ({"NVTE_UNFUSED_ATTN": "0"}, False)])
def test_a_kernel_that_is_switched_off_is_not_named_beside_the_one_that_runs(
    variables: dict[str, str], likewise: bool
) -> None:
    finding = diagonal(window_size="4095,0", **variables)
    assert ("likewise unfused" in finding.headline) is likewise
    assert ("unfused" in str(finding.evidence.figures["kernels"])) is likewise
    assert finding.evidence.figures.get("switched_off") == (None if likewise else "unfused")
