"""Declared against effective: compares the masks of one layer cell by cell and names what differs, head by head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from attncheck.semantics import describe
from attncheck.semantics.features import features
from attncheck.semantics.hypotheses import Explanation, Sample, explain, infer
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import Layout
from attncheck.semantics.mask import in_token_coordinates
from attncheck.semantics.observation import CallObservation, Method
from attncheck.semantics.reading import Frame, Reading, cross_frame, mask_of, rows_of, self_frame
from attncheck.semantics.spec import MaskSpec, Part

#: A share of declared keys this large must be missing, without any pattern, before it is called dropout.
DROPOUT_SHARE = 0.02

#: The reading that forbids only what the inputs forbid.
_LOOSEST = Reading(None, None, None)


@dataclass(frozen=True, slots=True)
class Difference:
    """One wrong mask of one layer, shared by `heads` (empty: all of them).

    first: (batch row, query token, key token) of the first wrong cell. leaked: cells kept but not declared; missed:
    declared but not kept; summed over the judged queries of all rows and forward calls. declared, effective: masks of
    the row and forward call of the first wrong cell, over tokens. exact: `effective_text` gives every cell. The short
    texts leave out padding and documents.
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


@dataclass(frozen=True, slots=True)
class LayerMasks:
    """What one layer did over all forward calls of a scenario: one list of samples a head group.

    groups: head numbers (empty: all) -> samples. behind: (batch row, query token) pairs that saw cache slots behind the
    last token. steps: forward calls that were seen. unreadable: why some call could not be laid beside the tokens.
    """

    groups: Mapping[tuple[int, ...], tuple[Sample, ...]]
    behind: tuple[tuple[int, int], ...] = ()
    steps: tuple[int, ...] = ()
    unreadable: str = ""


def gather(calls: Sequence[CallObservation], layout: Layout, encoder: Layout | None, part: Part) -> LayerMasks:
    """Lay the masks of one layer's calls beside the tokens. Rows of padding queries and of NaN output are left out.

    layout: of the queries. encoder: of the keys, for cross-attention. Black-box methods cannot see a query's own key (a
    residual connection hides it) nor the keys of earlier calls; `compare` gives those the declared value.
    """
    series: dict[tuple[int, ...], list[Sample]] = {}
    behind: list[tuple[int, int]] = []
    for call in calls:
        if call.step >= len(layout.steps):
            return LayerMasks({}, unreadable=f"a forward call more than the {len(layout.steps)} of the scenario")
        start, stop = layout.steps[call.step]
        if call.q_len != stop - start:
            return LayerMasks({}, unreadable=f"{call.q_len} queries where {stop - start} tokens were fed")
        for head_mask in call.masks:
            if part is Part.CROSS:
                if encoder is None or head_mask.keep.kv_len < encoder.length:
                    return LayerMasks({}, unreadable="the keys are not the encoder's tokens")
                frame = cross_frame(layout, encoder, head_mask.row, call.step)
            else:
                frame = self_frame(layout, head_mask.row, call.step, max(0, stop - head_mask.keep.kv_len))
            keep, slots = in_token_coordinates(head_mask.keep, frame.keys)
            if call.nan_rows:
                frame = _without(frame, {start + query for row, query in call.nan_rows if row == head_mask.row})
            if slots.kv_len:
                behind += [(head_mask.row, query) for query in frame.judged if slots.rows[query - start]]
            rows = tuple(keep.rows[query - start] for query in frame.judged)
            if call.method is not Method.IDENTITY:
                frame = replace(frame, black_box=True)
            series.setdefault(head_mask.heads, []).append((frame, rows))
    return LayerMasks(_align(series), tuple(dict.fromkeys(behind)), tuple(sorted({call.step for call in calls})))


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
    for heads, samples, other in _beside(reference, masks):
        if _same_queries(samples, other) and any(rows != there for (_, rows), (_, there) in zip(samples, other)):
            spec = infer(other)
            expected = [rows for _, rows in other]
            if spec is not None:
                explanation, right = explain(spec, samples), Reading.of(spec)
            else:
                right = Reading(None, None, None)
                names = (features(frame, right, want, rows) for (frame, rows), want in zip(samples, expected))
                explanation = Explanation(tuple(dict.fromkeys(slug for named in names for slug in named)), None)
            found.append(_difference(explanation, heads, samples, expected, right if spec is not None else None))
    return tuple(_merge(found))


