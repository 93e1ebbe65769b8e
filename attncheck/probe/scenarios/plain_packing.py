"""plain-packing: packed rows, position_ids that start again and a mask of ones: LLaMA-Factory's `packing: true`."""

from __future__ import annotations

from attncheck.probe.scenario import DOCUMENTS, MaskInput, Plan, Scenario, Subject, Variant, refuses_packing
from attncheck.semantics.layout import documents


def plan(subject: Subject) -> Plan:
    """One row and a batch of two, without a cache. Read in `PackedSupervisedDatasetProcessor`, LLaMA-Factory 0.9.5."""
    if reason := refuses_packing(subject):
        return reason
    rows = (documents(*DOCUMENTS), documents(*reversed(DOCUMENTS)))
    return tuple(
        Variant(name, **subject.lay(*fed), positions=tuple(row.position for row in fed), mask=MaskInput.ONES)
        for name, fed in (("one-row", rows[:1]), ("two-rows", rows))
    )


SCENARIO = Scenario(
    "plain-packing",
    "packed rows with an all-ones mask, as LLaMA-Factory's `packing` feeds them",
    core=False,
    order=20,
    plan=plan,
    on_request=True,
)
