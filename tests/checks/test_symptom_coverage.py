"""Which rule finds which row of the catalogue of symptoms that users report; rows without one say why."""

from __future__ import annotations

import pytest

from attncheck.checks import registry

#: Row -> slugs of the rules that find it. The rows are the 42 symptoms that users were seen to report, in groups.
COVERED: dict[int, tuple[str, ...]] = {
    # Sliding window
    1: ("window-inert", "window-ignored", "known-bad-version"),
    2: ("window-ignored", "known-bad-version"),
    3: ("window-ignored", "known-bad-version"),
    4: ("window-off-by-one", "known-bad-version"),
    5: ("window-off-by-one", "known-bad-version"),
    # Masks lost or rewritten
    7: ("mask-dropped",),
    8: ("prefix-dropped", "mask-dropped"),
    9: ("mask-dropped", "padding-ignored"),
    11: ("padding-ignored",),
    12: ("cache-mismatch", "backend-unusable"),
    33: ("packing-leak", "packing-split", "known-bad-version"),
    35: ("numeric-drift",),
    # Causality and alignment
    13: ("causal-misaligned", "window-conventions-differ"),
    14: ("causal-ignored", "causal-unexpected", "known-bad-version"),
    # Padding and fully masked rows
    10: ("padding-ignored",),
    15: ("backend-unusable",),
    16: ("nan-rows", "empty-rows-differ", "known-bad-version"),
    # Wrong numbers on known machines
    17: ("known-bad-version", "kernel-output-wrong"),
    18: ("known-bad-version", "gradient-mismatch"),
    19: ("known-bad-version",),
    # Installation and hardware
    20: ("install-broken", "gpu-not-used"),
    21: ("install-broken",),
    22: ("gpu-not-used",),
    23: ("no-kernel-image",),
    36: ("files-clobbered", "foreign-module"),
    39: ("operators-missing", "built-for-another-torch"),
    # Limits of kernels
    24: ("shape-unsupported",),
    26: ("torch-without-flash",),
    27: ("setting-disables-kernels",),
    # Features that a backend lacks
    29: ("softcap-dropped", "known-bad-version"),
    30: ("sinks-dropped",),
    # Requested against effective
    34: ("silent-fallback", "flash-not-off"),
    37: ("silent-fallback", "flash-not-off"),
    38: ("silent-fallback",),
    # Speed
    6: ("slow-path",),
    31: ("flex-uncompiled",),
    # The tool itself: a crash is a finding of this rule, and what did not run is NOT RUN
    42: ("backend-unusable",),
}
#: Rows that no rule finds by itself yet -> why, or what shows them without one.
UNCOVERED: dict[int, str] = {
    25: "the dtype of each call is the user's program's, not the config's",
    28: "the scenario output-attentions shows which implementation answers; asking for weights is no fault",
    32: "servers are not probed",
    40: "TransformerEngine's own reasons are in the convention table as refusals",
    41: "that the device slowed down is a remark beside the times of a bench, no fault of an implementation",
}


def test_every_row_is_accounted_for_once() -> None:
    assert sorted([*COVERED, *UNCOVERED]) == list(range(1, 43))


@pytest.mark.parametrize(("row", "slugs"), COVERED.items())
def test_the_rules_of_a_row_exist(row: int, slugs: tuple[str, ...]) -> None:
    assert slugs
    for slug in slugs:
        found = registry.rule(slug)
        assert found is not None, f"row {row}: there is no rule {slug}"
        assert found.finds
        assert found.fix


@pytest.mark.parametrize("row", UNCOVERED)
def test_rows_without_a_rule_say_why(row: int) -> None:
    assert UNCOVERED[row]
