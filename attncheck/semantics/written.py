"""A kernel call as the user of a framework wrote it, and what it did beside what the model declares, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attncheck.semantics.observation import Reason
from attncheck.semantics.shape import Shape, ShapeReading, WrongCells
from attncheck.semantics.spec import Alignment, Part, Window

#: Scenarios of such a call: as many queries as keys, and the last queries of a longer sequence.
PLAIN, SHORT_QUERIES = "plain", "chunked-prefill"
#: Queries of `SHORT_QUERIES`.
QUERIES = 64
#: Tokens beyond the window, over two tiles of 64; and the length where nothing is bounded, 17 tiles of 128.
MARGIN, UNBOUNDED = 128, 2176


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """One call under one kernel of a framework.

    scenario: `PLAIN` or `SHORT_QUERIES`. kernel: the framework's word for it ("fused"). api: of `attncheck.backends`,
    "" where none calls it. arguments: what is handed to that API. words: the arguments as typed. means: the window that
    they mean by the documentation, or by what is known of the version; None where no key is seen. alignment: of the
    diagonal with fewer queries than keys. known: the defect of that release in one sentence, "" without one. selected:
    the framework picks this kernel here. refused: why it would not serve the call. terms: slugs of the softmax terms
    that the arguments ask for otherwise than declared. off: the environment variable, with its value, that keeps the
    kernel from being picked, or that would; "" for none. switched_off: it is set.
    """

    scenario: str
    kernel: str
    api: str
    arguments: Mapping[str, Any]
    words: str
    means: Window | None
    alignment: Alignment = Alignment.BOTTOM_RIGHT
    known: str = ""
    selected: bool = False
    refused: tuple[Reason, ...] = ()
    terms: tuple[str, ...] = ()
    off: str = ""
    switched_off: bool = False

    @property
    def key(self) -> str:
        """A name for steps, unique among the calls for one shape."""
        told = ",".join(f"{name}={value}" for name, value in sorted(self.arguments.items()))
        return f"{self.scenario}-{self.kernel}-{told}"


@dataclass(frozen=True, slots=True)
class Suggested:
    """What to write for some layers so that they get what they declare. paste: in the framework's words.

    calls: the same under each kernel, to be tried; switch: an environment variable that helps, "" for none. upgrade: a
    requirement of a release without the defect, "" for none. longest: tokens of the longest sequence for which it means
    what the layers declare, None for any.
    """

    paste: str
    calls: tuple[WrittenCall, ...] = ()
    switch: str = ""
    upgrade: str = ""
    longest: int | None = None


@dataclass(frozen=True, slots=True)
class LayerCalls:
    """The calls of layers that declare one thing. part, layers: of the checkpoint. shape: what they declare.

    suggested: None where the settings are right already or no settings can give what is declared.
    """

    part: Part
    layers: tuple[int, ...]
    shape: Shape
    calls: tuple[WrittenCall, ...]
    suggested: Suggested | None = None


@dataclass(frozen=True, slots=True)
class CallReading:
    """What one call did. reading: beside the declared shape; its basis says what it rests on.

    aligned: where the diagonal was seen, None where the lengths are equal or it cannot be told. mended: the call is a
    suggestion and not what the user wrote.
    """

    part: Part
    layers: tuple[int, ...]
    call: WrittenCall
    reading: ShapeReading
    aligned: Alignment | None = None
    mended: bool = False


@dataclass(frozen=True, slots=True)
class OwnCalls:
    """A framework that calls kernels itself. framework: as in settings; named: with its version, for sentences.

    typed: the options of the command line that name it. before: the environment variables that decide what it runs, as
    typed in front of a command ("NVTE_FUSED_ATTN=0"). real: what the framework itself said that it selects
    ("FusedAttention (sub-backend 1)"), "" where nobody asked it.
    """

    framework: str
    named: str
    typed: str = ""
    groups: tuple[LayerCalls, ...] = ()
    readings: tuple[CallReading, ...] = ()
    real: str = ""
    before: str = ""

    def group(self, reading: CallReading) -> LayerCalls:
        """The layers of a reading, with what is suggested for them."""
        return next(one for one in self.groups if (one.part, one.layers) == (reading.part, reading.layers))


@dataclass(frozen=True, slots=True)
class AskedCall:
    """One call: shape is what the layers declare, arguments are the user's, means is the window they should mean.

    tokens: keys. queries: the last ones of them.
    """

    shape: Shape
    arguments: Mapping[str, Any]
    tokens: int
    queries: int
    means: Window | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one call did. aligned: where its diagonal lies with fewer queries than keys, None where nothing tells."""

    reading: ShapeReading
    aligned: Alignment | None = None


