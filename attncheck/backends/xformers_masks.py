"""xformers' mask classes: which one says an `Ask`, how their users write a window, and how one is built for a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attncheck.backends.interface import Ask, Spelling
from attncheck.semantics.observation import Reason, Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window

SOURCE = "xformers 0.0.35 ops/fmha/attn_bias.py"
_BLOCKS = "BlockDiagonalMask"
_PADDED_BLOCKS = "BlockDiagonalPaddedKeysMask"


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask object that is made once the tensors are there.

    name: class of `xformers.ops.fmha.attn_bias`. arguments: of its constructor; the block-diagonal classes get the
    lengths of the call instead, one block a batch row. then: (method, arguments) called one after the other on it.
    """

    name: str
    arguments: tuple[int, ...] = ()
    then: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __str__(self) -> str:
        inner = ", ".join(map(str, self.arguments))
        made = f"{self.name}.from_seqlens(...)" if self.in_blocks else f"{self.name}({inner})"
        return made + "".join(f".{method}({', '.join(map(str, values))})" for method, values in self.then)

    @property
    def in_blocks(self) -> bool:
        """True when all batch rows lie one after the other in a single row, each a block of the mask."""
        return self.name.startswith("BlockDiagonal")

    def build(self, batch: int, q_len: int, kv_len: int, device: Any) -> Any:
        """The object of xformers. Raises what its classes raise for lengths they do not take."""
        from xformers.ops.fmha import attn_bias

        kind = getattr(attn_bias, self.name)
        made = self._blocks(attn_bias, batch, q_len, kv_len, device) if self.in_blocks else kind(*self.arguments)
        for method, values in self.then:
            made = getattr(made, method)(*values)
        return made

    def _blocks(self, attn_bias: Any, batch: int, q_len: int, kv_len: int, device: Any) -> Any:
        queries, keys = [q_len] * batch, [kv_len] * batch
        kind = getattr(attn_bias, self.name)
        if device.type != "cpu":
            lengths = (queries, kv_len, keys) if self.name == _PADDED_BLOCKS else (queries, keys)
            return kind.from_seqlens(*lengths, device=device)
        # `from_seqlens` of 0.0.35 pins memory, which raises on a machine without a GPU: fill in what it would make.
        import torch

        q_info, k_info = (_lengths(torch, attn_bias._SeqLenInfo, part) for part in (queries, keys))
        if self.name == _PADDED_BLOCKS:
            k_info = _lengths(torch, attn_bias._PaddedSeqLenInfo, keys, padding=kv_len)
        return kind(q_seqinfo=q_info, k_seqinfo=k_info)


def _lengths(torch: Any, kind: Any, lengths: list[int], padding: int | None = None) -> Any:
    starts = [sum(lengths[:count]) for count in range(len(lengths) + 1)]
    fields = {
        "seqstart": torch.tensor(starts, dtype=torch.int32),
        "max_seqlen": max(lengths),
        "min_seqlen": min(lengths),
        "seqstart_py": starts,
    }
    if padding is not None:
        fields |= {"seqlen": torch.tensor(lengths, dtype=torch.int32), "seqlen_py": lengths, "padding": padding}
    return kind(**fields)


def chosen(ask: Ask, q_len: int, kv_len: int) -> Mask | Rejected | None:
    """The class that says the window of `Ask`; None: no mask is needed; Rejected: no class says it."""
    window = ask.window
    if window == FULL:
        return None
    if ask.alignment is Alignment.BOTTOM_RIGHT or q_len == kv_len:
        if window == CAUSAL:
            return Mask("LowerTriangularFromBottomRightMask")
        if window.right == 0 and window.left is not None:
            return Mask("LowerTriangularFromBottomRightMask", then=(("make_local_attention", (window.left + 1,)),))
        beyond = q_len + kv_len  # no class says "unbounded on one side only": farther than any key is as good
        sides = (beyond if side is None else side for side in (window.left, window.right))
        return Mask("LocalAttentionFromBottomRightMask", tuple(sides))
    if window == CAUSAL:
        return Mask("LowerTriangularMask")
    if window.right == 0 and window.left is not None:
        return Mask(_BLOCKS, then=(("make_local_attention", (window.left + 1,)),))
    actual = f"top-left, {q_len} x {kv_len}, {window.right} ahead"
    limit = "bottom-right alignment, or no key ahead of the diagonal"
    return Rejected((Reason("no mask class of xformers says this", limit, actual, SOURCE),))


def _row(
    question: str, mask: Mask | None, promise: Window, alignment: Alignment | None = None, where: str = ""
) -> Spelling:
    """One row, read at unequal lengths too where an alignment is promised. where: class whose docstring promises it."""
    name = where or (mask.name if mask is not None else "memory_efficient_attention")
    lengths = ((32, 64), (64, 32)) if alignment is not None else ()
    text, number, pattern = f"attn_bias={mask}", None, ""
    if question == "window" and mask is not None:
        number = (mask.then[-1][1] if mask.then else mask.arguments)[0]
        before, _, after = text.rpartition(f"({number}")
        pattern = f"{before}({{}}{after}"
    source = f"{SOURCE}, {name}"
    return Spelling(question, text, {"attn_bias": mask}, promise, alignment, source, lengths, number, pattern)


_TOP, _BOTTOM = Alignment.TOP_LEFT, Alignment.BOTTOM_RIGHT
_LOWER, _LOCAL = "LowerTriangularFromBottomRightMask", "LocalAttentionFromBottomRightMask"

#: Promises are those of the classes' docstrings: "greater than or equal to X + window_size" is hidden (window_size keys
#: are left), "q - window_left <= k + s <= q + window_right" is visible (window_left + 1 keys).
SPELLINGS = (
    _row("window", Mask(_LOWER, then=(("make_local_attention", (8,)),)), Window(7, 0), _BOTTOM),
    _row("window", Mask(_LOCAL, (7, 0)), Window(7, 0), _BOTTOM),
    _row("window", Mask(_LOCAL, (8, 0)), Window(8, 0), _BOTTOM),
    _row(
        "window",
        Mask(_BLOCKS, then=(("make_local_attention", (8,)),)),
        Window(7, 0),
        _TOP,
        "BlockDiagonalCausalLocalAttentionMask",
    ),
    _row(
        "window",
        Mask(_BLOCKS, then=(("make_local_attention_from_bottomright", (8,)),)),
        Window(7, 0),
        _BOTTOM,
        "BlockDiagonalCausalLocalAttentionFromBottomRightMask",
    ),
    _row(
        "window",
        Mask(_PADDED_BLOCKS, then=(("make_local_attention", (8, 0)),)),
        Window(8, 0),
        _BOTTOM,
        "BlockDiagonalLocalAttentionPaddedKeysMask",
    ),
    _row("two-sided", Mask(_LOCAL, (8, 3)), Window(8, 3), _BOTTOM),
    _row("unbounded", None, FULL),
    _row("unbounded", Mask(_BLOCKS), FULL),
    _row("causal", Mask("LowerTriangularMask"), CAUSAL, _TOP),
    _row("causal", Mask(_LOWER), CAUSAL, _BOTTOM),
    _row("causal", Mask(_BLOCKS, then=(("make_causal", ()),)), CAUSAL, _TOP, "BlockDiagonalCausalMask"),
    _row(
        "causal",
        Mask(_BLOCKS, then=(("make_causal_from_bottomright", ()),)),
        CAUSAL,
        _BOTTOM,
        "BlockDiagonalCausalFromBottomRightMask",
    ),
)
