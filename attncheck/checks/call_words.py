"""An attention call of a running script in words: its arguments, and which keys it lets be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attncheck.semantics import describe
from attncheck.semantics.hypotheses import Sample, infer
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layer_masks import gather
from attncheck.semantics.layout import Layout, Row, sequence
from attncheck.semantics.observation import CallObservation, HeadMask, Method
from attncheck.semantics.reading import Diagonal, Reading, gives
from attncheck.semantics.spec import MaskSpec, Part
from attncheck.semantics.watched import WatchedCall

#: Tokens of a sequence that is laid out to describe a mask.
_LONGEST = 65_536


def arguments(call: WatchedCall) -> str:
    """The arguments that decide which keys are seen."""
    words = ["no mask" if call.mask_kind == "none" else f"a {call.mask_kind} mask"]
    if call.mask_kind != "none" and call.mask_hides is False:
        words[0] += " that hides nothing"
    if call.is_causal is not None:
        words.append(f"is_causal={call.is_causal}")
    if call.window:
        words.append(f"window {call.window}")
    return ", ".join(words)


def reach(mask: HeadMask) -> str:
    """How far queries see, counted from the diagonal that ends at the last key."""
    offset = mask.keep.kv_len - mask.keep.q_len
    alone = ~sum(mask.coarse)  # keys that were read together say nothing about distances
    left, right = KeepMask(tuple(row & alone for row in mask.keep.rows), mask.keep.kv_len).reach(offset)
    return "sees nothing" if left is None else f"reaches {left} back and {right} ahead"


def observation(call: WatchedCall, step: int) -> CallObservation:
    """The call as the rules about layers know it; batch rows are numbered as in the layout of the rows that were read."""
    number = {row: index for index, row in enumerate(call.rows)}
    heads = tuple(range(call.num_heads))
    return CallObservation(
        part=call.part or Part.DECODER,
        layer=call.layer or 0,
        step=step,
        module=call.module_class,
        method=Method.IDENTITY,
        q_len=call.q_len,
        masks=tuple(replace(mask, row=number[mask.row], heads=mask.heads or heads) for mask in call.seen),
        num_heads=call.num_heads,
    )


def sees(call: WatchedCall, declared: MaskSpec | None = None) -> str:
    """Which keys the queries see, in words: a rule that gives every cell where there is one.

    declared: tried first, as one query alone sees the same under many rules.
    """
    if not call.seen:
        return ""
    samples = tuple(_samples(call))
    if samples and (text := _rule(samples, declared)):
        return text
    if call.mask_kind != "none" and call.asked and {m.keep for m in call.seen} == {m.keep for m in call.asked}:
        return "what its mask leaves"
    return reach(call.seen[0])


def _rule(samples: tuple[Sample, ...], declared: MaskSpec | None) -> str:
    frames = [frame for frame, _ in samples]
    first = [] if declared is None else [Reading.of(declared)]
    for how in (*first, Reading(None, None, None), Reading(None, 0, None)):
        if all(gives(frame, how, rows) for frame, rows in samples):
            return describe.reading(how, frames)
    spec = infer(samples)
    if spec is not None:
        return describe.reading(Reading.of(spec), frames)
    top_left = Reading(None, 0, None, diagonal=Diagonal.TOP_LEFT)
    if all(gives(frame, top_left, rows) for frame, rows in samples):
        return describe.reading(top_left, frames)
    return ""


def _samples(call: WatchedCall) -> Iterator[Sample]:
    """The masks beside the tokens: those the model was fed, those of packed sequences, or plain ones."""
    layout, encoder = call.tokens.decoder or call.tokens.encoder, None
    if call.part is Part.ENCODER:
        layout = call.tokens.encoder or layout
    if call.part is Part.CROSS:
        layout, encoder = call.tokens.decoder, call.tokens.encoder
    if not call.tokens.known or layout is None:
        layout = plain(call)
    if layout is None or (call.part is Part.CROSS and encoder is None):
        return
    masks = gather([observation(call, len(layout.steps) - 1)], layout, encoder, call.part or Part.DECODER)
    for samples in masks.groups.values():
        yield from samples


def plain(call: WatchedCall) -> Layout | None:
    """Tokens without padding that end with the queries; documents where the call names its packed sequences."""
    if not 0 < call.kv_len <= _LONGEST or call.q_len > call.kv_len:
        return None
    row = sequence(call.kv_len)
    if call.segments:
        if any(queries != keys for queries, keys in call.segments) or call.q_len != call.kv_len:
            return None
        lengths = [keys for _, keys in call.segments]
        if sum(lengths) != call.kv_len:
            return None
        row = Row(
            tuple(number for number, length in enumerate(lengths) for _ in range(length)),
            tuple(position for length in lengths for position in range(length)),
        )
    past = call.kv_len - call.q_len
    steps = ((0, past), (past, call.kv_len)) if past else ((0, call.kv_len),)
    return Layout((row,) * max(1, len(call.rows)), steps, before=1 if past else 0)
