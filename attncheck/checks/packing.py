"""Rules about packed documents: that they do not see each other, and that one document is not cut in two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attncheck.checks import masks
from attncheck.checks.evidence import of_difference
from attncheck.checks.interface import REFERENCE, Inputs, Issue, RuleGroup, View
from attncheck.findings import Rule
from attncheck.semantics import describe
from attncheck.semantics.difference import compare, compare_with

_MEASURED = "Two documents of 11 and 13 tokens are fed in one row, with position_ids that start again at 0, and every attention call is read with identity values."

RULES = (
    Rule(
        "ATC201",
        "packing-leak",
        "Packed documents attend to each other",
        "Tokens of one document see keys of another document in the same row.",
        "Training on packed data then learns from unrelated context; results differ from unpadded, unpacked training.",
        _MEASURED,
        "Pass use_cache=False and position_ids without an attention_mask; with flash_attention_2 use batch size 1; or turn packing off.",
        ("LLaMA-Factory#8919", "trl#3526"),
    ),
    Rule(
        "ATC202",
        "packing-split",
        "A document is cut in two, or implementations disagree where documents begin",
        "Tokens of one document cannot see earlier ones of it; or a jump in position_ids starts a new document under one implementation and not under another.",
        "Data with gaps in its positions (removed tokens, image blocks) is trained differently depending on the implementation.",
        "As for packing-leak. Where nothing declares the right answer (position-jump), implementations are compared with eager.",
        "Keep position_ids contiguous within a document, or pass an explicit mask.",
    ),
)


def judge(view: View, inputs: Inputs) -> Iterator[Issue]:
    """Leaks and splits against the declaration; without a truth, disagreement with eager about splits."""
    if view.run.truth:
        yield from masks.issues(view, {rule.slug: rule.title for rule in RULES})
    elif not view.broken and view.reference is not None and not view.kernel:
        yield from _disagreement(view)


def _disagreement(view: View) -> Iterator[Issue]:
    reference = view.reference
    if reference is None or reference.masks.unreadable or view.masks.unreadable or not view.spec.mask_known:
        return
    if _splits(view) == _splits(reference):
        return
    what = "starts a new document here but not" if _splits(view) else "does not start a new document here but does"
    for difference in compare_with(reference.masks, view.masks)[:1]:
        evidence = replace(
            of_difference(view, difference),
            declared=f"nothing; {REFERENCE}: {_words(reference)}",
            effective=_words(view),
        )
        message = f"Implementations disagree: a jump in position_ids {what} under {REFERENCE}"
        yield Issue("packing-split", view, message, evidence, difference.leaked + difference.missed)


def _words(view: View) -> str:
    found = compare(view.spec.mask, view.masks)
    return found[0].effective_text if found else describe.mask(view.spec.mask)


def _splits(view: View) -> bool:
    return any("packing-split" in difference.slugs for difference in compare(view.spec.mask, view.masks))


GROUP = RuleGroup("packing", RULES, order=20, judge=judge)
