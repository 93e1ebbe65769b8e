"""What one layer did over all forward calls of a scenario: its masks laid beside the tokens, and beside another's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from attncheck.semantics.hypotheses import Sample
from attncheck.semantics.layout import Layout
from attncheck.semantics.mask import in_token_coordinates
from attncheck.semantics.observation import CallObservation, Method
from attncheck.semantics.reading import Frame, cross_frame, self_frame
from attncheck.semantics.spec import Part


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
                frame = without(frame, {start + query for row, query in call.nan_rows if row == head_mask.row})
            if head_mask.queries:
                frame = only(frame, {start + query for query in head_mask.queries})
            if head_mask.coarse:
                shift = max(0, frame.keys - head_mask.keep.kv_len)
                frame = replace(frame, coarse=tuple(group << shift for group in head_mask.coarse))
            if slots.kv_len:
                behind += [(head_mask.row, query) for query in frame.judged if slots.rows[query - start]]
            rows = tuple(keep.rows[query - start] for query in frame.judged)
            if call.method is not Method.IDENTITY:
                frame = replace(frame, black_box=True)
            series.setdefault(head_mask.heads, []).append((frame, rows))
    return LayerMasks(_align(series), tuple(dict.fromkeys(behind)), tuple(sorted({call.step for call in calls})))


def comparable(reference: LayerMasks, masks: LayerMasks) -> bool:
    """True when all of `masks` was read for the same queries in `reference`: only then no difference means equal."""
    pairs = beside(reference, masks)
    return bool(pairs) and all(same_queries(samples, other) for _, samples, other in pairs)


def looks_ahead(masks: LayerMasks) -> bool:
    """True when some query sees a key after itself."""
    samples = [sample for group in masks.groups.values() for sample in group]
    return any(row >> query + 1 for frame, rows in samples for query, row in zip(frame.judged, rows))


def beside(
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


def same_queries(samples: tuple[Sample, ...], other: tuple[Sample, ...]) -> bool:
    """True when both were read for the same queries in the same way: a black box sees less than a live call shows."""
    seen, there = ([(frame.judged, frame.black_box) for frame, _ in of] for of in (samples, other))
    return seen == there


def without(frame: Frame, queries: Iterable[int]) -> Frame:
    """The frame with those queries no longer judged."""
    gone = set(queries)
    return replace(frame, judged=tuple(query for query in frame.judged if query not in gone)) if gone else frame


def only(frame: Frame, queries: set[int]) -> Frame:
    """The frame with no other queries judged than those."""
    return replace(frame, judged=tuple(query for query in frame.judged if query in queries))


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
