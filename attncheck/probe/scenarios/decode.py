"""decode: a prompt, then one token at a time against the model's default cache."""

from __future__ import annotations

from dataclasses import replace

from attncheck.probe.scenario import (
    ENCODER_SEQUENCE,
    PADS,
    WINDOW,
    CacheInput,
    MaskInput,
    Plan,
    Scenario,
    Stack,
    Subject,
    Variant,
    generation_positions,
    refuses_cache,
)
from attncheck.semantics.layout import left_padded, sequence

#: Prompts below, at and above the window (a window cache is not yet full, just full, or has dropped tokens), and how
#: many single tokens follow: enough to fill the window, to move it, and to move it more than once.
SHORT, FULL, LONG = (WINDOW - 3, 3), (WINDOW, 2), (2 * WINDOW, 3)
#: Single tokens in the variants with a mask, which differ from those without in how the mask is cut for the cache.
MASKED = 2


def plan(subject: Subject) -> Plan:
    """Three prompt lengths without a mask, the longest with an all-ones mask and in a left-padded batch."""
    if reason := refuses_cache(subject):
        return reason
    return (
        *(unpadded(subject, f"prompt-{prompt}", prompt, decoded) for prompt, decoded in (SHORT, FULL)),
        replace(unpadded(subject, f"prompt-{LONG[0]}", *LONG), kernels=True),
        replace(unpadded(subject, f"prompt-{LONG[0]}-ones-mask", LONG[0], MASKED), mask=MaskInput.ONES),
        padded(subject, LONG[0], MASKED),
    )


def unpadded(subject: Subject, name: str, prompt: int, decoded: int) -> Variant:
    """One row, without a mask."""
    layouts = subject.lay(sequence(prompt + decoded), steps=steps(prompt, decoded))
    return Variant(name, **layouts, cache=CacheInput.DEFAULT)


def padded(subject: Subject, prompt: int, decoded: int) -> Variant:
    """A batch of two, the second row padded on the left, fed as `generate()` feeds it."""
    length = prompt + decoded
    layouts = subject.lay(
        sequence(length),
        left_padded(length, PADS),
        steps=steps(prompt, decoded),
        encoder=(sequence(ENCODER_SEQUENCE), left_padded(ENCODER_SEQUENCE, PADS)),
    )
    passes_positions = subject.stack is Stack.DECODER and subject.info.takes_position_ids
    positions = generation_positions(layouts["decoder"]) if passes_positions and layouts["decoder"] else None
    return Variant(
        f"prompt-{prompt}-left-pad", **layouts, mask=MaskInput.PADDING, positions=positions, cache=CacheInput.DEFAULT
    )


def steps(prompt: int, decoded: int) -> tuple[tuple[int, int], ...]:
    """The forward calls: the prompt, then single tokens."""
    return ((0, prompt), *((at, at + 1) for at in range(prompt, prompt + decoded)))


SCENARIO = Scenario("decode", "a prompt, then single tokens against the cache", core=True, order=3, plan=plan)
