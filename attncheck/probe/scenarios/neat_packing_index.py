"""neat-packing-index: `neat_packing: true` of LLaMA-Factory 0.9.2 to 0.9.4, where flash attention gets index masks."""

from __future__ import annotations

from attncheck.probe.scenario import DOCUMENTS, MaskInput, Plan, Scenario, Subject, Variant, refuses_packing
from attncheck.probe.scenarios.neat_packing import BY_POSITION, four_dimensional, padded
from attncheck.semantics.layout import documents


def plan(subject: Subject) -> Plan:
    """flash_attention_2: the numbers of the documents as a 2D mask, in a full row, a padded one and a batch of two."""
    if reason := refuses_packing(subject):
        return reason
    if subject.implementation != BY_POSITION:
        return (four_dimensional(subject),)
    fed = {
        "full-row": (documents(*DOCUMENTS),),
        "padded-row": (padded(*DOCUMENTS),),
        "two-rows": (padded(*DOCUMENTS), padded(*reversed(DOCUMENTS))),
    }
    return tuple(
        Variant(name, **subject.lay(*rows), positions=tuple(row.position for row in rows), mask=MaskInput.INDEX)
        for name, rows in fed.items()
    )


SCENARIO = Scenario(
    "neat-packing-index",
    "packed rows as LLaMA-Factory's `neat_packing` feeds them (0.9.2 to 0.9.4)",
    core=False,
    order=22,
    plan=plan,
    on_request=True,
)
