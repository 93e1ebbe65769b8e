"""right-pad: a batch of two sequences of different length, padded on the right as for training."""

from __future__ import annotations

from attncheck.probe.scenario import MaskInput, Plan, Scenario, Subject, Variant, padded_rows


def plan(subject: Subject) -> Plan:
    """The padding mask alone, as a data collator makes it."""
    return (Variant("mask", **padded_rows(subject, "right"), mask=MaskInput.PADDING, kernels=True),)


SCENARIO = Scenario("right-pad", "a batch padded on the right, as for training", core=True, order=2, plan=plan)
