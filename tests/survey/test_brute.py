"""Brute force sees what it is meant to see, and the known-good list is as large as it must be."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.survey import brute, confirm


def counts(
    model_type: str, scenario: str, variant: str = "no-mask", expect: str = "causal", **changes: object
) -> dict[str, int]:
    model = brute.model_of(model_type, changes, "eager")
    return brute.examine(model, scenario, variant, expect)[0]


def test_a_right_mask_has_no_wrong_pair() -> None:
    assert counts("llama", "plain") == {}
    assert counts("llama", "left-pad", "mask") == {}
    assert counts("llama", "decode") == {}
    assert counts("mistral", "plain", expect="window:6", sliding_window=6) == {}


def test_each_kind_of_wrong_pair_is_named() -> None:
    assert set(counts("llama", "plain", expect="full")) == {"missing"}
    assert set(counts("llama", "plain", expect="window:6")) == {"past"}
    assert set(counts("bert", "plain")) == {"future"}
    assert set(counts("llama", "packed", "ones-mask")) == {"document"}


def test_it_imports_nothing_of_attncheck() -> None:
    code = "import sys, tests.survey.brute, tests.survey.confirm; sys.exit('attncheck' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_known_good_list_holds_forty_types_under_eager_and_sdpa() -> None:
    pairs = confirm.pairs()
    both = {name for name, _, impl, _ in pairs if impl == "eager"} & {
        name for name, _, impl, _ in pairs if impl == "sdpa"
    }
    assert len(both) >= 40


@pytest.mark.parametrize("model_type", ["llama", "gemma2"])
def test_a_known_good_pair_is_confirmed(model_type: str) -> None:
    probes = [probe for probe in confirm.known_good() if probe.arguments[0] == model_type]
    assert probes
    assert all(confirm.run_here(probe).right for probe in probes)


@pytest.mark.slow
def test_every_known_good_pair_is_confirmed() -> None:
    wrong = [said for said in map(confirm.run_here, confirm.known_good()) if not said.right]
    assert not wrong, "\n".join(f"{said.probe.name}: {said.text}" for said in wrong)


@pytest.mark.slow
def test_every_genuine_entry_of_the_ledger_is_confirmed_in_a_fresh_process() -> None:
    probes = list(confirm.ledger(every=False))
    found = list(confirm.apart(probes, 1))
    assert len(found) == len(probes)
    wrong = [said for said in found if not said.right]
    assert not wrong, "\n".join(f"{said.probe.name}: {said.text}" for said in wrong)
