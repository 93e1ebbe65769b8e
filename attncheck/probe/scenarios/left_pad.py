"""left-pad: a batch of two prompts of different length, padded on the left as for generation."""

from __future__ import annotations

from attncheck.probe.scenario import MaskInput, Plan, Scenario, Subject, Variant, padded_rows


def plan(subject: Subject) -> Plan:
    """The padding mask alone, as plain calls pass it; `decode` has the prompt with the position_ids of `generate()`."""
    return (Variant("mask", **padded_rows(subject, "left"), mask=MaskInput.PADDING, spill=True, kernels=True),)


SCENARIO = Scenario("left-pad", "a batch padded on the left, as for generation", core=True, order=1, plan=plan)
