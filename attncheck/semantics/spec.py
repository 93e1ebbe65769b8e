"""What one attention layer, and a whole model, declares. Standard library only.

`AttentionSpec` here is attncheck's own type; vLLM has a KV-cache class of the same name that is unrelated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Part(str, Enum):
    """Which stack of a model an attention layer belongs to."""

    DECODER = "decoder"
    ENCODER = "encoder"
    CROSS = "cross"
    VISION = "vision"


class Alignment(str, Enum):
    """Where the diagonal of a q_len x kv_len mask lies when the lengths differ."""

    TOP_LEFT = "top-left"
    BOTTOM_RIGHT = "bottom-right"


class HeadMap(str, Enum):
    """Which kv head query head h reads: `h // (num_heads // num_kv_heads)` (interleave), `h % num_kv_heads` (tile)."""

    INTERLEAVE = "interleave"
    TILE = "tile"


class Bias(str, Enum):
    """What is added to the scaled logits before softmax, besides the mask."""

    NONE = "none"
    ALIBI = "alibi"
    LEARNED = "learned"


@dataclass(frozen=True, slots=True)
class Window:
    """Token distances from the query's own diagonal, inclusive on both sides; None is unbounded.

    A causal `sliding_window=W` of transformers (W keys, the query's own included) is `Window(W - 1, 0)`.
    """

    left: int | None = None
    right: int | None = None

    def __post_init__(self) -> None:
        for side in (self.left, self.right):
            if side is not None and side < 0:
                raise ValueError(f"a window side is a distance of at least 0 or None, got {side}")

    @property
    def causal(self) -> bool:
        """True when no key after the query is visible."""
        return self.right == 0

    @property
    def bounded(self) -> bool:
        """True when the past is limited, or the future is limited to more than the query itself."""
        return self.left is not None or self.right not in (None, 0)


CAUSAL = Window(None, 0)
FULL = Window(None, None)


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """Which keys a query may see: inside `window`, and inside the same chunk of `chunk` tokens when that is set.

    Chunk boundaries count from the first token of the document (or after the left padding of its row).
    `alignment` says where the diagonal lies when there are more keys than queries.
    """

    window: Window = CAUSAL
    chunk: int | None = None
    alignment: Alignment = Alignment.BOTTOM_RIGHT


@dataclass(frozen=True, slots=True)
class SoftmaxSpec:
    """What happens to the logits: `softmax(cap * tanh(q.k * scale / cap) + bias, sinks)`.

    scale: factor on q.k. softcap: cap on the scaled logits, None for none. sinks: the softmax has an extra learned
    logit per head, so rows sum to less than one. bias: what is added before softmax. before: factor that queries carry
    already when the attention is called, in types that multiply them first; the whole factor is `scale * before`.
    """

    scale: float | None = None
    softcap: float | None = None
    sinks: bool = False
    bias: Bias = Bias.NONE
    before: float = 1.0


#: The fields of a layer that may stand in `AttentionSpec.unknown`.
UNKNOWABLE = ("direction", "window", "chunk", "scale", "softcap", "sinks", "bias", "head_map", "kind")


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """What one layer declares.

    layer: index in its part, from 0. kind: the layer type in transformers' own word (`full_attention`,
    `sliding_attention`, ...). attends: False for layers without an attention matrix (mamba, linear, convolution).
    head_dim is the q/k width, head_dim_v the value width; None where the config does not say.
    unknown: names out of `UNKNOWABLE` for which no value can be given without guessing; what is stored there means
    nothing.
    """

    part: Part
    layer: int
    kind: str = "full_attention"
    attends: bool = True
    mask: MaskSpec = MaskSpec()
    softmax: SoftmaxSpec = SoftmaxSpec()
    num_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    head_dim_v: int | None = None
    head_map: HeadMap = HeadMap.INTERLEAVE
    unknown: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if strange := self.unknown - set(UNKNOWABLE):
            raise ValueError(f"unknown fields must be among {UNKNOWABLE}, got {sorted(strange)}")

    @property
    def mask_known(self) -> bool:
        """True when the mask can be written down without guessing."""
        return self.attends and not self.unknown & {"direction", "window", "chunk", "kind"}


@dataclass(frozen=True, slots=True)
class Note:
    """Something the config says that deserves a remark although nothing is wrong (a window switched off, ...).

    code: a stable short word (`window-switched-off`, `window-never-binds`, `remote-code`, `unconfirmed` ...).
    key: the config key it is about, dotted for sub-configs.
    """

    code: str
    text: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a whole model declares: every layer of every part, in order.

    max_position: the longest sequence the checkpoint says it handles, in tokens; None when it does not say.
    sources: where each decisive value came from, as field -> text ("config.json: sliding_window").
    window_keys: the config keys that declare the window, for messages ("sliding_window").
    """

    model_type: str
    layers: tuple[AttentionSpec, ...]
    max_position: int | None = None
    takes_position_ids: bool | None = None
    notes: tuple[Note, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    window_keys: tuple[str, ...] = ()

    def of_part(self, part: Part) -> tuple[AttentionSpec, ...]:
        """The layers of one part, in order."""
        return tuple(layer for layer in self.layers if layer.part is part)
