"""packed-batch: two packed rows in one batch, without a cache."""

from __future__ import annotations

from attncheck.probe.scenario import DOCUMENTS, Plan, Scenario, Subject, refuses_packing, with_and_without_mask
from attncheck.semantics.layout import documents


def plan(subject: Subject) -> Plan:
    """The rows break at different places, so that a rule read from the first row alone shows too."""
    if reason := refuses_packing(subject):
        return reason
    rows = (documents(*DOCUMENTS), documents(*reversed(DOCUMENTS)))
    return with_and_without_mask(**subject.lay(*rows), positions=tuple(row.position for row in rows))


SCENARIO = Scenario("packed-batch", "two packed rows in one batch, no cache", core=False, order=6, plan=plan)
