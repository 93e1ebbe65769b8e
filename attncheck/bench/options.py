"""What `attncheck bench` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass

#: Names that the options accept, in the order of the report.
LEVELS = ("kernel", "layer")
PHASES = ("prefill", "decode")
INPUTS = ("plain", "padded", "packed")
MASKS = ("causal", "full")
PASSES = ("forward", "backward")


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """One call of `attncheck bench`. Empty tuples mean "what applies"; None means "not said".

    target: as of `compare`; None: the standard grid, or the shapes of `preset` (name of `attncheck.bench.presets`).
    seq_lens: keys of each case, in tokens. batch: sequences a call, None: as many as make 16384 tokens (standard grid)
    or one (a model). levels: out of `LEVELS`; phases: out of `PHASES`; passes: out of `PASSES` ("backward" is forward
    and backward together); masks: out of `MASKS`, of the standard grid or a preset, () beside a target; inputs: out of
    `INPUTS`. impl: only these subjects: API names of `attncheck.backends` at kernel level, implementation names of
    transformers at layer level. include_wrong: also time what an error finding makes meaningless. dtype: None: bfloat16
    on CUDA, float32 on a CPU. timeout: seconds of silence allowed to one step. assignments, unchecked, revision,
    offline, trust_remote_code, plugins, seed: as of `compare`.
    """

    target: str | None = None
    preset: str = ""
    seq_lens: tuple[int, ...] = ()
    batch: int | None = None
    levels: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    impl: tuple[str, ...] = ()
    include_wrong: bool = False
    device: str = "auto"
    dtype: str | None = None
    assignments: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    revision: str | None = None
    offline: bool = False
    trust_remote_code: bool = False
    plugins: tuple[str, ...] = ()
    timeout: float = 300.0
    seed: int = 0