def comparable(reference: LayerMasks, masks: LayerMasks) -> bool:
    """True when all of `masks` was read for the same queries in `reference`: only then no difference means equal."""
    pairs = _beside(reference, masks)
    return bool(pairs) and all(_same_queries(samples, other) for _, samples, other in pairs)


def beyond_inputs(masks: LayerMasks) -> tuple[Difference, ...]:
    """Keys that no declaration can allow: padding, another document's, and those that the caller's mask hides.

    All that can be held against a layer that declares nothing knowable; empty when it keeps to its inputs.
    """
    found = []
    for heads, samples in masks.groups.items():
        bounds = [rows_of(frame, _LOOSEST) for frame, _ in samples]
        expected = [tuple(row & most for row, most in zip(rows, at)) for (_, rows), at in zip(samples, bounds)]
        if any(rows != kept for (_, rows), kept in zip(samples, expected)):
            named = (features(frame, _LOOSEST, kept, rows) for (frame, rows), kept in zip(samples, expected))
            slugs = tuple(dict.fromkeys(slug for names in named for slug in names))
            found.append(_difference(Explanation(slugs, None), heads, samples, expected, None))
    return tuple(_merge(found))


def looks_ahead(masks: LayerMasks) -> bool:
    """True when some query sees a key after itself."""
    samples = [sample for group in masks.groups.values() for sample in group]
    return any(row >> query + 1 for frame, rows in samples for query, row in zip(frame.judged, rows))


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
            leaked += (row & ~want).bit_count()
            missed += (want & ~row).bit_count()
            if row:
                lefts.append(query - (row & -row).bit_length() + 1)
                rights.append(row.bit_length() - 1 - query)
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
        frame = _without(frame, {query for query, want in zip(frame.judged, expected) if not want})
        rows = tuple(row for row, want in zip(rows, expected) if want)
    return frame, rows


def _without(frame: Frame, queries: Iterable[int]) -> Frame:
    gone = set(queries)
    return replace(frame, judged=tuple(query for query in frame.judged if query not in gone)) if gone else frame


def _align(series: dict[tuple[int, ...], list[Sample]]) -> dict[tuple[int, ...], tuple[Sample, ...]]:
    """Head groups that hold over all rows and calls: heads are followed one by one where the groups change."""
    if len(series) == 1:
        return {heads: tuple(samples) for heads, samples in series.items()}
    by_head: dict[int, list[Sample]] = {head: [] for heads in series for head in heads}
    for heads, samples in series.items():
        for head in heads or by_head:
            by_head[head] += samples
    together: dict[tuple[Sample, ...], list[int]] = {}
    for head, samples in sorted(by_head.items()):
        ordered = tuple(sorted(samples, key=lambda sample: (sample[0].step, sample[0].row)))
        together.setdefault(ordered, []).append(head)
    groups = {tuple(heads): samples for samples, heads in together.items()}
    return {(): next(iter(groups.values()))} if len(groups) == 1 else groups


def _beside(
    reference: LayerMasks, masks: LayerMasks
) -> list[tuple[tuple[int, ...], tuple[Sample, ...], tuple[Sample, ...]]]:
    """The heads that a group of `masks` shares with one of `reference`, and the samples of both."""
    found = []
    for heads, samples in masks.groups.items():
        for other_heads, other in reference.groups.items():
            shared = tuple(head for head in heads if not other_heads or head in other_heads) if heads else other_heads
            if shared or not (heads or other_heads):
                found.append((shared, samples, other))
    return found


def _same_queries(samples: tuple[Sample, ...], other: tuple[Sample, ...]) -> bool:
    """True when both were read for the same queries in the same way: a black box sees less than a live call shows."""
    seen, there = ([(frame.judged, frame.black_box) for frame, _ in of] for of in (samples, other))
    return seen == there


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
