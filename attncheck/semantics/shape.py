"""The true sizes of a model's attention, and what one kernel API was seen to do at them, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis, Reason
from attncheck.semantics.spec import CAUSAL, AttentionSpec, Bias, Part, Window

#: Variant of a reading at a length with seq % 128 == 64 under an explicit mask tensor (pytorch#196678).
EXPLICIT_MASK = "explicit mask"
#: Said of a call that takes no grouped heads beside a mask, and was made as transformers makes it.
REPEATED = "kv heads repeated, as transformers does beside a mask"
#: What has to be known of a layer before its mask can be asked for.
MASK_TERMS = ("direction", "window", "chunk")


@dataclass(frozen=True, slots=True)
class Shape:
    """One attention call at the sizes of the checkpoint, as the framework hands it to the kernel.

    head_dim: q/k width, head_dim_v: value width. window: inclusive distances. chunk: tokens a chunk, None for none.
    scale: factor on q.k, None = 1/sqrt(head_dim). softcap: None for none. sinks, alibi: declared or not. dtype: torch's
    short name. unknown: those of `MASK_TERMS` that nobody knows; window and chunk then mean nothing.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    head_dim_v: int
    window: Window = CAUSAL
    chunk: int | None = None
    scale: float | None = None
    softcap: float | None = None
    sinks: bool = False
    alibi: bool = False
    dtype: str = "bfloat16"
    unknown: tuple[str, ...] = ()

    @property
    def reach(self) -> int:
        """The largest finite distance at which the mask changes, in tokens; 0 where only the diagonal does."""
        chunk = 0 if self.chunk is None else self.chunk - 1
        return max(self.window.left or 0, self.window.right or 0, chunk)

    @property
    def key(self) -> str:
        """A name for steps and tests, unique among shapes."""
        sides = "".join("*" if side is None else f"{side}." for side in (self.window.left, self.window.right))
        terms = (
            f"c{self.chunk}" if self.chunk is not None else "",
            f"x{self.scale:.6g}" if self.scale is not None else "",
            f"t{self.softcap:g}" if self.softcap is not None else "",
            "s" if self.sinks else "",
            "a" if self.alibi else "",
            "".join(("u", *(term[0] for term in self.unknown))) if self.unknown else "",
        )
        heads = f"{self.num_heads}/{self.num_kv_heads}x{self.head_dim}/{self.head_dim_v}"
        return "-".join(filter(None, (heads, f"w{sides}", *terms, self.dtype)))


def declared_shape(spec: AttentionSpec, dtype: str) -> Shape | None:
    """The shape that a layer declares; None where its sizes or its mask are not known. Unknown terms are left out."""
    if "kind" in spec.unknown or not spec.num_heads or not spec.head_dim or not spec.mask_known:
        return None
    known = {name: getattr(spec.softmax, name) for name in ("scale", "softcap") if name not in spec.unknown}
    return Shape(
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_kv_heads or spec.num_heads,
        head_dim=spec.head_dim,
        head_dim_v=spec.head_dim_v or spec.head_dim,
        window=spec.mask.window,
        chunk=spec.mask.chunk,
        scale=known.get("scale"),
        softcap=known.get("softcap"),
        sinks="sinks" not in spec.unknown and spec.softmax.sinks,
        alibi="bias" not in spec.unknown and spec.softmax.bias is Bias.ALIBI,
        dtype=dtype,
    )


@dataclass(frozen=True, slots=True)
class WrongCells:
    """The cells (query, key) that were seen wrongly, among all queries and the keys that were looked at.

    keys, over: how many keys those are, and over how many query heads the counts are summed; 0 and 1 where they are of
    one head's whole mask. first: (query, key) of the first one. heads: query heads concerned. ahead, behind: cells seen
    although they are hidden, after and before the query. missed: cells not seen although they are declared.
    ahead_distances and the like: the smallest and largest distance |query - key| among them, None where there are none.
    all_behind: every key that is hidden for being too old was seen. nothing: no cell was seen at all (an output of
    zeros).
    """

    first: tuple[int, int]
    heads: tuple[int, ...] = ()
    ahead: int = 0
    behind: int = 0
    missed: int = 0
    ahead_distances: tuple[int, int] | None = None
    behind_distances: tuple[int, int] | None = None
    missed_distances: tuple[int, int] | None = None
    all_behind: bool = False
    nothing: bool = False
    keys: int = 0
    over: int = 1

    @property
    def looked_at(self) -> dict[str, float | int | str]:
        """Figures for `Evidence` that say what the counts are of; empty where they are of the whole mask."""
        return {"keys_probed": self.keys, "heads_probed": self.over} if self.keys else {}


@dataclass(frozen=True, slots=True)
class Errors:
    """How far numbers are off float64 attention of the same inputs, as relative distances; NaN where they hold NaN.

    output, dq: norm of the difference over norm of the reference, of the worst head and chosen query. dk, dv: the same
    of the worst kv head and block of keys. None where it was not computed.
    """

    output: float
    dq: float | None = None
    dk: float | None = None
    dv: float | None = None


@dataclass(frozen=True, slots=True)
class ShapeReading:
    """What one API did at one true shape.

    implementation, part, layers: whose shape it is; layers of the checkpoint. api: name of an API of
    `attncheck.backends`, or the implementation's where only documented limits spoke. variant: "" or `EXPLICIT_MASK`.
    reasons: of a refusal. documented: limits of the library that the shape breaks by its documentation, or that the
    declared one breaks where the framework changes it. declared_v: value width that the layers declare where the
    framework widens it before the call, else None. q_len, kv_len: tokens. wrong: None where every cell looked at is as
    declared. head_map: kv head read by each query head where it is not the interleaved one, else None. nan: which of
    "output", "dq", "dk", "dv" hold NaN or Inf. kernel: Errors of the API, plain: of plain torch attention in the same
    dtype. backward: what became of the backward pass; backward_detail: why. peak_bytes: memory of the device that the
    call took at most beyond its inputs, None on a CPU. launched: name of the kernel that ran, "" unknown. picked:
    torch's own dispatch takes this kernel for this call; None where there is no such choice. left_out: declared terms
    that the API has no argument for. detail: remarks, or how it crashed.
    """

    api: str
    shape: Shape
    outcome: Outcome
    basis: Basis | None
    implementation: str = ""
    part: Part | None = None
    layers: tuple[int, ...] = ()
    variant: str = ""
    reasons: tuple[Reason, ...] = ()
    documented: tuple[Reason, ...] = ()
    declared_v: int | None = None
    q_len: int = 0
    kv_len: int = 0
    wrong: WrongCells | None = None
    head_map: tuple[int, ...] | None = None
    nan: tuple[str, ...] = ()
    kernel: Errors | None = None
    plain: Errors | None = None
    backward: Outcome = Outcome.NOT_RUN
    backward_detail: str = ""
    peak_bytes: int | None = None
    launched: str = ""
    picked: bool | None = None
    left_out: tuple[str, ...] = ()
    detail: str = ""

    @property
    def mask_ok(self) -> bool | None:
        """Every cell looked at is as declared; None where nothing was read."""
        return None if self.outcome is not Outcome.READ else self.wrong is None

    @property
    def heads_ok(self) -> bool | None:
        """Every query head reads its kv head; None where nothing was read."""
        return None if self.outcome is not Outcome.READ else self.head_map is None
