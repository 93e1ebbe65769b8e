"""custom-mask: the caller's own 4D mask, additive and boolean: documents as blocks, and a prefix that all may see."""

from __future__ import annotations

from dataclasses import replace

from attncheck.probe.scenario import DOCUMENTS, SEQUENCE, MaskInput, Plan, Scenario, Subject, Variant
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import Row, documents, sequence

#: Tokens of the prefix: more than a window, so that a windowed layer must still cut the past.
PREFIX = 10


def plan(subject: Subject) -> Plan:
    """Expected is the caller's mask and the layer's own window to the left; the caller decides about the future.

    One mask a row, so that a mask read from the first row alone shows too.
    """
    layouts = subject.lay(block_diagonal(), prefix())
    return tuple(Variant(form.value, **layouts, mask=form) for form in (MaskInput.ADDITIVE, MaskInput.BOOLEAN))


def block_diagonal() -> Row:
    """Causal inside each of two documents; the positions run on, as no position_ids are passed."""
    row = documents(*DOCUMENTS)
    keep = KeepMask.from_rule(
        SEQUENCE, SEQUENCE, lambda query, key: key <= query and row.document[query] == row.document[key]
    )
    return replace(sequence(SEQUENCE), custom=keep)


def prefix() -> Row:
    """Causal, and the first `PREFIX` tokens visible to all."""
    keep = KeepMask.from_rule(SEQUENCE, SEQUENCE, lambda query, key: key <= query or key < PREFIX)
    return replace(sequence(SEQUENCE), custom=keep)


SCENARIO = Scenario("custom-mask", "the caller's own 4D mask", core=False, order=10, plan=plan)
