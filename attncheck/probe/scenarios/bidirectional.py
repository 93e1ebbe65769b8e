"""bidirectional: a decoder whose config switches causality off."""

from __future__ import annotations

from typing import Any

from attncheck.probe.scenario import (
    SEQUENCE,
    MaskInput,
    Plan,
    Scenario,
    Stack,
    Subject,
    Variant,
    padded_rows,
)
from attncheck.semantics.layout import sequence
from attncheck.semantics.observation import NotApplicable

#: What switches causality off, by config key. `is_causal` is no declared field; mask functions and layers read it.
SWITCH = "is_causal"
FLAG = "use_bidirectional_attention"
#: What the flag says for the whole text in types where it is a word.
EVERYWHERE = "all"


def plan(subject: Subject) -> Plan:
    """`is_causal=False`, and the type's own flag where its config has one; each without a mask and with padding."""
    if subject.stack is not Stack.DECODER:
        return NotApplicable("only a decoder can be switched to bidirectional attention")
    if subject.config.get(SWITCH) is False:
        return NotApplicable("the config already asks for bidirectional attention")
    switches: list[tuple[str, Any]] = [(SWITCH, False)]
    if FLAG in subject.config:
        # Where the flag is a word ("vision", "all"), booleans are refused.
        switches.append((FLAG, EVERYWHERE if repr(EVERYWHERE) in subject.config_types.get(FLAG, "") else True))
    variants = []
    for key, value in switches:
        name = key.replace("_", "-")
        overrides = ((key, value),)
        variants.append(Variant(name, **subject.lay(sequence(SEQUENCE)), overrides=overrides))
        variants.append(
            Variant(f"{name}-left-pad", **padded_rows(subject, "left"), mask=MaskInput.PADDING, overrides=overrides)
        )
    return tuple(variants)


SCENARIO = Scenario("bidirectional", "a decoder switched to bidirectional attention", core=False, order=11, plan=plan)
