"""Scenario runs made by hand for tests of the checks: declared masks, spoilt on purpose, as if probed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from attncheck.checks import Inputs
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import Layout, Row, documents, left_padded, right_padded, sequence
from attncheck.semantics.observation import (
    Basis,
    CallObservation,
    HeadMask,
    Method,
    Observed,
    Outcome,
    ScenarioRun,
)
from attncheck.semantics.spec import AttentionSpec, MaskSpec, ModelSpec, Part, SoftmaxSpec, Window
from tests.plain_masks import cross_mask, declared_mask

HEADS = 4
Spoil = Callable[[KeepMask], KeepMask]

PLAIN = Layout((sequence(24),), ((0, 24),))
LEFT_PAD = Layout((sequence(24), left_padded(24, 5)), ((0, 24),))
RIGHT_PAD = Layout((sequence(24), right_padded(24, 5)), ((0, 24),))
TWO_FULL = Layout((sequence(24), sequence(24)), ((0, 24),))
PACKED = Layout((documents(11, 13),), ((0, 24),))
DECODE_8 = Layout((sequence(11),), ((0, 8), (8, 9), (9, 10), (10, 11)))
DECODE_16 = Layout((sequence(19),), ((0, 16), (16, 17), (17, 18), (18, 19)))
PREFILL = Layout((sequence(21),), ((0, 16), (16, 21)))


def layer(
    left: int | None = None,
    right: int | None = 0,
    chunk: int | None = None,
    *,
    number: int = 0,
    part: Part = Part.DECODER,
    softmax: SoftmaxSpec | None = None,
    **fields: Any,
) -> AttentionSpec:
    """A layer of four heads on two kv heads of 16."""
    return AttentionSpec(
        part,
        number,
        mask=MaskSpec(Window(left, right), chunk),
        softmax=softmax or SoftmaxSpec(scale=0.25),
        num_heads=HEADS,
        num_kv_heads=2,
        head_dim=16,
        **fields,
    )


def model(*layers: AttentionSpec, max_position: int | None = 32768, **fields: Any) -> ModelSpec:
    """A model of these layers, numbered from 0 in each part."""
    numbers: dict[Part, int] = {}
    numbered = []
    for spec in layers:
        numbers[spec.part] = numbers.get(spec.part, -1) + 1
        numbered.append(replace(spec, layer=numbers[spec.part]))
    return ModelSpec(fields.pop("model_type", "made"), tuple(numbered), max_position=max_position, **fields)


def calls(
    effective: AttentionSpec,
    layout: Layout,
    *,
    fed: Layout | None = None,
    spoil: Spoil | None = None,
    heads: Sequence[int] | None = None,
    declared: AttentionSpec | None = None,
    held: int | None = None,
    encoder: Layout | None = None,
    **fields: Any,
) -> tuple[CallObservation, ...]:
    """One call a forward step of a layer that computes what `effective` declares.

    fed: the layout it believes in (other padding or documents). spoil: changes each mask. heads: only these are wrong,
    the others are as `declared`. held: keys that the cache still returns. fields: of `CallObservation`.
    """
    found = []
    for step, (start, stop) in enumerate(layout.steps):
        masks = []
        for row in range(len(layout.rows)):
            keep = _mask(effective, fed or layout, encoder, row, step)
            keep = spoil(keep) if spoil is not None else keep
            if heads is None:
                masks.append(HeadMask(row, tuple(range(HEADS)), keep))
            else:
                right = _mask(declared or effective, layout, encoder, row, step)
                masks.append(HeadMask(row, tuple(h for h in range(HEADS) if h not in heads), right))
                masks.append(HeadMask(row, tuple(heads), keep))
        if held is not None and stop > held:
            masks = [replace(mask, keep=_newest(mask.keep, max(held, stop - start))) for mask in masks]
        found.append(
            CallObservation(
                **{
                    "part": effective.part,
                    "layer": effective.layer,
                    "step": step,
                    "module": "Attention",
                    "method": Method.IDENTITY,
                    "q_len": stop - start,
                    "masks": tuple(masks),
                    "num_heads": HEADS,
                    "num_kv_heads": 2,
                    "head_dim": 16,
                    **fields,
                }
            )
        )
    return tuple(found)


def run(
    outcome: Outcome | Sequence[CallObservation],
    layout: Layout = PLAIN,
    *,
    implementation: str = "sdpa",
    scenario: str = "plain",
    variant: str = "no-mask",
    core: bool = True,
    basis: Basis = Basis.MEASURED,
    **fields: Any,
) -> ScenarioRun:
    """A run of a decoder-only model."""
    what = outcome if not isinstance(outcome, tuple | list) else Observed(tuple(outcome))
    return ScenarioRun(implementation, scenario, variant, basis, what, core=core, **{"decoder": layout, **fields})


def inputs(tiny: ModelSpec, *runs: ScenarioRun, real: ModelSpec | None = None, **fields: Any) -> Inputs:
    """Inputs of the checks; the checkpoint declares the same as the tiny model unless said otherwise."""
    return Inputs(
        **{
            "target": "made/model",
            "real": real or tiny,
            "tiny": tiny,
            "declare": lambda overrides: tiny,
            "runs": runs,
            "tiny_config": {"model_type": "made", "sliding_window": 8},
            "model_class": "MadeForCausalLM",
            **fields,
        }
    )


def cells(keep: KeepMask, change: Callable[[int, int, bool], bool]) -> KeepMask:
    """The mask with each cell set to `change(query, key, kept)`."""
    return KeepMask.from_rule(keep.q_len, keep.kv_len, lambda i, j: change(i, j, keep.keeps(i, j)))


def without_padding(layout: Layout) -> Layout:
    """The same steps over full rows of one document: what a lost padding mask or lost documents make of it."""
    return Layout(tuple(Row((0,) * layout.length, tuple(range(layout.length))) for _ in layout.rows), layout.steps)


def _mask(spec: AttentionSpec, layout: Layout, encoder: Layout | None, row: int, step: int) -> KeepMask:
    if spec.part is Part.CROSS and encoder is not None:
        return cross_mask(layout, encoder, row, step)
    return declared_mask(spec, layout, row, step)


def _newest(keep: KeepMask, held: int) -> KeepMask:
    dropped = keep.kv_len - held
    return KeepMask(tuple(row >> dropped for row in keep.rows), held) if dropped > 0 else keep
