"""output-attentions: asking for the weights must not change the mask (some versions switch implementation)."""

from __future__ import annotations

from attncheck.probe.scenario import SEQUENCE, Plan, Scenario, Subject, with_and_without_mask
from attncheck.semantics.layout import sequence


def plan(subject: Subject) -> Plan:
    """The plain inputs with `output_attentions=True`."""
    return with_and_without_mask(**subject.lay(sequence(SEQUENCE)), forward=(("output_attentions", True),))


SCENARIO = Scenario("output-attentions", "a forward call that also returns weights", core=False, order=12, plan=plan)
