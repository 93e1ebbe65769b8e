"""How the tokens of a probe lie: padding, documents, positions, and which forward call each token comes in."""

from __future__ import annotations

from dataclasses import dataclass

from attncheck.semantics.keepmask import KeepMask

PAD = -1


@dataclass(frozen=True, slots=True)
class Row:
    """One batch row, token by token over the whole sequence.

    document: number of the document each token belongs to, `PAD` for padding.
    position: distance of each token from the start of its document, 0 for padding.
    custom: the mask the caller asked for on top of the model's own, over the whole sequence
    (len x len), or None. Where `custom` is set it replaces causality: a key it keeps may lie in the future.
    unjudged: real tokens of which nothing says what they may see (image tokens); as keys they count like any other.
    """

    document: tuple[int, ...]
    position: tuple[int, ...]
    custom: KeepMask | None = None
    unjudged: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if len(self.document) != len(self.position):
            raise ValueError(f"{len(self.document)} documents for {len(self.position)} positions")

    def __len__(self) -> int:
        return len(self.document)


@dataclass(frozen=True, slots=True)
class Layout:
    """The rows of a probe (all of one length) and the forward calls that feed them.

    steps: half-open token ranges, one per forward call, in order: `((0, 16), (16, 17))` is a prompt of 16 and one
    decoded token. before: forward calls that were over before anybody looked (a cache that was handed in full).
    """

    rows: tuple[Row, ...]
    steps: tuple[tuple[int, int], ...]
    before: int = 0

    def __post_init__(self) -> None:
        if len({len(row) for row in self.rows}) != 1:
            raise ValueError("all rows of a layout have the same length")
        if not self.steps or self.steps[0][0] != 0 or self.steps[-1][1] != len(self.rows[0]):
            raise ValueError(f"the steps {self.steps} do not cover the {len(self.rows[0])} tokens")

    @property
    def length(self) -> int:
        """Tokens in each row, over all steps."""
        return len(self.rows[0])


def sequence(length: int) -> Row:
    """A row of one document without padding."""
    return Row((0,) * length, tuple(range(length)))


def left_padded(length: int, pads: int) -> Row:
    """A row whose first `pads` tokens are padding."""
    return Row((PAD,) * pads + (0,) * (length - pads), (0,) * pads + tuple(range(length - pads)))


def right_padded(length: int, pads: int) -> Row:
    """A row whose last `pads` tokens are padding."""
    return Row((0,) * (length - pads) + (PAD,) * pads, tuple(range(length - pads)) + (0,) * pads)


def documents(*lengths: int) -> Row:
    """A row of several documents one after another."""
    return Row(
        tuple(number for number, length in enumerate(lengths) for _ in range(length)),
        tuple(position for length in lengths for position in range(length)),
    )
