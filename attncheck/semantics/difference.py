"""Declared against effective: compares the masks of one layer cell by cell and names what differs, head by head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from attncheck.semantics import describe
from attncheck.semantics.features import features
from attncheck.semantics.hypotheses import Explanation, Sample, explain, infer
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layer_masks import LayerMasks, beside, looks_ahead, same_queries, without
from attncheck.semantics.reading import Frame, Reading, mask_of, rows_of
from attncheck.semantics.spec import MaskSpec

#: A share of declared keys this large must be missing, without any pattern, before it is called dropout.
DROPOUT_SHARE = 0.02

#: The reading that forbids only what the inputs forbid.
_LOOSEST = Reading(None, None, None)
_LOOSEST_CAUSAL = Reading(None, 0, None)
#: What a layer declares of which only the direction is known.
_BOTH_SIDES = "keys on both sides, how many is unknown"


@dataclass(frozen=True, slots=True)
class Difference:
    """One wrong mask of one layer, shared by `heads` (empty: all of them).

    first: (batch row, query token, key token) of the first wrong cell. leaked: cells kept but not declared; missed:
    declared but not kept; summed over the judged queries of all rows and forward calls. declared, effective: masks of
    the row and forward call of the first wrong cell, over tokens. exact: `effective_text` gives every cell. The short
    texts leave out padding and documents. beside: what stands as declared is another implementation's mask.
    """

    slugs: tuple[str, ...]
    heads: tuple[int, ...]
    first: tuple[int, int, int]
    leaked: int
    missed: int
    declared: KeepMask
    effective: KeepMask
    declared_text: str
    effective_text: str
    exact: bool
    step: int = 0
    declared_short: str = ""
    effective_short: str = ""
    beside: bool = False


def compare(declared: MaskSpec, masks: LayerMasks) -> tuple[Difference, ...]:
    """Every wrong mask of a layer, one entry a head group with the same fault; empty when all is as declared."""
    right = Reading.of(declared)
    found = []
    for heads, samples in masks.groups.items():
        judged = tuple(_judge(frame, rows, right) for frame, rows in samples)
        if any(rows != rows_of(frame, right) for frame, rows in judged):
            explanation = explain(declared, judged)
            expected = [rows_of(frame, right) for frame, _ in judged]
            found.append(_difference(explanation, heads, judged, expected, right))
    if dropout := _as_dropout(found, len(masks.groups)):
        found = [dropout]
    if masks.behind:
        found.append(_behind(masks, right))
    return tuple(_merge(found))


def compare_with(reference: LayerMasks, masks: LayerMasks) -> tuple[Difference, ...]:
    """The same against another implementation's masks, for layers that declare nothing knowable.

    Heads that cannot be laid beside each other are passed over: see `comparable`.
    """
    found = []
    for heads, samples, other in beside(reference, masks):
        if same_queries(samples, other) and any(rows != there for (_, rows), (_, there) in zip(samples, other)):
            spec = infer(other)
            expected = [rows for _, rows in other]
            if spec is not None:
                explanation, right = explain(spec, samples), Reading.of(spec)
            else:
                right = Reading(None, None, None)
                names = (features(frame, right, want, rows) for (frame, rows), want in zip(samples, expected))
                explanation = Explanation(tuple(dict.fromkeys(slug for named in names for slug in named)), None)
            entry = _difference(explanation, heads, samples, expected, right if spec is not None else None)
            found.append(replace(entry, beside=True))
    return tuple(_merge(found))


def beyond_inputs(masks: LayerMasks, *, causal: bool = False) -> tuple[Difference, ...]:
    """Keys that no declaration can allow: padding, another document's, and those that the caller's mask hides.

    All that can be held against a layer that declares nothing knowable; empty when it keeps to its inputs.
    causal: the layer is known to be causal all the same (only its window is not), so that no later key is allowed.
    """
    loosest = _LOOSEST_CAUSAL if causal else _LOOSEST
    found = []
    for heads, samples in masks.groups.items():
        bounds = [rows_of(frame, loosest) for frame, _ in samples]
        expected = [tuple(row & most for row, most in zip(rows, at)) for (_, rows), at in zip(samples, bounds)]
        if any(rows != kept for (_, rows), kept in zip(samples, expected)):
            named = (features(frame, loosest, kept, rows) for (frame, rows), kept in zip(samples, expected))
            slugs = tuple(dict.fromkeys(slug for names in named for slug in names))
            found.append(_difference(Explanation(slugs, None), heads, samples, expected, None))
    return tuple(_merge(found))


def one_sided(masks: LayerMasks) -> tuple[Difference, ...]:
    """No query sees a later key, in a layer that looks both ways through a window of unknown size.

    Whatever the size is, the next key lies in it: `causal-unexpected`, with that key as the one that is missed. Empty
    when some query looks ahead, or none could.
    """
    if looks_ahead(masks):
        return ()
    found = []
    for heads, samples in masks.groups.items():
        expected = [
            tuple(row | (2 << query & bound) for query, row, bound in zip(frame.judged, rows, rows_of(frame, _LOOSEST)))
            for frame, rows in samples
        ]
        if any(rows != wanted for (_, rows), wanted in zip(samples, expected)):
            entry = _difference(Explanation(("causal-unexpected",), None), heads, samples, expected, None)
            found.append(replace(entry, declared_text=_BOTH_SIDES, declared_short=_BOTH_SIDES))
    return tuple(_merge(found))


def _difference(
    explanation: Explanation,
    heads: tuple[int, ...],
    samples: tuple[Sample, ...],
    expected: Sequence[tuple[int, ...]],
    right: Reading | None,
) -> Difference:
    leaked = missed = 0
    first: tuple[int, int, int] | None = None
    shown = 0
    lefts: list[int] = []
    rights: list[int] = []
    for index, ((frame, rows), wanted) in enumerate(zip(samples, expected)):
        for query, row, want in zip(frame.judged, rows, wanted):
            leaked += frame.cells(row & ~want)
            missed += frame.cells(want & ~row)
            if sharp := frame.sharp(row):
                lefts.append(query - (sharp & -sharp).bit_length() + 1)
                rights.append(sharp.bit_length() - 1 - query)
            if first is None and row != want:
                first, shown = (frame.row, query, ((row ^ want) & -(row ^ want)).bit_length() - 1), index
    assert first is not None, "a difference without a wrong cell"
    frames = [frame for frame, _ in samples]
    reach = (max(lefts), max(rights)) if lefts else (None, None)
    if explanation.reading is not None:
        effective = describe.reading(explanation.reading, frames)
        effective_short = describe.reading(explanation.reading, frames, brief=True)
    else:
        effective = effective_short = describe.irregular(leaked, missed, *reach)
    frame, rows = samples[shown]
    return Difference(
        slugs=explanation.slugs,
        heads=heads,
        first=first,
        leaked=leaked,
        missed=missed,
        declared=mask_of(frame, expected[shown]),
        effective=mask_of(frame, rows),
        declared_text=describe.reading(right, frames) if right is not None else "unknown",
        effective_text=effective,
        exact=explanation.reading is not None,
        step=frame.step,
        declared_short=describe.reading(right, frames, brief=True) if right is not None else "unknown",
        effective_short=effective_short,
    )


def _as_dropout(found: list[Difference], groups: int) -> Difference | None:
    """Keys missing without a pattern, nothing leaked, and no two heads alike: the trace of dropout, not of a mask."""
    if groups < 2 or len(found) < 2 or any(entry.leaked or entry.exact for entry in found):
        return None
    if len({(entry.effective, entry.missed, entry.first) for entry in found}) < len(found):
        return None
    worst = max(found, key=lambda entry: entry.missed)
    patternless = any("keys-missing" in entry.slugs for entry in found)
    if worst.missed < DROPOUT_SHARE * worst.declared.count() or not patternless:
        return None
    heads = tuple(sorted(head for entry in found for head in entry.heads)) if len(found) < groups else ()
    return replace(worst, slugs=("dropout-active",), heads=heads)


def _behind(masks: LayerMasks, right: Reading) -> Difference:
    row, query = masks.behind[0]
    samples = next(iter(masks.groups.values()))
    frame, rows = next(sample for sample in samples if sample[0].row == row and query in sample[0].judged)
    return Difference(
        slugs=("cache-mismatch",),
        heads=(),
        first=(row, query, frame.keys),
        leaked=len(masks.behind),
        missed=0,
        declared=mask_of(frame, rows_of(frame, right)),
        effective=mask_of(frame, rows),
        declared_text="no cache slot behind the last token",
        effective_text=f"{len(masks.behind)} queries see cache slots that hold no token",
        exact=True,
        step=frame.step,
    )


@lru_cache(maxsize=16384)
def _judge(frame: Frame, rows: tuple[int, ...], right: Reading) -> Sample:
    """The sample without queries that may see nothing, and with the declared value in cells a black box cannot see."""
    expected = rows_of(frame, right)
    if frame.black_box:
        older = (1 << frame.available) - 1
        unseen = [older | 1 << query for query in frame.judged]
        rows = tuple((row & ~hidden) | (want & hidden) for row, want, hidden in zip(rows, expected, unseen))
    if 0 in expected:
        frame = without(frame, {query for query, want in zip(frame.judged, expected) if not want})
        rows = tuple(row for row, want in zip(rows, expected) if want)
    return frame, rows


def _merge(found: list[Difference]) -> list[Difference]:
    """Head groups with the same slugs become one entry: the first one's evidence, all their heads."""
    merged: dict[tuple[str, ...], Difference] = {}
    for entry in found:
        if (same := merged.get(entry.slugs)) is None:
            merged[entry.slugs] = entry
        else:
            heads = tuple(sorted({*same.heads, *entry.heads})) if same.heads and entry.heads else ()
            merged[entry.slugs] = replace(same, heads=heads)
    return list(merged.values())
