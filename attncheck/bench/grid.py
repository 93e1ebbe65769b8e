"""Which cases to time: sizes, masks, lengths and passes of a model, of a preset or of the standard grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from attncheck.semantics.shape import Shape, declared_shape
from attncheck.semantics.spec import CAUSAL, FULL, Part, Window
from attncheck.semantics.timing import BenchCase
from attncheck.semantics.workload import cells
from attncheck.verdicts import LayerGroup

#: Lengths in tokens when nobody says; a CPU takes seconds for the long ones.
LENGTHS, LENGTHS_ON_CPU = (1024, 4096, 16384, 32768), (256, 512, 1024)
#: The standard grid of the flash-attention papers: tokens of a call, and query heads times head_dim.
TOKENS, WIDTH = 16384, 2048
#: Tokens of a call on a CPU, which would take minutes for a cell of the papers' grid.
TOKENS_ON_CPU = 1024
HEAD_DIMS = (64, 128, 256)
#: Rows of padded inputs, so that there is padding at all.
PADDED_ROWS = 2


@dataclass(frozen=True, slots=True)
class Attention:
    """One kind of attention to time. layer: index of the real layer that stands for it, None without a model."""

    shape: Shape
    layer: int | None = None
    part: Part = Part.DECODER

    @property
    def mask(self) -> str:
        """What the rows see, in words."""
        return mask_words(self.shape.window, self.shape.chunk)


@dataclass(frozen=True, slots=True)
class Grid:
    """Cases as a product: every attention at every length, in every phase, pass and kind of inputs.

    tokens: of a call; each call has as many rows as make them, at least one. batch: rows of a call, None: by `tokens`,
    one without. lengths: keys. passes: out of "forward", "backward" (of prefill only).
    """

    attentions: tuple[Attention, ...]
    lengths: tuple[int, ...]
    phases: tuple[str, ...] = ("prefill",)
    passes: tuple[str, ...] = ("forward", "backward")
    inputs: tuple[str, ...] = ("plain",)
    tokens: int | None = None
    batch: int | None = None

    def rows(self, length: int) -> int:
        """Sequences a call."""
        if self.batch is not None:
            return self.batch
        return max(1, self.tokens // length) if self.tokens is not None else 1


def cases(grid: Grid, level: str, subject: str) -> Iterator[tuple[BenchCase, Attention]]:
    """Every case of one subject, short ones first; decode, and layers with chunks, with plain inputs only."""
    for length in sorted(set(grid.lengths)):
        for attention in grid.attentions:
            for phase in grid.phases:
                decode = phase == "decode"
                for inputs in ("plain",) if decode or attention.shape.chunk is not None else grid.inputs:
                    for backward in (False,) if decode else tuple(name == "backward" for name in grid.passes):
                        if decode and attention.shape.chunk is not None:
                            continue
                        yield _case(grid, level, subject, attention, length, phase, inputs, backward), attention


def _case(
    grid: Grid, level: str, subject: str, attention: Attention, length: int, phase: str, inputs: str, backward: bool
) -> BenchCase:
    shape = attention.shape
    rows = grid.rows(length)
    case = BenchCase(
        level=level,
        subject=subject,
        phase=phase,
        backward=backward,
        inputs=inputs,
        batch=max(rows, PADDED_ROWS) if inputs == "padded" else rows,
        q_len=1 if phase == "decode" else length,
        kv_len=length,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        head_dim_v=shape.head_dim_v,
        dtype=shape.dtype,
        window=shape.window,
        mask=attention.mask,
        softcap=shape.softcap,
        scale=shape.scale,
        chunk=shape.chunk,
        sinks=shape.sinks,
        alibi=shape.alibi,
    )
    return replace(case, cells=cells(case))


def mask_words(window: Window, chunk: int | None = None) -> str:
    """What rows see: "causal", "full", "window 4096" (keys, the query's own included), "window 8 back, 3 ahead" ..."""
    if chunk is not None:
        return f"chunk {chunk}"
    if window == CAUSAL:
        return "causal"
    if window == FULL:
        return "full"
    if window.right == 0 and window.left is not None:
        return f"window {window.left + 1}"
    sides = ("unbounded" if side is None else str(side) for side in (window.left, window.right))
    return "window {} back, {} ahead".format(*sides)


def window_of(mask: str) -> Window:
    """The other way round, for "causal", "full" and "window N"."""
    if mask.startswith("window "):
        return Window(int(mask.removeprefix("window ")) - 1, 0)
    return {"causal": CAUSAL, "full": FULL}[mask]


def standard(masks: Sequence[str], dtype: str) -> tuple[Attention, ...]:
    """The attentions of the standard grid: 2048 channels in heads of 64, 128 and 256."""
    return tuple(plain_attention(WIDTH // head_dim, head_dim, mask, dtype) for head_dim in HEAD_DIMS for mask in masks)


def plain_attention(num_heads: int, head_dim: int, mask: str, dtype: str, num_kv_heads: int | None = None) -> Attention:
    """Attention without further terms. mask: as of `window_of`."""
    window = window_of(mask)
    return Attention(Shape(num_heads, num_kv_heads or num_heads, head_dim, head_dim, window=window, dtype=dtype))


def of_model(groups: Sequence[LayerGroup], dtype: str) -> tuple[tuple[Attention, ...], tuple[str, ...]]:
    """(the distinct attentions of a model's layers, why some layers have none in words).

    A layer that declares something nobody knows, or no sizes, is left out.
    """
    found: dict[tuple[Shape, Part], Attention] = {}
    left_out: list[str] = []
    for group in groups:
        spec = group.spec
        if not spec.attends:
            continue
        shape = declared_shape(spec, dtype)
        if shape is None or group.part is Part.CROSS:
            why = "cross-attention" if group.part is Part.CROSS else "sizes or mask are not declared"
            left_out.append(f"{group.part.value} layers {', '.join(map(str, group.layers))}: {why}")
            continue
        found.setdefault((shape, group.part), Attention(shape, group.layers[0], group.part))
    return tuple(found.values()), tuple(left_out)
