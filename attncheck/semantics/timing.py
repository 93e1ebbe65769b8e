"""Times and memory of attention calls as plain data: what was timed, what came of it, how it grows with length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attncheck.semantics.convention import Outcome
from attncheck.semantics.shape import Shape
from attncheck.semantics.spec import FULL, Window

#: Said of a call whose launch takes as long as the call itself.
LAUNCH_BOUND = "bound by launching the call, not by its kernel"


@dataclass(frozen=True, slots=True)
class BenchCase:
    """One call to time.

    level: "kernel" (one API of `attncheck.backends` alone) or "layer" (one attention layer inside the framework, so
    that mask construction and layout copies count). subject: API name, or transformers' implementation name. phase:
    "prefill" or "decode" (1 query against a cache of kv_len keys). backward: forward and backward together. inputs:
    "plain", "padded" or "packed". window: inclusive distances, as in `Window`. mask: what the rows see in words
    ("causal", "full", "window 4096"). cells: query-key pairs of one head that the true mask keeps, over the batch.
    chunk: tokens of a chunk beyond whose edges nobody looks, None for none. sinks, alibi: the model declares them.
    """

    level: str
    subject: str
    phase: str
    backward: bool
    inputs: str
    batch: int
    q_len: int
    kv_len: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    head_dim_v: int
    dtype: str
    window: Window = FULL
    mask: str = "full"
    softcap: float | None = None
    scale: float | None = None
    cells: int = 0
    chunk: int | None = None
    sinks: bool = False
    alibi: bool = False

    @property
    def shape(self) -> Shape:
        """The sizes and terms of one call, without its lengths."""
        return Shape(
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            head_dim_v=self.head_dim_v,
            window=self.window,
            chunk=self.chunk,
            scale=self.scale,
            softcap=self.softcap,
            sinks=self.sinks,
            alibi=self.alibi,
            dtype=self.dtype,
        )

    @property
    def flops(self) -> float:
        """Floating-point operations of the true mask area: 2 (q.k) + 2 (p.v) a kept cell and channel; backward 2.5x.

        The factor of the backward is the usual one of the flash-attention papers (five matrix products for two).
        """
        forward = 2.0 * self.num_heads * self.cells * (self.head_dim + self.head_dim_v)
        return forward * 3.5 if self.backward else forward


@dataclass(frozen=True, slots=True)
class BenchCell:
    """What came of one case. Times in seconds, memory in bytes; None where nothing was measured.

    median, p20, p80: of n repetitions, the first call apart (`first_call`: compile and warm-up). peak_memory: above
    the inputs. tflops: `flops` by the median. matrix_share: of the device's own measured matrix rate. copy_share: of
    its measured copy bandwidth (decode). to_eager, to_best: ratio of medians (>1: slower than that). drift: last
    against first decile of the repetitions, minus one. excluded: slug of the error finding that makes its speed
    meaningless. detail: refusal, crash or remark. kernel: launched kernel. launch_bound: launching the call from Python
    takes as long as the call, so its time says nothing of the kernel.
    """

    case: BenchCase
    outcome: Outcome
    median: float | None = None
    p20: float | None = None
    p80: float | None = None
    n: int = 0
    first_call: float | None = None
    peak_memory: int | None = None
    tflops: float | None = None
    matrix_share: float | None = None
    copy_share: float | None = None
    to_eager: float | None = None
    to_best: float | None = None
    drift: float | None = None
    excluded: str = ""
    detail: str = ""
    kernel: str = ""
    launch_bound: bool = False


@dataclass(frozen=True, slots=True)
class Growth:
    """How the median grows with length: exponent of a least-squares fit in log-log, over `lengths`; r2 of the fit.

    head_dim: of the cases, None where the run has one head_dim only. dtype: of the cases.
    """

    level: str
    subject: str
    phase: str
    backward: bool
    inputs: str
    mask: str
    exponent: float
    r2: float
    lengths: tuple[int, ...]
    head_dim: int | None = None
    dtype: str = ""

    def of(self, case: BenchCase) -> bool:
        """Whether it speaks of this case's work, whatever the subject and the lengths."""
        same = (self.level, self.phase, self.backward, self.inputs, self.mask)
        return (
            same == (case.level, case.phase, case.backward, case.inputs, case.mask)
            and self.head_dim in (None, case.head_dim)
            and self.dtype in ("", case.dtype)
        )


@dataclass(frozen=True, slots=True)
class DeviceRates:
    """What the device itself did in this run. matrix: FLOP/s of a large matrix product in the dtype (shape in words).

    copy: bytes read plus written per second of a device-to-device copy. clock: SM clock in MHz at the start and the end
    of the run, power_limit: in W, None where NVML did not say. throttled: reasons in words, "" for none.
    """

    name: str
    matrix: float | None = None
    matrix_shape: str = ""
    copy: float | None = None
    clock: tuple[int | None, int | None] = (None, None)
    power_limit: float | None = None
    throttled: str = ""


def setting(subject: str, mask: str, head_dim: int, q_len: int) -> str:
    """The settings that published figures are compared at, in words: the keys of `Bench.published`."""
    return f"{subject}, {mask}, head_dim {head_dim}, {q_len} tokens"


@dataclass(frozen=True, slots=True)
class Bench:
    """One run. preset: its name, "" without. wall, timed: seconds in all, and in timed kernels, warm-up and imports.

    published: for presets, what others published at these settings: `setting(...)` -> figure with its source.
    complete: False where the run was interrupted; the cells measured so far are kept.
    """

    cells: tuple[BenchCell, ...]
    growth: tuple[Growth, ...] = ()
    rates: DeviceRates | None = None
    preset: str = ""
    wall: float = 0.0
    timed: float = 0.0
    published: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
