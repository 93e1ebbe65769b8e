"""position-jump: position_ids that leap forward inside one row. Nothing declares what that means."""

from __future__ import annotations

from attncheck.probe.scenario import DOCUMENTS, SEQUENCE, Plan, Scenario, Subject, Variant, refuses_packing
from attncheck.semantics.layout import Row

#: Positions 0..10, then 20..32: neither a restart nor a plain continuation.
LEAP = 9


def plan(subject: Subject) -> Plan:
    """No truth: implementations are only compared with each other. The row keeps the positions, to name a split."""
    if reason := refuses_packing(subject):
        return reason
    first = DOCUMENTS[0]
    positions = (*range(first), *range(first + LEAP, SEQUENCE + LEAP))
    row = Row((0,) * SEQUENCE, positions)
    return (Variant("no-mask", **subject.lay(row), positions=(positions,), truth=False),)


SCENARIO = Scenario("position-jump", "position_ids that leap forward inside a row", core=False, order=8, plan=plan)
