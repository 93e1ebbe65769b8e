"""The defects of Unsloth's fast path, with the releases that have them, as data read in their sources.

Checked against the released wheels, both ends of every row, like `unsloth_history`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attncheck.frameworks.unsloth_history import FLASH, KERNELS, LLAMA, MISTRAL, SDPA, FastType, Span


@dataclass(frozen=True, slots=True)
class Defect:
    """A defect of the fast path.

    families: whose attention forward has it; model_types: narrower, () for all of the family. kernels: with which it
    shows. mode: "train", "eval" or "" for both. windowed: only where the config declares a window; packed: only for
    packed batches. slug: of what it does. text: a clause with {version} and {window}, the declared `sliding_window`.
    mended: the first release without it, "" where there is none. source: file, and thread where there is one.
    """

    name: str
    span: Span
    families: tuple[str, ...]
    slug: str
    text: str
    source: str
    model_types: tuple[str, ...] = ()
    kernels: tuple[str, ...] = KERNELS
    mode: str = ""
    windowed: bool = False
    packed: bool = False
    mended: str = ""


_ALL = ("llama", "mistral", "qwen3", "gemma2", "falcon_h1")
_FULL = "trains with fully bidirectional attention: SDPA gets neither a mask nor is_causal"
_NO_BACKEND = "when neither flash-attn nor xformers can be used"

DEFECTS = (
    Defect(
        "bidirectional-llama",
        Span("2025.2.2", "2025.7.1"),
        ("llama",),
        "causal-ignored",
        f"{_FULL} ({_NO_BACKEND})",
        f"{LLAMA}, LlamaAttention_fast_forward; unsloth PR #2868",
        kernels=(SDPA,),
        mended="2025.7.2",
    ),
    Defect(
        "bidirectional-qwen3",
        Span("2025.7.2", "2025.8.9"),
        ("qwen3",),
        "causal-ignored",
        f"{_FULL} ({_NO_BACKEND})",
        "models/qwen3.py, Qwen3Attention_fast_forward",
        kernels=(SDPA,),
        mended="2025.8.10",
    ),
    Defect(
        "bidirectional-mistral",
        Span("2025.7.2", "2025.12.1"),
        ("mistral",),
        "causal-ignored",
        f"{_FULL} ({_NO_BACKEND}; the mask that the causal-LM forward makes is dropped again in training)",
        f"{MISTRAL}, MistralAttention_fast_forward; {LLAMA}, LlamaModel_fast_forward",
        kernels=(SDPA,),
        mode="train",
        mended="2025.12.4",
    ),
    Defect(
        "window-plus-one",
        Span("2024.8", "2026.10.3"),
        ("mistral",),
        "window-off-by-one",
        "hands flash-attn window_size=({window}, {window}), whose left end is inclusive: one key more than declared",
        f"{MISTRAL}, MistralAttention_fast_forward",
        kernels=(FLASH,),
        windowed=True,
        mended="2026.10.4",
    ),
    Defect(
        "window-plus-one-gemma2",
        Span("2024.8", "2026.10.5"),
        ("gemma2",),
        "window-off-by-one",
        "hands flash-attn window_size=({window}, {window}), whose left end is inclusive: one key more than declared",
        "models/gemma2.py, Gemma2Attention_fast_forward",
        kernels=(FLASH,),
        windowed=True,
        mended="2026.10.6",
    ),
    Defect(
        "window-ignored-mistral-sdpa",
        Span("2025.12.4", "2026.8.9"),
        ("mistral",),
        "window-ignored",
        "attends the whole history in training: SDPA gets no window",
        f"{MISTRAL}, MistralAttention_fast_forward; unsloth#8253",
        kernels=(SDPA,),
        mode="train",
        windowed=True,
        mended="2026.8.10",
    ),
    Defect(
        "window-ignored",
        Span(),
        ("llama",),
        "window-ignored",
        "has no sliding window in training: the Llama forward, which it uses, hands none to any kernel",
        f"{LLAMA}, LlamaAttention_fast_forward",
        model_types=("qwen2",),
        mode="train",
        windowed=True,
    ),
    Defect(
        "window-ignored-qwen3",
        Span("2025.12.4"),
        ("qwen3",),
        "window-ignored",
        "has no sliding window in training: its forward hands none to any kernel",
        "models/qwen3.py, Qwen3Attention_fast_forward",
        mode="train",
        windowed=True,
    ),
    Defect(
        "window-by-mask",
        Span(),
        ("llama", "qwen3"),
        "window-unexpected",
        "applies the window in eval mode only when a 2D attention_mask is passed, and then to every layer, whatever "
        "layer_types or max_window_layers say",
        f"{LLAMA}, LlamaModel_fast_forward",
        model_types=("qwen2", "qwen3"),
        mode="eval",
        windowed=True,
    ),
    Defect(
        "mask-window-plus-one",
        Span(last="2026.10.6"),
        ("llama", "qwen3"),
        "window-off-by-one",
        "makes the masks of eval mode with one key more than the window of {window}",
        f"{LLAMA}, LlamaModel_fast_forward",
        model_types=("qwen2", "qwen3"),
        mode="eval",
        windowed=True,
        mended="2026.10.7",
    ),
    Defect(
        "packed-unknown",
        Span("2024.8", "2025.12.1"),
        _ALL,
        "packing-leak",
        "knows no packed batches: documents of one row attend to each other",
        f"{LLAMA}, LlamaModel_fast_forward",
        packed=True,
        mended="2025.12.4",
    ),
    Defect(
        "packed-window",
        Span("2025.12.4", "2026.10.3"),
        ("mistral",),
        "packing-leak",
        "leaves the variable-length kernel for packed rows longer than the window of {window}: documents attend to "
        "each other within it",
        f"{MISTRAL}, MistralAttention_fast_forward",
        kernels=(FLASH,),
        windowed=True,
        packed=True,
        mended="2026.10.4",
    ),
    Defect(
        "packed-positions",
        Span("2025.12.4", "2026.10.7"),
        _ALL,
        "packing-leak",
        "takes documents from packed_seq_lengths only: batches that mark them by position_ids leak across documents",
        f"{LLAMA}, LlamaModel_fast_forward",
        packed=True,
        mended="2026.10.8",
    ),
)


def defects(row: FastType, version: str) -> Iterator[Defect]:
    """The defects of a model type's forward in a release, whatever the kernel, mode and config."""
    for defect in DEFECTS:
        types = defect.model_types or (row.model_type,)
        if row.family in defect.families and row.model_type in types and defect.span.holds(version):
            yield defect
