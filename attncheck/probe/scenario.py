"""What a scenario is: named variants, each a plan of forward calls as plain data. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypedDict

from attncheck.discovery import plugins
from attncheck.probe.protocol import TinyInfo
from attncheck.semantics.layout import Layout, Row, left_padded, right_padded, sequence
from attncheck.semantics.observation import NotApplicable

#: Tokens of a probe. Three windows of the tiny models (8) long, so that W - 1, W and W + 1 all differ.
SEQUENCE = 24
#: The window and chunk of a tiny model, in tokens.
WINDOW = 8
#: Tokens of the encoder's input beside a decoder: not the decoder's length, so that cross-attention shows by its shape.
ENCODER_SEQUENCE = 32
#: Padding tokens of a padded row.
PADS = 5
#: Lengths of the documents of a packed row.
DOCUMENTS = (11, 13)


class Stack(str, Enum):
    """Which stacks the model has; decides which layouts a run carries."""

    DECODER = "decoder"
    ENCODER = "encoder"
    ENCODER_DECODER = "encoder-decoder"


class MaskInput(str, Enum):
    """What is passed as `attention_mask`.

    NONE: nothing. ONES: 2D, all ones. PADDING: 2D, zero for padding. ADDITIVE, BOOLEAN: the rows' `custom` masks, 4D,
    0 or the dtype's smallest number, or True for keep. For encoder-decoders the 4D forms go to the decoder only.
    BLOCKS: 4D additive, causal inside each document and nothing else (no window), as trainers make it for packed rows.
    INDEX: 2D, the number of the document from 1, 0 for padding; what unpads flash attention's inputs is then replaced
    by a function that reads it, as the trainers that feed it do.
    """

    NONE = "none"
    ONES = "ones"
    PADDING = "padding"
    ADDITIVE = "additive"
    BOOLEAN = "boolean"
    BLOCKS = "blocks"
    INDEX = "index"


class CacheInput(str, Enum):
    """What happens with the key-value cache.

    OFF: `use_cache=False`. DEFAULT: `use_cache=True`, so that the model makes its own. STATIC: a static cache of
    `STATIC_LENGTH` tokens.
    """

    OFF = "off"
    DEFAULT = "default"
    STATIC = "static"


#: Tokens a static cache has room for; more than any scenario feeds, so that unfilled slots exist.
STATIC_LENGTH = 32


class Layouts(TypedDict):
    """The layouts of a run by part, as the keyword arguments of `Variant`."""

    decoder: Layout | None
    encoder: Layout | None


@dataclass(frozen=True, slots=True)
class Subject:
    """The tiny model as far as a scenario must know it.

    forward_args: argument names of its forward. hands_on_use_cache: it takes `use_cache` too, in its **kwargs. config:
    the constructed config as a mapping, class defaults included, of the text model for multimodal types. config_types:
    the declared types of its fields, as text. no_static_cache: the attribute by which the class refuses static caches,
    empty when it does not. implementation: under which it is about to run: some trainers feed one differently from
    another.
    """

    info: TinyInfo
    stack: Stack
    forward_args: frozenset[str] = frozenset()
    hands_on_use_cache: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    config_types: Mapping[str, str] = field(default_factory=dict)
    no_static_cache: str = ""
    implementation: str = ""

    def lay(self, *rows: Row, steps: tuple[tuple[int, int], ...] = (), encoder: tuple[Row, ...] = ()) -> Layouts:
        """The layouts of a run.

        rows: those of the decoder, or of the only stack. steps: forward calls, one over everything when empty.
        encoder: rows of the encoder beside a decoder; unpadded rows when empty.
        """
        layout = Layout(rows, steps or ((0, len(rows[0])),))
        if self.stack is Stack.DECODER:
            return {"decoder": layout, "encoder": None}
        if self.stack is Stack.ENCODER:
            return {"decoder": None, "encoder": layout}
        beside = encoder or (sequence(ENCODER_SEQUENCE),) * len(rows)
        return {"decoder": layout, "encoder": Layout(beside, ((0, ENCODER_SEQUENCE),))}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run a scenario: layouts, and what is passed beside the tokens.

    positions: `position_ids` a batch row, over the whole sequence; None where they are not passed.
    overrides: config keys the model is built with, dotted for sub-configs; the declared spec is that of the overridden
    config then. forward: further arguments of each forward call. fit: also fit scale, softcap, sinks, bias, head map.
    gradients: also check the backward of each call. kernels: repeat under every kernel that the implementation can
    pick. truth: False when nothing declares what should happen. generate: the kind of cache by which `generate()` runs
    it, whose tokens after the prompt are its own and whose outputs are compared with one pass without a cache; "" where
    the forward calls are made directly. spill: also see whether the contents of padding tokens move the outputs of real
    ones.
    """

    name: str
    decoder: Layout | None = None
    encoder: Layout | None = None
    mask: MaskInput = MaskInput.NONE
    positions: tuple[tuple[int, ...], ...] | None = None
    cache: CacheInput = CacheInput.OFF
    overrides: tuple[tuple[str, Any], ...] = ()
    forward: tuple[tuple[str, Any], ...] = ()
    fit: bool = False
    gradients: bool = False
    kernels: bool = False
    truth: bool = True
    generate: str = ""
    spill: bool = False

    @property
    def main(self) -> Layout:
        """The layout of the decoder, or of the only stack."""
        layout = self.decoder or self.encoder
        if layout is None:
            raise ValueError(f"variant {self.name} has no layout")
        return layout


