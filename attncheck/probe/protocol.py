"""What crosses the pipe between attncheck and its worker: requests and answers, as plain picklable data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attncheck.semantics.observation import Reason, ScenarioRun

Config = Mapping[str, Any]

#: What a worker writes before its first answer: Python's own start-up files (sitecustomize, .pth) may print before it
#: takes standard output for itself.
PREAMBLE = b"\0attncheck answers\0"


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """What the installed transformers knows of a model type, as plain data.

    kind: "causal-lm", "seq2seq", "masked-lm", "base" (no head of those), or "text" (text tower of a multimodal type).
    defaults: the constructor defaults of the config class, JSON-like, sub-configs nested. keys: every field or
    constructor argument, dotted for sub-configs. model_class: name of the class that is probed.
    supports: implementation name -> True/False as the class declares. compatible_flash: the class's own list of flash
    implementations it accepts, None without one. default_implementation: what transformers picks by itself.
    forward_args: argument names of the model's forward.
    """

    model_type: str
    kind: str
    config_class: str
    model_class: str
    transformers: str
    torch: str
    defaults: Config
    keys: frozenset[str]
    supports: Mapping[str, bool] = field(default_factory=dict)
    compatible_flash: tuple[str, ...] | None = None
    default_implementation: str | None = None
    forward_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UnknownType:
    """transformers does not know the model type (or only remote code could build it); nearest: similar names."""

    model_type: str
    reason: str
    nearest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TinyInfo:
    """The tiny model that stands for the target.

    config: its config as raw keys (what the oracle must read to know what the *tiny* model declares), text sub-config
    level for multimodal types. kind: as in `ClassFacts`. num_layers: layers of the decoder (or only) stack;
    num_encoder_layers: of the encoder. vocab_size, pad_token_id: for inputs. takes_position_ids, takes_cache: of its
    forward. rung: which rung of the ladder built it ("16", "32", ..., "native"). path: keys from the whole config
    down to the sub-config that was built, () for the whole. notes: what was changed beyond sizes.
    """

    config: Config
    kind: str
    model_class: str
    num_layers: int
    num_encoder_layers: int = 0
    vocab_size: int = 128
    pad_token_id: int | None = 0
    takes_position_ids: bool = True
    takes_cache: bool = True
    rung: str = "16"
    path: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotBuilt:
    """No tiny model of this type could be built; reasons say what was tried. textless: its class reads no text."""

    reasons: tuple[Reason, ...]
    textless: bool = False


# Requests -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Describe:
    """Ask for `ClassFacts | UnknownType` of a config (the raw file with overrides applied)."""

    config: Config
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True)
class Build:
    """Ask for `TinyInfo | NotBuilt`. The worker keeps the model for the `Probe` requests that follow."""

    config: Config
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask for one `ScenarioRun` per variant of each scenario, streamed, then `Done`.

    dtype: "float32", "bfloat16", "float16". device: "cpu" or "cuda". plugins: modules imported first; each may
    register further attention implementations (tests plant faulty ones this way). predict: let the flash contract in
    plain torch answer even where the real kernel could.
    """

    implementation: str
    scenarios: tuple[str, ...]
    dtype: str = "float32"
    device: str = "cpu"
    seed: int = 0
    plugins: tuple[str, ...] = ()
    predict: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """Ask for the answers of a kernel job, step by step; each `Started` and `StepDone`, then `Done`.

    name: of a job in `attncheck.probe.kernels`. steps: what it does one after another, in the job's own words.
    arguments: plain data.
    """

    name: str
    steps: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AskTorch:
    """Ask what the imported torch says of itself: one `StepDone` with the JSON of `torch_trial.state`, then `Done`."""


@dataclass(frozen=True, slots=True)
class AskTypes:
    """Ask for every model type that the installed transformers knows: one `StepDone` with their names, then `Done`."""


Request = Describe | Build | Probe | Job | AskTorch | AskTypes

# Answers ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has imported what it needs, or failed to; sent once, unasked."""


@dataclass(frozen=True, slots=True)
class Started:
    """The worker begins this scenario, or step of a job; the parent's clock for its time limit starts here.

    implementation: that of the probe, or the job's name.
    """

    implementation: str
    scenario: str


@dataclass(frozen=True, slots=True)
class StepDone:
    """What one step of a job found: plain data of the job's own kind, or how the step broke."""

    step: str
    outcome: Any


@dataclass(frozen=True, slots=True)
class Done:
    """The request is answered in full."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The request itself broke: the exception as text, with its traceback for ATTNCHECK_DEBUG.

    kind: as of `Crashed`, or "import" when torch or transformers cannot be imported. hint: what helps. spent: True when
    this process can do no more work (its CUDA context is lost) and must be replaced.
    """

    reason: str
    traceback: str = ""
    kind: str = "exception"
    hint: str = ""
    spent: bool = False


Answer = ClassFacts | UnknownType | TinyInfo | NotBuilt | ScenarioRun | Ready | Started | StepDone | Done | Failed
