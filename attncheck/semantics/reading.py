"""One way to read a declaration (window, chunk, padding, documents, caller's mask ...), and the exact mask it gives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import PAD, Layout
from attncheck.semantics.spec import MaskSpec


class Pads(str, Enum):
    """Which padding keys a real token sees."""

    HIDDEN = "hidden"
    VISIBLE = "visible"
    LEFT_VISIBLE = "left visible"
    RIGHT_VISIBLE = "right visible"
    MIRRORED = "mirrored"


class Documents(str, Enum):
    """Whether packed documents are kept apart; MERGED_CHUNKS also counts chunks over the whole sequence."""

    SEPARATE = "separate"
    MERGED = "merged"
    MERGED_CHUNKS = "merged, chunks over the sequence"


class Custom(str, Enum):
    """What became of the mask the caller passed."""

    KEPT = "kept"
    DROPPED = "dropped"
    CAUSAL_TOO = "combined with causality"
    INVERTED = "inverted"


class Diagonal(str, Enum):
    """Where the diagonal of a later forward call lies."""

    TOKENS = "tokens"
    TOP_LEFT = "top-left"


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a declaration. The default of every field but the first three is the right way.

    left, right, chunk: as in `MaskSpec`; right may be negative (a query that does not even see itself). shift: tokens
    the whole band is moved to the right. chunk_from_start: chunks count from token 0, not from the document or after
    the padding. split: a further document boundary before this token. cached: False when the keys of earlier calls are
    lost. only_held: only the keys that the cache still returns; what is declared does not depend on that, what a
    misreading looks like does.
    """

    left: int | None
    right: int | None
    chunk: int | None
    shift: int = 0
    diagonal: Diagonal = Diagonal.TOKENS
    chunk_from_start: bool = False
    pads: Pads = Pads.HIDDEN
    documents: Documents = Documents.SEPARATE
    custom: Custom = Custom.KEPT
    split: int | None = None
    cached: bool = True
    only_held: bool = False

    @classmethod
    def of(cls, mask: MaskSpec) -> Reading:
        """The reading that the declaration means."""
        return cls(mask.window.left, mask.window.right, mask.chunk)


@dataclass(frozen=True, slots=True)
class Frame:
    """The tokens of one batch row in one forward call.

    row: batch row. step: forward call. start: token of the first query. judged: tokens whose queries are judged (real
    tokens). keys: tokens fed so far. query_documents, query_positions, key_documents, key_positions: as in `Row`, each
    over its own sequence. available: the oldest token the cache still returned. black_box: the mask was read from
    outside the call, which cannot see a query's own key nor the keys before `available`. coarse: groups of keys that
    were read together (bitsets); in every mask of the frame all keys of a group are set when any of them is.
    """

    row: int
    step: int
    start: int
    q_len: int
    judged: tuple[int, ...]
    keys: int
    query_documents: tuple[int, ...]
    query_positions: tuple[int, ...]
    key_documents: tuple[int, ...]
    key_positions: tuple[int, ...]
    custom: KeepMask | None = None
    available: int = 0
    black_box: bool = False
    coarse: tuple[int, ...] = ()

    def saturated(self, row: int) -> int:
        """The row as a reading by groups shows it."""
        for group in self.coarse:
            if row & group:
                row |= group
        return row

    def sharp(self, row: int) -> int:
        """The keys of the row that were read one by one."""
        for group in self.coarse:
            row &= ~group
        return row

    def cells(self, row: int) -> int:
        """How many keys or groups of the row are set."""
        return self.sharp(row).bit_count() + sum(row & group != 0 for group in self.coarse)

    @property
    def packed(self) -> bool:
        """True when there is more than one document among the keys."""
        return len(set(self.key_documents[: self.keys]) - {PAD}) > 1

    @property
    def sides_padded(self) -> tuple[bool, bool]:
        """Whether there is padding before, and after, the first real key."""
        bits = _bits(self)
        return bool(bits.left_pads), bool(bits.right_pads)


@dataclass(slots=True)
class _Bits:
    """The bitsets over the keys of a frame that every row is put together from. Built once a frame."""

    real: int
    left_pads: int
    right_pads: int
    mirrored: int
    documents: dict[int, int]
    chunks: dict[int, dict[int, int]]


@lru_cache(maxsize=4096)
def self_frame(layout: Layout, row: int, step: int, available: int = 0) -> Frame:
    """The frame of self-attention: queries are the tokens of `step`, keys are all tokens fed so far."""
    start, stop = layout.steps[step]
    tokens = layout.rows[row]
    return Frame(
        row=row,
        step=step,
        start=start,
        q_len=stop - start,
        judged=tuple(i for i in range(start, stop) if tokens.document[i] != PAD and i not in tokens.unjudged),
        keys=stop,
        query_documents=tokens.document,
        query_positions=tokens.position,
        key_documents=tokens.document,
        key_positions=tokens.position,
        custom=tokens.custom,
        available=available,
    )


