"""packed: several documents in one row, told apart by position_ids, without a cache."""

from __future__ import annotations

from attncheck.probe.scenario import DOCUMENTS, Plan, Scenario, Subject, refuses_packing, with_and_without_mask
from attncheck.semantics.layout import documents


def plan(subject: Subject) -> Plan:
    """Batch of one, `use_cache=False`: the form that every packing trainer feeds; some add an all-ones mask to it."""
    if reason := refuses_packing(subject):
        return reason
    row = documents(*DOCUMENTS)
    return with_and_without_mask(**subject.lay(row), positions=(row.position,))


SCENARIO = Scenario("packed", "several documents in one row, by position_ids, no cache", core=False, order=5, plan=plan)
