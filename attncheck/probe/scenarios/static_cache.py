"""static-cache: prompts, a single token and a second prompt part against a preallocated cache."""

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
from attncheck.semantics.observation import NotApplicable

#: A prompt above the window, one token, then four at once: full layers see (q, keys) of (16, 32), (1, 32), (4, 32).
STEPS = ((0, 2 * WINDOW), (2 * WINDOW, 2 * WINDOW + 1), (2 * WINDOW + 1, 2 * WINDOW + 5))
#: A prompt below the window: windowed layers, whose slots the longer prompt fills, have unfilled ones too.
SHORT_STEPS = ((0, WINDOW - 3), (WINDOW - 3, WINDOW - 2))


def plan(subject: Subject) -> Plan:
    """Slots that are not filled yet must get no weight."""
    if reason := refuses_cache(subject):
        return reason
    if subject.no_static_cache:
        return NotApplicable(f"the class says that it takes no static cache ({subject.no_static_cache} is False)")
    layouts = subject.lay(sequence(STEPS[-1][1]), steps=STEPS)
    short = subject.lay(sequence(SHORT_STEPS[-1][1]), steps=SHORT_STEPS)
    return (
        *with_and_without_mask(**layouts, cache=CacheInput.STATIC),
        Variant("short-prompt", **short, cache=CacheInput.STATIC),
    )


SCENARIO = Scenario("static-cache", "a preallocated cache with room left", core=False, order=9, plan=plan)
