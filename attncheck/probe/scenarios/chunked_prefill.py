"""chunked-prefill: a long prompt fed in two parts against the model's default cache."""

from __future__ import annotations

from attncheck.probe.scenario import (
    WINDOW,
    CacheInput,
    Plan,
    Scenario,
    Subject,
    Variant,
    refuses_cache,
    with_and_without_mask,
)
from attncheck.semantics.layout import sequence

FIRST = 2 * WINDOW
#: Fewer tokens than a window, and not a divisor of one: more queries than one but fewer than keys shows the alignment.
SECOND = 5


def plan(subject: Subject) -> Plan:
    """Several queries against more keys: a top-left aligned diagonal shows here and nowhere else."""
    if reason := refuses_cache(subject):
        return reason
    layouts = subject.lay(sequence(FIRST + SECOND), steps=((0, FIRST), (FIRST, FIRST + SECOND)))
    variants: tuple[Variant, ...] = with_and_without_mask(**layouts, cache=CacheInput.DEFAULT)
    return variants


SCENARIO = Scenario("chunked-prefill", "a long prompt fed in parts against the cache", core=True, order=4, plan=plan)
