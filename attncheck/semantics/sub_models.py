"""What each sub-model (vision tower, language model) ran when attention was asked for in some way, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from attncheck.semantics.flash_names import flash
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import Part


@dataclass(frozen=True, slots=True)
class Asked:
    """One way to ask for attention.

    name: of the row. implementation: what is passed as `attn_implementation`: a name, pairs of sub-config key and name
    (transformers' dict), or None for nothing. switches: of `SWITCHES`, in force while the model is built and run.
    predicted: the kernel cannot run here; only which implementation would be set is read.
    """

    name: str
    implementation: str | tuple[tuple[str, str], ...] | None = None
    switches: tuple[str, ...] = ()
    predicted: bool = False

    @property
    def argument(self) -> str:
        """The argument as it is typed, "" where none is passed."""
        if self.implementation is None:
            return ""
        if isinstance(self.implementation, str):
            return f'"{self.implementation}"'
        return "{" + ", ".join(f'"{key}": "{name}"' for key, name in self.implementation) + "}"

    def for_key(self, key: str) -> str:
        """The implementation asked for in one sub-config; "" where nothing is said about it."""
        if self.implementation is None or isinstance(self.implementation, str):
            return self.implementation or ""
        return dict(self.implementation).get(key, "")


#: torch's switches: name -> statement to paste.
SWITCHES = {
    "no-flash": "torch.backends.cuda.enable_flash_sdp(False)",
    "no-cudnn": "torch.backends.cuda.enable_cudnn_sdp(False)",
    "efficient-or-math": "torch.nn.attention.sdpa_kernel([torch.nn.attention.SDPBackend.EFFICIENT_ATTENTION, "
    "torch.nn.attention.SDPBackend.MATH])",
}


@dataclass(frozen=True, slots=True)
class Phase:
    """One forward call (and its backward) of a sub-model under the profiler.

    name: "image", "prefill", "left-padded", "decode", "backward". kernels: raw names of what does attention: CUDA
    kernels and torch's operators. failure: why nothing was seen, "" otherwise.
    """

    name: str
    kernels: tuple[str, ...] = ()
    failure: str = ""

    @property
    def flash(self) -> tuple[str, ...]:
        """The flash kernels among them."""
        return flash(self.kernels)


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far the output is from that of the first row, same weights and inputs.

    largest, typical: greatest and median absolute difference; spread: standard deviation of the output itself. top1:
    share of the positions whose highest logit is the same token, None for outputs that are no logits. positions: how
    many were compared.
    """

    largest: float
    typical: float
    spread: float
    positions: int
    top1: float | None = None


@dataclass(frozen=True, slots=True)
class SubModelRun:
    """One sub-model under one `Asked`.

    key: of its sub-config, "" for the whole model. title: "vision tower". module: its class. requested: implementation
    asked for, "" where nothing was said about it. config: what its config holds once the model is built. reached: the
    attention functions that its layers really called, by transformers' names; empty where that is not seen. missing:
    why it was not run, "" where it was.
    """

    key: str
    title: str
    module: str
    part: Part
    requested: str
    config: str
    reached: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()
    deviation: Deviation | None = None
    missing: str = ""

    @property
    def effective(self) -> str:
        """What runs: the functions that were reached, else what the config says."""
        return ", ".join(self.reached) or self.config

    @property
    def flash(self) -> tuple[tuple[str, str], ...]:
        """(phase, raw name) of every flash kernel."""
        return tuple((phase.name, name) for phase in self.phases for name in phase.flash)

    @property
    def unproven(self) -> tuple[str, ...]:
        """Why some phase proves nothing: it failed, or no attention kernel at all was seen in it."""
        if self.missing:
            return (self.missing,)
        silent = "no attention kernel was seen by the profiler"
        found = [f"{p.name}: {p.failure or silent}" for p in self.phases if p.failure or not p.kernels]
        return tuple(found) if self.phases else (silent,)


@dataclass(frozen=True, slots=True)
class AskedRun:
    """What came of one `Asked`. failure: why nothing was run (refused, crashed), "" otherwise."""

    asked: Asked
    sub_models: tuple[SubModelRun, ...] = ()
    failure: str = ""
    basis: Basis = Basis.MEASURED

    @property
    def flash(self) -> bool:
        """True when some flash kernel ran."""
        return any(sub.flash for sub in self.sub_models)

    @property
    def proven(self) -> bool:
        """True when everything was seen and none of it was a flash kernel."""
        return not self.failure and bool(self.sub_models) and not any(s.flash or s.unproven for s in self.sub_models)


@dataclass(frozen=True, slots=True)
class Cost:
    """Time (seconds, median) and peak memory (bytes, None on a CPU) of one attention forward, by length in tokens."""

    name: str
    length: int
    seconds: float | None
    memory: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WithoutFlash:
    """The answer to `--without flash`.

    asked: what the user runs, the reference of every deviation. ways: how to get rid of flash, each measured. costs: of
    the attention call alone, at the model's own heads. device, dtype: of all of it. head_dims: sub-config key -> width
    of the heads that were run.
    """

    asked: tuple[AskedRun, ...]
    ways: tuple[AskedRun, ...] = ()
    costs: tuple[Cost, ...] = ()
    device: str = "cpu"
    dtype: str = "float32"
    heads: str = ""
    head_dims: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