def band_cells(
    declared: Window, means: Window | None, tokens: int, offset: int = 0, queries: int = 0
) -> WrongCells | None:
    """The cells that a band shows beside the declared one; None: nothing.

    tokens: keys. queries: the last ones of the sequence, 0 for all. offset: keys by which the band's diagonal lies
    before the declared one. means: None where no key is seen.
    """
    first_query = tokens - queries if queries else 0
    found = {"ahead": Tally(), "behind": Tally(), "missed": Tally()}
    first: tuple[int, int] | None = None
    seen_any, hidden_unseen = False, False
    for query in range(first_query, tokens):
        wanted = _row(declared, query, tokens)
        shown = _row(means, query - offset, tokens) if means is not None else range(0)
        seen_any = seen_any or len(shown) > 0
        hidden = range(wanted.start if len(wanted) else 0)
        hidden_unseen = hidden_unseen or bool(_minus(hidden, shown))
        wrong = [*_minus(shown, wanted), *_minus(wanted, shown)]
        if first is None and wrong:
            first = (query, min(run.start for run in wrong))
        for run in _minus(shown, wanted):
            found["ahead"].add(query, range(max(run.start, query + 1), run.stop))
            found["behind"].add(query, range(run.start, min(run.stop, query + 1)))
        for run in _minus(wanted, shown):
            found["missed"].add(query, run)
    if first is None:
        return None
    return WrongCells(
        first=first,
        ahead=found["ahead"].cells,
        behind=found["behind"].cells,
        missed=found["missed"].cells,
        ahead_distances=found["ahead"].distances,
        behind_distances=found["behind"].distances,
        missed_distances=found["missed"].distances,
        all_behind=found["behind"].cells > 0 and not hidden_unseen,
        nothing=not seen_any,
    )


@dataclass(slots=True)
class Tally:
    """Counts cells and their distances |query - key|."""

    cells: int = 0
    nearest: int | None = None
    farthest: int | None = None

    def add(self, query: int, keys: range) -> None:
        """The cells of one query."""
        if not len(keys):
            return
        self.cells += len(keys)
        ends = sorted((abs(query - keys.start), abs(query - keys.stop + 1)))
        self.nearest = ends[0] if self.nearest is None else min(self.nearest, ends[0])
        self.farthest = ends[1] if self.farthest is None else max(self.farthest, ends[1])

    @property
    def distances(self) -> tuple[int, int] | None:
        """The smallest and the largest distance."""
        return None if self.nearest is None or self.farthest is None else (self.nearest, self.farthest)


def _row(window: Window, diagonal: int, tokens: int) -> range:
    """The keys of the query whose diagonal lies at that key."""
    first = 0 if window.left is None else max(0, diagonal - window.left)
    last = tokens - 1 if window.right is None else min(tokens - 1, diagonal + window.right)
    return range(first, max(first, last + 1))


def _minus(left: range, right: range) -> tuple[range, ...]:
    """The runs of `left` that are not in `right`."""
    if not len(right):
        return (left,) if len(left) else ()
    runs = (range(left.start, min(left.stop, right.start)), range(max(left.start, right.stop), left.stop))
    return tuple(run for run in runs if len(run))


def tokens(reach: int, longest: int | None) -> int:
    """A length that shows a window ending `reach` tokens away, a multiple of 128; never more than `longest`."""
    wanted = -(-(reach + 1 + MARGIN) // 128) * 128 if reach else UNBOUNDED
    return wanted if longest is None else max(1, min(wanted, longest))
