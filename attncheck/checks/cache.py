"""Rules about the key-value cache: the keys of earlier calls, and nothing behind the last token."""

from __future__ import annotations

from collections.abc import Iterator

from attncheck.checks import masks
from attncheck.checks.interface import Inputs, Issue, RuleGroup, View
from attncheck.findings import Evidence, Rule
from attncheck.semantics.observation import Observed

RULES = (
    Rule(
        "ATC401",
        "cache-mismatch",
        "Decoding sees other keys in the cache than it should",
        "Keys of earlier forward calls are lost, or slots of a preallocated cache that hold no token get weight.",
        "Generation then differs from a forward pass over the whole text; with a static cache the output depends on its size.",
        "A prompt is fed, then single tokens and a second piece against the cache; every call is read with identity values and laid beside the tokens by their place in the cache. With `--scenario cache-kinds`, generate() runs with each kind of cache, and its logits are also compared with one pass without a cache.",
        "Use the default dynamic cache, or an implementation that is right here.",
        ("transformers#31953",),
    ),
)


#: Share of the largest logit. With every fitting kind of cache float32 stays below 1e-5; a key too many or too few of
#: a tiny model's window moves the logits by more than 1e-3.
DRIFT = 1e-4


def judge(view: View, inputs: Inputs) -> Iterator[Issue]:
    """Differences whose wrong cells are a matter of the cache, and outputs that differ from those without one."""
    yield from masks.issues(view, {rule.slug: rule.title for rule in RULES})
    outcome = view.run.outcome
    drift = outcome.beside.drift if isinstance(outcome, Observed) else None
    if drift is not None and drift > DRIFT:
        yield Issue(
            "cache-mismatch",
            view,
            f"Generation with a cache computes something else than one pass without: logits differ by {drift:.1%}"
            " of the largest",
            Evidence(
                declared="the logits of one pass without a cache",
                effective=f"logits that differ by up to {drift:.2g} of the largest",
                figures={"variant": view.run.variant, "drift": drift},
            ),
            drift,
            RULES[0].title,
        )


GROUP = RuleGroup("cache", RULES, order=40, judge=judge)
