"""What a user's batch says about its tokens: padding, documents, a mask of its own, what a cache already holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attncheck.errors import UsageError
from attncheck.probe.reading.kernel import bitsets
from attncheck.probe.reading.requested import FORBIDS
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import PAD, Layout, Row

#: Names under which callers hand over where documents end in a flattened batch (cumulated lengths, from 0).
CUMULATED = ("cu_seq_lens_q", "cu_seqlens_q", "cu_seq_lens", "cu_seqlens")
#: The same as plain lengths.
LENGTHS = ("packed_seq_lengths", "seq_lengths")
#: Number of the document each token belongs to.
NUMBERS = ("seq_idx", "segment_ids", "document_ids")
#: Token types: anything but 0 is no plain text token.
TYPES = ("mm_token_type_ids", "token_type_ids")
CACHES = ("past_key_values", "past_key_value", "cache_params")


@dataclass(frozen=True, slots=True)
class Said:
    """What a batch says. decoder, encoder: layouts as in `ScenarioRun`. words: the batch for the report's header.

    packed: some row holds several documents. remarks: what about the batch cannot be judged, and why.
    """

    decoder: Layout | None
    encoder: Layout | None
    words: str
    packed: bool = False
    remarks: tuple[str, ...] = ()


def read(batch: Mapping[str, Any], *, two_stacks: bool, encoder: bool, vision: bool) -> Said:
    """The layouts of a batch of keyword arguments.

    two_stacks: an encoder-decoder. encoder: the single stack is an encoder. vision: the model takes images, so that
    token types mark image tokens, whose queries nobody can judge. Raises UsageError for a batch without tokens.
    """
    remarks: list[str] = []
    if two_stacks:
        source = _layout(batch, "", 0, False, remarks)
        main = _layout(batch, "decoder_", held(batch), False, remarks, fallback="labels")
        return Said(main, source, _words(batch, main), _packed(main), tuple(remarks))
    main = _layout(batch, "", held(batch), vision, remarks)
    layouts = {"decoder": None, "encoder": main} if encoder else {"decoder": main, "encoder": None}
    return Said(**layouts, words=_words(batch, main), packed=_packed(main), remarks=tuple(remarks))


def held(batch: Mapping[str, Any]) -> int:
    """Tokens that the cache of the batch holds already."""
    for name in CACHES:
        cache = batch.get(name)
        if cache is None:
            continue
        length = getattr(cache, "get_seq_length", None)
        if callable(length):
            return int(length())
        if isinstance(cache, tuple | list) and cache and isinstance(cache[0], tuple | list):
            return int(cache[0][0].shape[-2])
    return 0


def held_bytes(batch: Mapping[str, Any]) -> int:
    """Bytes of the keys and values that the cache of the batch holds."""
    total = 0
    for name in CACHES:
        cache = batch.get(name)
        for layer in getattr(cache, "layers", None) or (cache if isinstance(cache, tuple | list) else ()):
            pair = (
                layer
                if isinstance(layer, tuple | list)
                else (getattr(layer, "keys", None), getattr(layer, "values", None))
            )
            total += sum(x.numel() * x.element_size() for x in pair if isinstance(x, Tensor))
    return total


def size_of(batch: Mapping[str, Any], prefix: str = "", fallback: str = "") -> tuple[int, int]:
    """Batch rows and tokens. Raises UsageError where the batch holds neither token ids nor embeddings."""
    for name in (f"{prefix}input_ids", f"{prefix}inputs_embeds", fallback):
        given = batch.get(name)
        if isinstance(given, Tensor) and given.dim() >= 2:
            return int(given.shape[0]), int(given.shape[1])
    raise UsageError(
        f"verify: the batch holds no {prefix}input_ids and no {prefix}inputs_embeds of shape (rows, tokens)",
        "pass the keyword arguments of one forward call, as the data loader or tokenizer gives them",
    )


def outside(batch: Mapping[str, Any], vocabulary: int) -> str:
    """The first token id that has no embedding, in words; "" where all have one. vocabulary: as in `LiveFacts`."""
    ids = batch.get("input_ids")
    if not vocabulary or not isinstance(ids, Tensor) or ids.dim() != 2 or ids.is_floating_point() or ids.is_meta:
        return ""
    strange = ((ids < 0) | (ids >= vocabulary)).nonzero()
    if not len(strange):
        return ""
    row, token = strange[0].tolist()
    return f"{int(ids[row, token])} (row {row}, token {token}); the model has embeddings for 0 to {vocabulary - 1}"


def _layout(
    batch: Mapping[str, Any], prefix: str, past: int, vision: bool, remarks: list[str], fallback: str = ""
) -> Layout:
    rows, tokens = size_of(batch, prefix, fallback)
    total = past + tokens
    mask = batch.get(f"{prefix}attention_mask")
    custom: list[KeepMask | None] = [None] * rows
    document = torch.zeros(rows, total, dtype=torch.long)
    if isinstance(mask, Tensor) and mask.dim() == 2:
        document = _by_mask(mask, rows, total, remarks)
    elif mask is not None:
        custom = _custom(mask, rows, tokens, total, remarks)
    # A mask of the caller's says all; positions then need not mean documents (trees of drafted tokens).
    if all(keep is None for keep in custom) and not past:
        document = _split(document, batch, prefix, rows, total)
    unjudged = _image_tokens(batch, rows, total, past) if vision else [frozenset[int]()] * rows
    made = tuple(
        Row(tuple(numbers), _positions(numbers), keep, hidden)
        for numbers, keep, hidden in zip(document.tolist(), custom, unjudged)
    )
    steps = ((0, past), (past, total)) if past else ((0, total),)
    return Layout(made, steps, before=1 if past else 0)


def _by_mask(mask: Tensor, rows: int, total: int, remarks: list[str]) -> Tensor:
    """Documents by a 2D mask: 0 is padding, other numbers tell documents apart (1, 1, 2, 2)."""
    given = mask.detach().to("cpu").long()
    if given.shape[0] != rows or given.shape[1] < total:
        remarks.append(f"attention_mask of shape {tuple(mask.shape)} beside {rows} rows of {total} tokens was not read")
        return torch.zeros(rows, total, dtype=torch.long)
    given = given[:, :total]
    return torch.where(given == 0, PAD, given - 1)


def _split(document: Tensor, batch: Mapping[str, Any], prefix: str, rows: int, total: int) -> Tensor:
    """The documents of rows that hold several: by positions that start again, by lengths, or by numbers."""
    real = document != PAD
    starts = torch.zeros_like(real)
    positions = batch.get(f"{prefix}position_ids")
    if isinstance(positions, Tensor) and positions.dim() in (1, 2) and positions.shape[-1] == total:
        given = positions.detach().to("cpu").expand(rows, total)
        back = given[:, 1:] < given[:, :-1]
        starts[:, 1:] |= back & real[:, 1:] & real[:, :-1]
    if not prefix:
        for end in _ends(batch, total):
            starts[:, end] = True
        for name in NUMBERS:
            number = batch.get(name)
            if isinstance(number, Tensor) and tuple(number.shape) == (rows, total):
                given = number.detach().to("cpu")
                starts[:, 1:] |= given[:, 1:] != given[:, :-1]
    if not bool(starts.any()):
        return document
    numbers = document.clamp(min=0) * (total + 1) + starts.cumsum(1)
    return torch.where(real, numbers, PAD)


def _ends(batch: Mapping[str, Any], total: int) -> list[int]:
    """First tokens of the second and later documents of a flattened batch."""
    for name in CUMULATED:
        given = batch.get(name)
        if isinstance(given, Tensor):
            return [end for end in given.detach().flatten().tolist() if 0 < end < total]
    for name in LENGTHS:
        given = batch.get(name)
        if given is not None:
            lengths = torch.as_tensor(given).detach().to("cpu").flatten()
            return [int(end) for end in lengths.cumsum(0).tolist() if 0 < end < total]
    return []


def _custom(mask: Any, rows: int, tokens: int, total: int, remarks: list[str]) -> list[KeepMask | None]:
    """The caller's own mask, one a row, over the whole sequence; the rows of tokens that are past keep everything."""
    nothing: list[KeepMask | None] = [None] * rows
    dense = _dense(mask, rows, tokens, total)
    if dense is None:
        remarks.append(
            f"attention_mask ({_kind(mask)}) cannot be laid beside the tokens; what it asks for was not judged"
        )
        return nothing
    words = bitsets(dense.reshape(-1, total))
    everything = (1 << total) - 1
    before = (everything,) * (total - tokens)
    return [KeepMask((*before, *words[row * tokens : (row + 1) * tokens]), total) for row in range(rows)]


