"""neat-packing: what LLaMA-Factory feeds under `neat_packing: true`, from 0.9.5 on: two forms, by implementation."""

from __future__ import annotations

from attncheck.probe.scenario import DOCUMENTS, PADS, MaskInput, Plan, Scenario, Subject, Variant, refuses_packing
from attncheck.semantics.layout import PAD, Row, documents

#: The one name for which the collator drops the mask; it compares this string (SFTDataCollatorWith4DAttentionMask).
BY_POSITION = "flash_attention_2"


def plan(subject: Subject) -> Plan:
    """flash_attention_2: one unpadded row, position_ids that start again, no mask. Every other name: a 4D mask."""
    if reason := refuses_packing(subject):
        return reason
    if subject.implementation == BY_POSITION:
        row = documents(*DOCUMENTS)
        return (Variant("position-ids", **subject.lay(row), positions=(row.position,)),)
    return (four_dimensional(subject),)


def four_dimensional(subject: Subject) -> Variant:
    """Two rows whose ends are padded up to `cutoff_len`, under the additive mask of `prepare_4d_attention_mask`."""
    rows = (padded(*DOCUMENTS), padded(*reversed(DOCUMENTS)))
    positions = tuple(row.position for row in rows)
    return Variant("4d-mask", **subject.lay(*rows), positions=positions, mask=MaskInput.BLOCKS)


def padded(*lengths: int) -> Row:
    """Documents one after another, then padding whose positions are 0."""
    row = documents(*lengths)
    return Row(row.document + (PAD,) * PADS, row.position + (0,) * PADS)


SCENARIO = Scenario(
    "neat-packing",
    "packed rows as LLaMA-Factory's `neat_packing` feeds them (0.9.5)",
    core=False,
    order=21,
    plan=plan,
    on_request=True,
)
