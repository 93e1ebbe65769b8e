"""cache-kinds: `generate()` with every kind of cache that can be asked for by name, fitting the model or not."""

from __future__ import annotations

from attncheck.probe.scenario import WINDOW, Plan, Scenario, Stack, Subject, Variant, refuses_cache
from attncheck.probe.scenarios.decode import steps
from attncheck.semantics.layout import sequence
from attncheck.semantics.observation import NotApplicable

#: Values of `cache_implementation` in transformers 4.42 to 5.23 that need neither a GPU nor a package. A version that
#: does not know one refuses it.
KINDS = ("dynamic", "static", "sliding_window", "hybrid")
#: Forward calls after the prompt: enough to move past a window that the shortest prompt leaves half empty.
CALLS = 7


def plan(subject: Subject) -> Plan:
    """Every kind with prompts below, at and above the window: each fills a window cache differently."""
    if reason := refuses_cache(subject):
        return reason
    if subject.stack is not Stack.DECODER:
        return NotApplicable("only decoders are run by generate() here")
    given = subject.config.get("sliding_window")
    window = given if isinstance(given, int) and 4 <= given <= 2 * WINDOW else WINDOW
    return tuple(
        Variant(
            f"{kind}-prompt-{prompt}",
            **subject.lay(sequence(prompt + CALLS), steps=steps(prompt, CALLS)),
            generate=kind,
        )
        for kind in KINDS
        for prompt in (window - 3, window, 2 * window)
    )


SCENARIO = Scenario(
    "cache-kinds",
    "generate() with each kind of cache",
    core=False,
    order=14,
    plan=plan,
    on_request=True,
)
"""Order: behind every scenario that runs unasked."""
