"""Names a wrong mask: finds the simplest misreading of the declaration that gives exactly the mask that was seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, product
from typing import Any

from attncheck.semantics.features import features
from attncheck.semantics.reading import Custom, Diagonal, Documents, Frame, Pads, Reading, gives, rows_of
from attncheck.semantics.spec import MaskSpec, Window

#: A mask and the frame it belongs to: one bitset row a judged query.
Sample = tuple[Frame, tuple[int, ...]]

#: More simultaneous faults than this are told by their features, not by a search.
MOST_CHANGES = 3
#: More boundaries of documents than this are not tried one by one.
MANY_BOUNDARIES = 64


@dataclass(frozen=True, slots=True)
class Explanation:
    """The names of a difference. reading: the misreading that gives every cell, None when features had to name it."""

    slugs: tuple[str, ...]
    reading: Reading | None


@dataclass(frozen=True, slots=True)
class _Change:
    """One departure from the declaration: the fields of `Reading` it sets and the slugs that name it."""

    fields: tuple[tuple[str, Any], ...]
    slugs: tuple[str, ...]


@lru_cache(maxsize=4096)
def explain(declared: MaskSpec, samples: tuple[Sample, ...]) -> Explanation:
    """The simplest explanation of all samples together: one fault before two, two before three, then features.

    Several samples (rows, forward calls) of one layer are explained jointly, because one alone can be ambiguous: after
    nine tokens a window of nine keys and no window look alike. Without a joint explanation each is explained alone.
    """
    right = Reading.of(declared)
    wrong = tuple(sample for sample in samples if not gives(sample[0], right, sample[1]))
    if not wrong:
        return Explanation((), right)
    ordered = wrong + tuple(sample for sample in samples if sample not in wrong)
    for slugs, fields in _candidates(right, samples):
        reading = replace(right, only_held=True, **fields)
        if all(gives(frame, reading, rows) for frame, rows in ordered):
            return Explanation(slugs, reading)
    if len(samples) == 1:
        frame, rows = samples[0]
        return Explanation(features(frame, right, rows_of(frame, right), rows), None)
    named = [slug for sample in wrong for slug in explain(declared, (sample,)).slugs]
    return Explanation(tuple(dict.fromkeys(named)), None)


def infer(samples: tuple[Sample, ...]) -> MaskSpec | None:
    """The plainest declaration that gives all samples, for layers that declare nothing knowable; None without one."""
    left, ahead = _reach(samples)
    for past, future in product((None, left), (0, None, ahead)):
        if all(side is None or side >= 0 for side in (past, future)):
            spec = MaskSpec(Window(past, future))
            if all(gives(frame, Reading.of(spec), rows) for frame, rows in samples):
                return spec
    return None


def reach(samples: tuple[Sample, ...]) -> Window | None:
    """How far the queries see, None on a side where nothing but the keys' end bounds them; None when they see no key.

    Of a mask that is no window: the distances to the furthest keys.
    """
    if (spec := infer(samples)) is not None:
        return spec.window
    left, right = _reach(samples)
    return None if left is None or right is None else Window(max(left, 0), max(right, 0))


def _candidates(right: Reading, samples: tuple[Sample, ...]) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Slugs and changed fields of every misreading worth trying, the fewest faults and changes first."""
    elements = [changes for changes in _elements(right, samples) if changes]
    found: list[tuple[int, int, int, tuple[str, ...], tuple[_Change, ...]]] = []
    for size in range(1, MOST_CHANGES + 1):
        for chosen in combinations(elements, size):
            for changes in product(*chosen):
                slugs = tuple(dict.fromkeys(slug for change in changes for slug in change.slugs))
                if len(slugs) <= MOST_CHANGES:
                    found.append((len(slugs), size, len(found), slugs, changes))
    found.sort(key=lambda candidate: candidate[:3])
    return [
        (slugs, {name: value for change in changes for name, value in change.fields})
        for _, _, _, slugs, changes in found
    ]


def _elements(right: Reading, samples: tuple[Sample, ...]) -> Iterator[list[_Change]]:
    frames = [frame for frame, _ in samples]
    left_reach, right_reach = _reach(samples)
    # First of all: where all wrong keys are those of earlier calls, a window or chunk could explain them too.
    yield list(_cache(frames))
    yield list(_band(right, left_reach, right_reach))
    yield list(_diagonal(right, frames, right_reach))
    yield list(_chunk(right, left_reach))
    yield list(_pads(frames))
    yield list(_documents(right, samples))
    yield list(_custom(frames))


def _reach(samples: tuple[Sample, ...]) -> tuple[int | None, int | None]:
    """Largest distances from a query to the first and last key it sees; None when nothing is seen at all."""
    lefts, rights = [], []
    for frame, rows in samples:
        for query, row in zip(frame.judged, rows):
            if sharp := frame.sharp(row):
                lefts.append(query - ((sharp & -sharp).bit_length() - 1))
                rights.append(sharp.bit_length() - 1 - query)
    return (max(lefts), max(rights)) if lefts else (None, None)


def _band(right: Reading, left_reach: int | None, right_reach: int | None) -> Iterator[_Change]:
    lefts = dict.fromkeys((right.left, None, left_reach if left_reach is None or left_reach >= 0 else 0))
    rights = dict.fromkeys((right.right, None, right_reach))
    for left, ahead in product(lefts, rights):
        if slugs := name_band(right, left, ahead):
            yield _Change((("left", left), ("right", ahead)), slugs)


