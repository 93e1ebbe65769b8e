"""Turns a difference between masks into evidence, and says who lost it: the framework or the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from attncheck.checks.interface import Issue, View
from attncheck.findings import Evidence
from attncheck.semantics.difference import Difference
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.mask import in_token_coordinates
from attncheck.semantics.observation import CallObservation, Requested, SoftmaxObservation
from attncheck.semantics.spec import Part

FRAMEWORK = "the framework lost it"
KERNEL = "the kernel lost it"


def of_difference(view: View, difference: Difference) -> Evidence:
    """The evidence of one wrong mask; the requested line names who lost it where that can be told."""
    figures: dict[str, float | int | str] = {"variant": view.run.variant, "step": difference.step}
    if view.reference is not None and view.run.truth and view.spec.mask_known:
        figures["eager"] = _beside_eager(view, difference)
    return Evidence(
        declared=difference.declared_text,
        requested=requested_line(view, difference),
        effective=difference.effective_text,
        first_difference=difference.first,
        leaked=difference.leaked,
        missed=difference.missed,
        heads=view.some_heads(difference.heads),
        declared_mask=difference.declared,
        effective_mask=difference.effective,
        requested_mask=_requested_mask(difference, _asked(view, difference)),
        figures=figures,
    )


def first_shown(view: View, look: Callable[[CallObservation, SoftmaxObservation], Iterable[Issue]]) -> Iterator[Issue]:
    """The first issue of each slug that `look` finds in a call with fitted softmax terms; none where no fit means much."""
    if view.broken or view.dropout:
        return
    found: set[str] = set()
    for call in view.calls:
        if call.softmax is not None:
            for issue in look(call, call.softmax):
                if issue.slug not in found:
                    found.add(issue.slug)
                    yield issue


def requested_line(view: View, difference: Difference) -> str:
    """What the framework handed to the kernel in the call of the first wrong cell, and what follows from it."""
    asked = _asked(view, difference)
    if asked is None:
        return ""
    words = arguments(asked)
    row = difference.first[0]
    if (mask := _requested_mask(difference, asked)) is not None:
        start = view.layout.steps[difference.step][0]
        judged = [
            query - start
            for frame, _ in next(iter(view.masks.groups.values()))
            if (frame.row, frame.step) == (row, difference.step)
            for query in frame.judged
        ]
        if all(mask.rows[i] == difference.effective.rows[i] for i in judged):
            return f"{words}, which asks for just this: {FRAMEWORK}"
        if all(mask.rows[i] == difference.declared.rows[i] for i in judged):
            return f"{words}, which is as declared: {KERNEL}"
        return words
    if view.part is not Part.CROSS and any(slug.startswith("window") for slug in difference.slugs):
        left = view.spec.mask.window.left
        if left is not None and asked.sliding_window is None and "window-ignored" in difference.slugs:
            return f"{words}: {FRAMEWORK}"
    return words


def _asked(view: View, difference: Difference) -> Requested | None:
    """The arguments of the call of the first wrong cell."""
    call = next((call for call in view.calls if call.step == difference.step), None)
    return None if call is None else call.requested


def _requested_mask(difference: Difference, asked: Requested | None) -> KeepMask | None:
    """The dense mask of the batch row of the first wrong cell, over tokens; None without one."""
    row = difference.first[0]
    if asked is None or row >= len(asked.mask):
        return None
    mask, _ = in_token_coordinates(asked.mask[row], difference.declared.kv_len)
    return mask


def arguments(asked: Requested) -> str:
    """The mask arguments of a call in words."""
    words = ["no mask" if asked.mask_kind == "none" else f"a {asked.mask_kind} mask"]
    if asked.mask_kind == "none" or asked.is_causal:
        words.append(f"is_causal={asked.is_causal}")
    words.append("no window argument" if asked.sliding_window is None else f"sliding_window={asked.sliding_window}")
    return ", ".join(words)


def _beside_eager(view: View, difference: Difference) -> str:
    """How eager does in the same place: the third corner of the verdict."""
    reference = view.reference
    if reference is None or not reference.differences:
        return "as declared"
    slugs = {slug for entry in reference.differences for slug in entry.slugs}
    return "the same" if set(difference.slugs) <= slugs else "wrong in another way"


def of_scalar(
    view: View, call: CallObservation, slug: str, message: str, declared: str, effective: str, requested: str,
    heads: Sequence[int], weight: float, **figures: float,
) -> Issue:  # fmt: skip
    """An issue about a number. heads: those concerned, empty for all; figures go into the evidence.

    message gets the head count where only some are concerned. weight: as in `Issue`.
    """
    chosen = view.some_heads(heads) if heads else ()
    if chosen:
        message += f", in {len(chosen)} of {call.num_heads} heads"
    evidence = Evidence(
        declared=declared,
        requested=requested,
        effective=effective,
        heads=chosen,
        figures={**figures, "variant": view.run.variant, "step": call.step},
    )
    return Issue(slug, view, message, evidence, weight)


def blame(asked_as_declared: bool) -> str:
    """Who lost a term: the kernel when it was asked for it, the framework when it did not ask."""
    return f": {KERNEL if asked_as_declared else FRAMEWORK}"
