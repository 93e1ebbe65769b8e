"""plain: one sequence in one forward call."""

from __future__ import annotations

from attncheck.probe.scenario import SEQUENCE, Plan, Scenario, Subject, with_and_without_mask
from attncheck.semantics.layout import sequence


def plan(subject: Subject) -> Plan:
    """Without a mask libraries often take another path (`is_causal`) than with an all-ones one."""
    return with_and_without_mask(**subject.lay(sequence(SEQUENCE)), fit=True, kernels=True)


SCENARIO = Scenario("plain", "one sequence, one forward call", core=True, order=0, plan=plan)