Plan = tuple[Variant, ...] | NotApplicable


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named situation of use. core: anyone may meet it. order: where it stands in tables.

    plan: the variants for a model, or why there are none. on_request: what only one trainer feeds; it runs when it is
    named or when that trainer's settings are read.
    """

    name: str
    summary: str
    core: bool
    order: int
    plan: Callable[[Subject], Plan]
    on_request: bool = False


def scenarios() -> tuple[Scenario, ...]:
    """Every scenario that runs unasked, core first, in table order. Imports no torch."""
    return tuple(scenario for scenario in every_scenario() if not scenario.on_request)


def every_scenario() -> tuple[Scenario, ...]:
    """Every scenario there is, those included that run on request only."""
    from attncheck.probe import scenarios as package

    return tuple(sorted(plugins(package, "SCENARIO", Scenario), key=lambda scenario: scenario.order))


def with_and_without_mask(**common: Any) -> tuple[Variant, ...]:
    """The two variants of inputs without padding: no mask, and an all-ones mask. Only the first one fits."""
    return (
        Variant("no-mask", **common),
        Variant("ones-mask", **{**common, "mask": MaskInput.ONES, "fit": False}),
    )


def padded_rows(subject: Subject, side: str) -> Layouts:
    """The layouts of a batch of two: one full row, one with `PADS` pads on `side` ("left", "right") in every stack."""
    pad = left_padded if side == "left" else right_padded
    return subject.lay(
        sequence(SEQUENCE),
        pad(SEQUENCE, PADS),
        encoder=(sequence(ENCODER_SEQUENCE), pad(ENCODER_SEQUENCE, PADS)),
    )


def generation_positions(layout: Layout) -> tuple[tuple[int, ...], ...]:
    """`position_ids` as `generate()` makes them from a padding mask: counted over real tokens, 0 for padding."""
    return tuple(row.position for row in layout.rows)


def refuses_cache(subject: Subject) -> NotApplicable | None:
    """Why scenarios with a cache make no sense for this model; None when they do."""
    if subject.stack is Stack.ENCODER:
        return NotApplicable("an encoder keeps no cache")
    if not subject.info.takes_cache:
        return NotApplicable("the model's forward takes no cache")
    return None


def refuses_packing(subject: Subject) -> NotApplicable | None:
    """Why packing makes no sense for this model; None when it does."""
    if not subject.info.takes_position_ids:
        return NotApplicable("the model's forward takes no position_ids, so it cannot be told where documents start")
    if subject.stack is Stack.ENCODER_DECODER:
        return NotApplicable("nothing tells an encoder-decoder which source document belongs to which target")
    return None
