"""What a probe saw, as plain data that crosses the pipe from the worker: an observation, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import Layout
from attncheck.semantics.spec import Part


class Basis(str, Enum):
    """What a verdict rests on: this kernel run here, a contract in plain torch, or versions and configs as read."""

    MEASURED = "measured"
    PREDICTED = "predicted"
    STATIC = "static"


class Method(str, Enum):
    """How a mask was read."""

    IDENTITY = "identity"
    PERTURBATION = "perturbation"
    JACOBIAN = "jacobian"


@dataclass(frozen=True, slots=True)
class HeadMask:
    """The mask shared by `heads` of one batch row. Black-box methods see the union of all heads: `heads` is empty.

    coarse: groups of keys (bitsets over the keys of `keep`) that were read together: all bits of a group are set when
    any key of it is visible. queries: those that were read, empty for all; rows of others mean nothing. Both are for
    sequences too long to read cell by cell.
    """

    row: int
    heads: tuple[int, ...]
    keep: KeepMask
    coarse: tuple[int, ...] = ()
    queries: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Requested:
    """What the framework handed to the kernel in the live call.

    mask_kind: "none", "bool", "float", "2d", "BlockMask" or a type name. mask: its KeepMask per batch row where it is a
    dense mask (empty tuple otherwise). window: the `sliding_window` argument as given. Other fields as in the call.
    prescaled: what queries and keys were multiplied by between their projections and the call, where that was followed
    (None elsewhere); readings of the scale include it then.
    """

    mask_kind: str = "none"
    mask: tuple[KeepMask, ...] = ()
    is_causal: bool | None = None
    sliding_window: int | None = None
    scaling: float | None = None
    softcap: float | None = None
    sinks: bool = False
    position_bias: bool = False
    dropout: float = 0.0
    prescaled: float | None = None


@dataclass(frozen=True, slots=True)
class SoftmaxObservation:
    """The softmax terms fitted from P, one value a query head (NaN where a head could not be fitted).

    scale: fitted factor on q.k. softcap: fitted cap, None when the logits are linear. rowsum: median row sum (below 1
    with sinks). sinks: fitted sink logit a head, None when rows sum to one. expected_sinks: what the live module's own
    parameter says, None when it has none. alibi: fitted slope on the key index a head, None when zero within tolerance.
    head_map: kv head read by each query head, None when it was not read. residual: largest |log P - fit| over allowed
    cells, where the fit holds the requested bias in full.
    A head whose rows sum to one has sink -inf when other heads have sinks. bias: fitted factor on the requested bias
    (`position_bias`, or the finite part of an additive mask) a head: 1 = added, 0 = dropped, NaN = too flat on the
    visible keys to tell; None when none was requested or no head can tell.
    """

    scale: tuple[float, ...]
    softcap: float | None = None
    rowsum: tuple[float, ...] = ()
    sinks: tuple[float, ...] | None = None
    expected_sinks: tuple[float, ...] | None = None
    alibi: tuple[float, ...] | None = None
    head_map: tuple[int, ...] | None = None
    residual: float = 0.0
    bias: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class GradientObservation:
    """How far the backward of the call is off from that of float64 attention with the same mask and softmax terms.

    The largest difference in dq, dk and dv, relative to the largest reference entry; NaN when the backward gave NaN.
    """

    dq: float
    dk: float
    dv: float


@dataclass(frozen=True, slots=True)
class CallObservation:
    """One attention call of one forward pass.

    layer: index in its part (call order where the module carries no index). step: forward call inside the scenario.
    kernel: which kernel produced this reading ("" = the one the implementation picks by itself).
    nan_rows: (batch row, query) pairs whose output holds NaN or Inf.
    unstable: share of the visible cells that were visible in one reading of the call and not in another (dropout at
    work); 0.0 where only one reading was made.
    """

    part: Part
    layer: int
    step: int
    module: str
    method: Method
    q_len: int
    masks: tuple[HeadMask, ...]
    kernel: str = ""
    num_heads: int = 0
    num_kv_heads: int = 0
    head_dim: int = 0
    head_dim_v: int = 0
    requested: Requested | None = None
    softmax: SoftmaxObservation | None = None
    gradient: GradientObservation | None = None
    nan_rows: tuple[tuple[int, int], ...] = ()
    unstable: float = 0.0


@dataclass(frozen=True, slots=True)
class Beside:
    """What the outputs of a run say beside its attention calls; each None where they were not compared.

    drift: how far the logits of generation with a cache lie from those of one pass without, relative to the largest.
    spill: how far other contents of the padding tokens move the outputs of real tokens, relative to the largest.
    """

    drift: float | None = None
    spill: float | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """A scenario that ran: every attention call it made. kernels: names of the kernels that really ran, if known.

    failures: what could not be read, as text (calls that cannot be repeated, terms without a fit). launched: on a GPU,
    (kernel as in `CallObservation.kernel`, name of the attention kernel that the profiler saw). refusals: (kernel, why)
    of every kernel that was forced and refused. beside: what its outputs say.
    """

    calls: tuple[CallObservation, ...]
    kernels: tuple[str, ...] = ()
    used_implementation: str = ""
    failures: tuple[str, ...] = ()
    launched: tuple[tuple[str, str], ...] = ()
    refusals: tuple[tuple[str, str], ...] = ()
    beside: Beside = Beside()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something cannot be used: the limit, the value that breaks it, and where the limit is written."""

    text: str
    limit: str = ""
    actual: str = ""
    source: str = ""

    @property
    def said(self) -> str:
        """The text, with the value behind it where the text does not name it already."""
        return f"{self.text} ({self.actual})" if self.actual and self.actual not in self.text else self.text


@dataclass(frozen=True, slots=True)
class Rejected:
    """The framework or kernel refused with a clear message. Never a finding by itself."""

    reasons: tuple[Reason, ...]

    @property
    def said(self) -> str:
        """Every reason in one line."""
        return "; ".join(reason.said for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class Crashed:
    """The probe broke: an exception nobody announced, a dead or hanging worker. A result, not an error of the run.

    kind: "exception", "signal" (died of one), "exit" (ended by itself), "timeout", "memory".
    """

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class NotRun:
    """Nobody tried, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The question makes no sense for this model (packing without position_ids, ...)."""

    reason: str


Outcome = Observed | Rejected | Crashed | NotRun | NotApplicable


@dataclass(frozen=True, slots=True)
class ScenarioRun:
    """One scenario variant under one implementation.

    decoder, encoder: the token layouts by part (cross-attention uses both; encoder-only models use `encoder`).
    core: the scenario is one anyone may meet, not one for users of a feature.
    truth: False when nothing declares what should happen (position-jump), so that implementations are only compared.
    overrides: config keys (dotted for sub-configs) that this variant set on top of the tiny config; what is declared is
    then what the overridden config declares. vision: the patches of an image, where a vision tower was read instead.
    logged: what transformers logged meanwhile, at warning level and above.
    """

    implementation: str
    scenario: str
    variant: str
    basis: Basis
    outcome: Outcome
    core: bool = True
    decoder: Layout | None = None
    encoder: Layout | None = None
    truth: bool = True
    overrides: tuple[tuple[str, Any], ...] = ()
    logged: tuple[str, ...] = ()
    vision: Layout | None = None