@lru_cache(maxsize=1024)
def cross_frame(decoder: Layout, encoder: Layout, row: int, step: int) -> Frame:
    """The frame of cross-attention: queries are the decoder tokens of `step`, keys are all encoder tokens.

    Documents mean nothing across two sequences: every real token counts as of document 0.
    """
    start, stop = decoder.steps[step]
    queries, keys = decoder.rows[row], encoder.rows[row]
    return Frame(
        row=row,
        step=step,
        start=start,
        q_len=stop - start,
        judged=tuple(i for i in range(start, stop) if queries.document[i] != PAD),
        keys=len(keys),
        query_documents=tuple(min(number, 0) for number in queries.document),
        query_positions=queries.position,
        key_documents=tuple(min(number, 0) for number in keys.document),
        key_positions=keys.position,
    )


@lru_cache(maxsize=16384)
def rows_of(frame: Frame, reading: Reading) -> tuple[int, ...]:
    """The bitset row of each judged query of `frame` under `reading`."""
    bits = _bits(frame)
    return tuple(_row(frame, bits, reading, query) for query in frame.judged)


def gives(frame: Frame, reading: Reading, rows: tuple[int, ...]) -> bool:
    """True when `reading` gives exactly these rows; stops at the first row that differs."""
    bits = _bits(frame)
    return all(_row(frame, bits, reading, query) == row for query, row in zip(frame.judged, rows))


def mask_of(frame: Frame, rows: tuple[int, ...]) -> KeepMask:
    """Judged rows as a mask over all queries of the call; rows that are not judged are empty."""
    by_query = dict(zip(frame.judged, rows))
    return KeepMask(tuple(by_query.get(frame.start + i, 0) for i in range(frame.q_len)), frame.keys)


@lru_cache(maxsize=4096)
def _bits(frame: Frame) -> _Bits:
    documents: dict[int, int] = {}
    for key in range(frame.keys):
        number = frame.key_documents[key]
        documents[number] = documents.get(number, 0) | 1 << key
    everything = (1 << frame.keys) - 1
    real = everything & ~documents.get(PAD, 0)
    left_pads = (real & -real) - 1 if real else everything
    mirrored = sum(1 << key for key in range(frame.keys) if real >> frame.keys - 1 - key & 1)
    return _Bits(real, left_pads, everything & ~real & ~left_pads, mirrored, documents, {})


def _row(frame: Frame, bits: _Bits, reading: Reading, query: int) -> int:
    keep = _reachable(frame, bits, reading, query)
    centre = query + reading.shift
    if reading.diagonal is Diagonal.TOP_LEFT:
        centre -= frame.start - frame.available
    if reading.only_held:
        keep &= ~((1 << frame.available) - 1)
    if reading.left is not None and centre > reading.left:
        keep &= ~((1 << centre - reading.left) - 1)
    custom = frame.custom if reading.custom is not Custom.DROPPED else None
    if custom is not None:
        kept = custom.rows[query]
        keep &= ~kept if reading.custom is Custom.INVERTED else kept
    if reading.right is not None and (custom is None or reading.custom is Custom.CAUSAL_TOO):
        keep &= (1 << max(0, centre + reading.right + 1)) - 1
    if reading.chunk is not None:
        keep &= _chunk(frame, bits, reading, query)
    if reading.split is not None:
        before = (1 << reading.split) - 1
        keep &= ~before if query >= reading.split else before
    if not reading.cached:
        keep &= ~((1 << frame.start) - 1)
    return frame.saturated(keep) if frame.coarse else keep


def _reachable(frame: Frame, bits: _Bits, reading: Reading, query: int) -> int:
    if reading.pads is Pads.MIRRORED:
        return bits.mirrored
    separate = reading.documents is Documents.SEPARATE
    keep = bits.documents.get(frame.query_documents[query], 0) if separate else bits.real
    if reading.pads in (Pads.VISIBLE, Pads.LEFT_VISIBLE):
        keep |= bits.left_pads
    if reading.pads in (Pads.VISIBLE, Pads.RIGHT_VISIBLE):
        keep |= bits.right_pads
    return keep


def _chunk(frame: Frame, bits: _Bits, reading: Reading, query: int) -> int:
    size = reading.chunk or 1
    if reading.chunk_from_start or reading.documents is Documents.MERGED_CHUNKS:
        return ((1 << size) - 1) << query // size * size
    if size not in bits.chunks:
        chunks: dict[int, int] = {}
        for key in range(frame.keys):
            number = frame.key_positions[key] // size
            chunks[number] = chunks.get(number, 0) | 1 << key
        bits.chunks[size] = chunks
    return bits.chunks[size].get(frame.query_positions[query] // size, 0)
