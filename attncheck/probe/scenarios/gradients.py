"""gradients: the backward of each attention call against float64 attention."""

from __future__ import annotations

from attncheck.probe.scenario import SEQUENCE, MaskInput, Plan, Scenario, Subject, Variant, padded_rows
from attncheck.semantics.layout import sequence


def plan(subject: Subject) -> Plan:
    """Without a mask, and a right-padded batch as a data collator makes it."""
    return (
        Variant("no-mask", **subject.lay(sequence(SEQUENCE)), gradients=True),
        Variant("right-pad", **padded_rows(subject, "right"), mask=MaskInput.PADDING, gradients=True),
    )


SCENARIO = Scenario("gradients", "the backward pass, as in training", core=False, order=13, plan=plan)
