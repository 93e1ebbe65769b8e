"""Rules about the key-value cache: the keys of earlier calls, and nothing behind the last token."""

from __future__ import annotations

from collections.abc import Iterator

from attncheck.checks import masks
from attncheck.checks.interface import Inputs, Issue, RuleGroup, View
from attncheck.findings import Rule

RULES = (
    Rule(
        "ATC401",
        "cache-mismatch",
        "Decoding sees other keys in the cache than it should",
        "Keys of earlier forward calls are lost, or slots of a preallocated cache that hold no token get weight.",
        "Generation then differs from a forward pass over the whole text; with a static cache the output depends on its size.",
        "A prompt is fed, then single tokens and a second piece against the cache; every call is read with identity values and laid beside the tokens by their place in the cache.",
        "Use the default dynamic cache, or an implementation that is right here.",
        ("transformers#31953",),
    ),
)


def judge(view: View, inputs: Inputs) -> Iterator[Issue]:
    """Differences whose wrong cells are a matter of the cache."""
    return masks.issues(view, {rule.slug: rule.title for rule in RULES})


GROUP = RuleGroup("cache", RULES, order=40, judge=judge)