def name_band(declared: Reading, left: int | None, right: int | None) -> tuple[str, ...]:
    """The slugs for a band (left, right) where `declared` says another one; empty when they are equal."""
    if declared.right not in (None, 0) and declared.left is not None and None not in (left, right):
        assert left is not None
        assert right is not None
        assert declared.right is not None
        steps = (left - declared.left, right - declared.right)
        if right > 0 and steps != (0, 0):
            # One fault moves both sides of a two-sided window; by more than one token is another size altogether.
            return ("window-off-by-one",) if max(map(abs, steps)) == 1 else ("window-size-wrong",)
    names = (_name_past(declared.left, left), _name_future(declared.right, right))
    return tuple(dict.fromkeys(name for name in names if name))


def _name_past(declared: int | None, left: int | None) -> str:
    if left == declared:
        return ""
    if declared is None:
        return "window-unexpected"
    if left is None:
        return "window-ignored"
    return "window-off-by-one" if abs(left - declared) == 1 else "window-size-wrong"


def _name_future(declared: int | None, right: int | None) -> str:
    if right == declared:
        return ""
    if declared == 0:
        return "causal-ignored" if right is None or right > 1 else "causal-misaligned"
    if right is not None and right <= 0:
        return "causal-unexpected"
    if declared is None:
        return "window-unexpected"
    if right is None:
        return "window-ignored"
    return "window-off-by-one" if abs(right - declared) == 1 else "window-size-wrong"


def _diagonal(right: Reading, frames: list[Frame], right_reach: int | None) -> Iterator[_Change]:
    if right.left is None and right.right is None:
        return
    if any(frame.start for frame in frames):
        yield _Change((("diagonal", Diagonal.TOP_LEFT),), ("causal-misaligned",))
    solved = right_reach - right.right if right_reach is not None and right.right is not None else 0
    if right_reach == 0 and right.right:
        solved = 0  # a two-sided window that ends at the query itself is causal, whatever its left side has become
    for shift in dict.fromkeys((-1, 1, solved)):
        if shift:
            yield _Change((("shift", shift),), ("causal-misaligned",))


def _chunk(right: Reading, left_reach: int | None) -> Iterator[_Change]:
    if right.chunk is not None:
        yield _Change((("chunk_from_start", True),), ("chunk-wrong",))
        yield _Change((("chunk", None),), ("chunk-wrong",))
        # A sliding window of the chunk's size in place of the chunk is one fault, not two.
        yield _Change((("chunk", None), ("left", right.chunk - 1)), ("chunk-wrong",))
    if left_reach is not None and left_reach > 0 and left_reach + 1 != right.chunk:
        yield _Change((("chunk", left_reach + 1),), ("chunk-wrong",))
        yield _Change((("chunk", left_reach + 1), ("chunk_from_start", True)), ("chunk-wrong",))
        if right.left is not None:
            yield _Change((("chunk", right.left + 1), ("left", None)), ("chunk-wrong",))


def _pads(frames: list[Frame]) -> Iterator[_Change]:
    left = any(frame.sides_padded[0] for frame in frames)
    right = any(frame.sides_padded[1] for frame in frames)
    if left or right:
        yield _Change((("pads", Pads.VISIBLE),), ("padding-ignored",))
        # Chunks that count from token 0 are what a lost padding mask means for chunked layers.
        yield _Change((("pads", Pads.VISIBLE), ("chunk_from_start", True)), ("padding-ignored",))
        yield _Change((("pads", Pads.MIRRORED),), ("padding-ignored",))
    if left and right:
        yield _Change((("pads", Pads.LEFT_VISIBLE),), ("padding-ignored",))
        yield _Change((("pads", Pads.RIGHT_VISIBLE),), ("padding-ignored",))


def _documents(right: Reading, samples: tuple[Sample, ...]) -> Iterator[_Change]:
    if any(frame.packed for frame, _ in samples):
        yield _Change((("documents", Documents.MERGED),), ("packing-leak",))
        if right.chunk is not None:
            yield _Change((("documents", Documents.MERGED_CHUNKS),), ("packing-leak",))
    # Positions that leap inside one document can be taken for a new one, so a split needs no packed row.
    firsts = Counter((row & -row).bit_length() - 1 for _, rows in samples for row in rows if row)
    # Where a window moves along a long sequence every query has a first key of its own; a boundary has many queries.
    fewest = 1 if len(firsts) <= MANY_BOUNDARIES else 2
    for boundary in sorted(first for first, _ in firsts.most_common(MANY_BOUNDARIES) if firsts[first] >= fewest):
        if boundary == 0:
            continue
        yield _Change((("split", boundary),), ("packing-split",))


def _cache(frames: list[Frame]) -> Iterator[_Change]:
    if any(frame.available for frame in frames):
        # Nothing but the cache is to blame: it gave up keys that the layer still declares.
        yield _Change((), ("cache-mismatch",))
    if any(frame.start for frame in frames):
        yield _Change((("cached", False),), ("cache-mismatch",))


def _custom(frames: list[Frame]) -> Iterator[_Change]:
    masks = [(frame, frame.custom) for frame in frames if frame.custom is not None]
    if not masks:
        return
    prefix = any(custom.rows[query] >> query + 1 for frame, custom in masks for query in frame.judged)
    if prefix:
        yield _Change((("custom", Custom.CAUSAL_TOO),), ("prefix-dropped",))
    yield _Change((("custom", Custom.DROPPED),), ("mask-dropped",))
    yield _Change((("custom", Custom.DROPPED), ("right", None)), ("mask-dropped",))
    yield _Change((("custom", Custom.INVERTED),), ("mask-dropped",))
