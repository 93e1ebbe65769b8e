"""What a watch saw of a running script: one record an attention call, and the rows that a report shows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attncheck.semantics.layout import Layout
from attncheck.semantics.observation import Basis, HeadMask
from attncheck.semantics.spec import Part


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the model above an attention call was fed, as its live forward call shows; only for the rows that were read.

    decoder, encoder: as in `ScenarioRun`. remarks: what cannot be judged, and why. known: False where no forward call
    of a model with a config was found.
    """

    decoder: Layout | None = None
    encoder: Layout | None = None
    remarks: tuple[str, ...] = ()
    known: bool = False


@dataclass(frozen=True, slots=True)
class WatchedCall:
    """One attention call of a running script, read beside it.

    api: which of the watched interfaces ("sdpa", "flash-attn-2", "xformers", "transformers" ...); function: its name.
    implementation: the name under which transformers called it, "" outside of transformers; configured: the one its
    config names. kernel: the kernel below that really ran, as far as known; launched: the name of the CUDA kernel that
    a profiler saw. where: "model.py:41 in forward". module: path in its model, else the class's name; "" without one.
    model: number of the model in the record, None without a config. layer: index in its part. switched: what
    the module's own `is_causal` says, None without one. number: how manieth
    recorded call of its site and kind. training: its module was in training mode (without a module: gradients were
    recorded). query, key, value: shapes as given. q_len,
    kv_len: tokens. mask_kind: as in `Requested`. mask_hides: the mask forbids some cell; None where that is not known.
    mask_values: the two values of an additive mask that has no others. window: the window argument as given. rows:
    batch rows that were read. seen: what the kernel let their queries see; asked: what the arguments ask for, empty
    where that is no dense mask; in both, `heads` is empty where all are alike. nan_rows: (batch row, query) of the
    first row with NaN or Inf in the call's own output though its inputs are finite, and how many there are.
    hidden_keys_used: under is_causal with more keys than queries, whether the keys that no query can see hold anything
    but zeros. unread: why the effective mask was not read. segments: (queries, keys) of each packed sequence of a
    variable-length call.
    """

    api: str
    function: str
    implementation: str = ""
    configured: str = ""
    kernel: str = ""
    launched: str = ""
    where: str = ""
    module: str = ""
    module_class: str = ""
    model: int | None = None
    part: Part | None = None
    layer: int | None = None
    switched: bool | None = None
    number: int = 0
    training: bool = False
    query: tuple[int, ...] = ()
    key: tuple[int, ...] = ()
    value: tuple[int, ...] = ()
    q_len: int = 0
    kv_len: int = 0
    num_heads: int = 0
    dtype: str = ""
    device: str = ""
    mask_kind: str = "none"
    mask_hides: bool | None = None
    mask_values: tuple[float, ...] = ()
    is_causal: bool | None = None
    window: str = ""
    scale: float | None = None
    softcap: float | None = None
    dropout: float = 0.0
    rows: tuple[int, ...] = ()
    seen: tuple[HeadMask, ...] = ()
    asked: tuple[HeadMask, ...] = ()
    nan_rows: tuple[int, int, int] | None = None
    hidden_keys_used: bool | None = None
    unread: str = ""
    segments: tuple[tuple[int, int], ...] = ()
    tokens: Tokens = Tokens()


@dataclass(frozen=True, slots=True)
class WatchedModel:
    """A model that made attention calls: its class, and the config it runs with as plain data."""

    name: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WatchedProcess:
    """What one process recorded.

    rank: of a distributed run, None outside of one. command: what the process ran. versions: of the libraries it
    loaded. passed: attention calls that went by after the watch had stood aside are not counted; these were, and were
    not recorded. compiled: graphs of torch.compile, in which no call is seen. failures: what could
    not be read, as text. ended: the process came to its own end (False: killed, or still running).
    """

    pid: int
    rank: int | None = None
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    models: tuple[WatchedModel, ...] = ()
    calls: tuple[WatchedCall, ...] = ()
    passed: int = 0
    compiled: int = 0
    failures: tuple[str, ...] = ()
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """Calls that are alike, over layers, steps and ranks: one row of the report.

    where, function, implementation, kernel, launched, dtype, device, mask_kind, is_causal, window: as in `WatchedCall`.
    part, layers: of a model's attention; empty outside. phase: "train" or "eval". shape: query and key as
    text. sees: the effective mask in words, "" where it was not read (reason says why). declared: the same of the
    config. verdict: "ok", "mismatch", "unknown" (read, but nothing says what should be seen) or "not_run" (not read).
    difference: the slug of a mismatch. calls: how many were read. ranks: those that made them, empty outside of a
    distributed run.
    """

    function: str
    where: str = ""
    implementation: str = ""
    kernel: str = ""
    launched: str = ""
    module: str = ""
    part: Part | None = None
    layers: tuple[int, ...] = ()
    phase: str = "eval"
    shape: str = ""
    dtype: str = ""
    device: str = ""
    mask_kind: str = "none"
    is_causal: bool | None = None
    window: str = ""
    sees: str = ""
    declared: str = ""
    verdict: str = "unknown"
    difference: str | None = None
    basis: Basis | None = None
    reason: str = ""
    calls: int = 0
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Watch:
    """A script as a watch saw it.

    script: its command as typed, "" for a watch inside a process. status: its exit code, 128 + n for signal n, None
    while it runs. ended_by: the signal's name, "" without one. first: how many calls of each site and kind were read.
    processes: those that made attention calls. compiled, failures: as in `WatchedProcess`, over all of them.
    """

    sites: tuple[Site, ...] = ()
    script: str = ""
    status: int | None = None
    ended_by: str = ""
    first: int = 0
    processes: int = 0
    ranks: tuple[int, ...] = ()
    compiled: int = 0
    failures: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