def _dense(mask: Any, rows: int, tokens: int, total: int) -> Tensor | None:
    """Rows x tokens x total booleans of a 4D mask that is the same for all heads; None for any other."""
    if isinstance(mask, Tensor) and mask.dim() == 4 and mask.shape[-2] == tokens and mask.shape[-1] >= total:
        keep = (mask > FORBIDS if mask.is_floating_point() else mask.bool())[..., :total]
        if mask.shape[0] in (1, rows) and bool((keep == keep[:, :1]).all()):
            return keep[:, 0].expand(rows, tokens, total).to("cpu")
    return None


def unreadable(mask: Any) -> bool:
    """True for a mask argument whose meaning cannot be laid beside the tokens."""
    if mask is None or (isinstance(mask, Tensor) and mask.dim() == 2):
        return False
    return not (isinstance(mask, Tensor) and mask.dim() == 4)


def _image_tokens(batch: Mapping[str, Any], rows: int, total: int, past: int) -> list[frozenset[int]]:
    """Tokens that are no plain text, by the token types that come with images."""
    for name in TYPES:
        given = batch.get(name)
        if isinstance(given, Tensor) and given.dim() == 2 and given.shape[0] == rows:
            marked = given.detach().to("cpu") != 0
            return [frozenset((row.nonzero().flatten() + past).tolist()) for row in marked]
    return [frozenset()] * rows


def _positions(numbers: list[int]) -> tuple[int, ...]:
    """Distance of each token from the start of its document; 0 for padding."""
    found, start, current = [], 0, None
    for token, number in enumerate(numbers):
        if number != current:
            start, current = token, number
        found.append(0 if number == PAD else token - start)
    return tuple(found)


def _packed(layout: Layout) -> bool:
    return any(len(set(row.document) - {PAD}) > 1 for row in layout.rows)


def _words(batch: Mapping[str, Any], layout: Layout) -> str:
    """`2 x 2048 tokens, 37 of them padding, 5 documents, attention_mask, position_ids`."""
    rows = layout.rows
    pads = sum(row.document.count(PAD) for row in rows)
    documents = max(len(set(row.document) - {PAD}) for row in rows)
    words = [f"{len(rows)} x {layout.length} tokens"]
    words += [f"{pads} of them padding"] if pads else []
    words += [f"up to {documents} documents a row"] if documents > 1 else []
    words += [f"{layout.steps[0][1]} of them in a cache"] if layout.before else []
    named = [
        name for name in ("attention_mask", "position_ids", "labels", *CUMULATED, *LENGTHS, *NUMBERS) if name in batch
    ]
    return ", ".join(
        [*words, *(f"{name} ({_kind(batch[name])})" if name == "attention_mask" else name for name in named)]
    )


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dim()}D {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__
