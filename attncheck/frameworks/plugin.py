"""The seam of a training framework: what it reads, what it would really run, and how it says so, as plain data.

A module of `attncheck.frameworks` offers a `FRAMEWORK`; `plugins()` finds them. All of it is pure: settings, the
environment and facts of the model in, a `Resolution` out. What has to be run is named as data too
(`Resolution.calls`) and run by whoever stands above; this package never imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from attncheck import discovery
from attncheck.environment import Environment
from attncheck.errors import UsageError
from attncheck.findings import Recommendation, Severity
from attncheck.frameworks.interface import ClassSupport
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import ModelSpec
from attncheck.semantics.written import LayerCalls


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user told the framework.

    settings: the keys of a settings file with their values as YAML or JSON types them. assigned: `key=value` texts of
    the command line, which win over the file; each framework types them as its own parser would. version: of
    `--framework-version`, None where nobody said. file: the settings file, "" without one. lines: key -> its line in
    the file, from 1. text, ended: the file's lines as in `SettingsFile`, for diffs.
    model: the TARGET of the command line, "" where it is the settings file itself. use: of `--use`, "" where nobody
    said "train".
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    assigned: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None
    file: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)
    text: tuple[str, ...] = ()
    ended: bool = True
    model: str = ""
    use: str = ""

    def written(self, key: str) -> str:
        """The value as it stands in the file or the argument: `off` where YAML makes it false; "" unknown."""
        if key in self.assigned:
            return self.assigned[key]
        line = self.text[self.lines[key] - 1] if key in self.lines else ""
        found = re.match(rf"""\s*["']?{re.escape(key)}["']?\s*:\s*["']?([^\s"',#]+)["']?,?\s*(#.*)?$""", line)
        return found[1] if found else ""

    def where(self, key: str) -> str:
        """Where the value of a key stands, for messages: `train.yaml, line 7`, or the command line."""
        if key in self.assigned or not self.file:
            return "the command line"
        return f"{self.file}, line {self.lines[key]}" if key in self.lines else self.file


@dataclass(frozen=True, slots=True)
class Plan:
    """What the settings say before the model is known; None and "" mean that they do not say.

    target: the checkpoint, as a TARGET of `compare`. overrides: config keys that the framework sets on load, as
    (dotted key, value). seq_len: longest sequence, in tokens. use: "generate" or "train". packing: several documents
    share a row. dtype: of the weights, torch's short name ("bfloat16"). Options of the command line win over all of it.
    Whether the checkpoint's own code may run is never read from settings: only the user's --trust-remote-code says so.
    """

    target: str = ""
    overrides: tuple[tuple[str, Any], ...] = ()
    seq_len: int | None = None
    use: str = ""
    packing: bool = False
    dtype: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of the model when a framework resolves its settings.

    id: of the checkpoint. config: its raw keys, overrides applied. support: what the installed transformers' class
    declares. kind: as in `ClassFacts`. has_window: some layer declares a sliding window that sequences can outgrow.
    spec: what each layer declares, None where nobody read it.
    """

    id: str
    model_type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    support: ClassSupport = field(default_factory=lambda: ClassSupport("", ""))
    kind: str = "causal-lm"
    has_window: bool = False
    spec: ModelSpec | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One link of the chain from a setting to what runs.

    setting, value: as the user wrote them ("flash_attn", "fa2"), "" for what the framework does by itself. does: what
    this version makes of it, a clause without a full stop. source: file and function that were read, or how it was
    measured. line: of the setting in the file, None without one. basis: of this step; STATIC is reading the source.
    """

    does: str
    setting: str = ""
    value: str = ""
    source: str = ""
    line: int | None = None
    basis: Basis = Basis.STATIC


def newer_than(newest: object) -> Step:
    """The link for a release after the newest whose source was read."""
    return Step(f"is newer than {newest}, the newest release that was read: its rules are taken", "version")


@dataclass(frozen=True, slots=True)
class Runs:
    """transformers' attention interface runs, with this implementation (transformers' own name)."""

    implementation: str


@dataclass(frozen=True, slots=True)
class RunsOwn:
    """The framework's own attention runs, where `config._attn_implementation` means nothing.

    what: "Unsloth's fast path", "TransformerEngine FusedAttention". backends: kernels it would pick, best first.
    """

    what: str
    backends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fails:
    """The run ends with an error before anything attends. error: the exception's type. reason: its text, or in short.

    setting: the key to blame.
    """

    error: str
    reason: str
    setting: str = ""


@dataclass(frozen=True, slots=True)
class Unresolved:
    """What runs cannot be said without guessing."""

    reason: str


def unread(oldest: object, version: object) -> Unresolved:
    """What is said of a release before the oldest whose source was read."""
    return Unresolved(f"releases before {oldest} were not read, and {version} is meant")


Outcome = Runs | RunsOwn | Fails | Unresolved


@dataclass(frozen=True, slots=True)
class SubModel:
    """One sub-model (vision tower, language model ...) of a model that has several.

    requested, effective: implementations; "" unknown.
    """

    name: str
    requested: str
    effective: str
    why: str = ""
    basis: Basis = Basis.STATIC


@dataclass(frozen=True, slots=True)
class Remark:
    """Something known of this framework, version or combination of settings that is worth a finding of its own.

    slug: of a rule. message: one sentence that stands by itself. setting: the key to blame, for its line in the file.
    fixes: what helps, in the framework's own words. basis: STATIC unless a probe said it. evidence: what it rests on
    (source file, thread). implementation: None for what is about the settings.
    """

    slug: str
    severity: Severity
    message: str
    setting: str = ""
    fixes: tuple[Recommendation, ...] = ()
    basis: Basis = Basis.STATIC
    evidence: str = ""
    implementation: str | None = None
    scenario: str = ""


@dataclass(frozen=True, slots=True)
class LogWarning:
    """A line that the framework or transformers writes into the log of such a run; the probes judge whether it is true.

    text: as logged. claims: the slug of the difference it warns of ("window-ignored"). implementation: it is about.
    printed_by: file or class. known: what the source or earlier measurements say of the version that is meant:
    "real", "stale", "inert"; "" unknown. It is used where that version is not the one that is measured. window: tokens
    of the window that it is about; no sequence of at most that many meets it. None unknown.
    """

    text: str
    claims: str
    implementation: str
    printed_by: str = ""
    known: str = ""
    known_from: str = ""
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a framework makes of its settings, here and in that version.

    version: "" when unknown. version_from: "installed", "asked" (--framework-version) or "newest known". named: the
    framework with its version, for sentences. settings: those that matter, as text, in the order of the report. steps:
    the chain. outcome: what runs. scenarios: those that such a run meets, so that they count as used: what goes wrong
    there is an error; they are probed with the core ones. beside: scenarios that it meets too, where a fault is by
    design or may never matter: a warning. remedies: scenario -> what to change when the probes find it wrong. fixes:
    what to change when the run fails. offers: transformers' names of the implementations that the framework can be told
    to use; they are probed for comparison. recommend: how it is told. versions: what the run needs of other packages,
    for a remark when the installed ones lie outside ("transformers" -> ">=4.55.0,<=5.6.0"). calls: kernel calls that
    the framework makes itself, with the settings as written; they are run where the version that is meant is installed,
    else judged by what `WrittenCall.means` says. elsewhere: another machine than this one is meant, so nothing is run.
    bypasses: transformers' attention interface is never used. variables: environment variables that are set here and
    that this version reads, those among the settings left out.
    """

    framework: str
    version: str
    version_from: str
    outcome: Outcome
    named: str = ""
    steps: tuple[Step, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)
    scenarios: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    sub_models: tuple[SubModel, ...] = ()
    remarks: tuple[Remark, ...] = ()
    warnings: tuple[LogWarning, ...] = ()
    remedies: Mapping[str, tuple[Recommendation, ...]] = field(default_factory=dict)
    fixes: tuple[Recommendation, ...] = ()
    offers: tuple[str, ...] = ()
    recommend: Callable[[str], Recommendation] = lambda name: Recommendation(f"use {name}")
    versions: Mapping[str, str] = field(default_factory=dict)
    calls: tuple[LayerCalls, ...] = ()
    elsewhere: bool = False
    bypasses: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> str:
        """Transformers' name of the implementation that runs; "" where none does."""
        return self.outcome.implementation if isinstance(self.outcome, Runs) else ""


@dataclass(frozen=True, slots=True)
class Framework:
    """One framework. A module of `attncheck.frameworks` offers it as `FRAMEWORK`.

    name: of `--framework` and of settings in reports. title: as its makers write it. distribution: whose metadata gives
    the version, in `environment.LIBRARIES`. wheels: other distributions of it, which come first. newest: the version
    that is assumed where it is neither installed nor said.
    recognises: whether a settings file is one of this framework's, by its keys. plan: what the settings say before the
    model is known; it checks keys and types, and raises UsageError with the place of what is wrong. resolve: what runs.
    """

    name: str
    title: str
    distribution: str
    newest: str
    plan: Callable[[Asked], Plan]
    resolve: Callable[[Asked, Environment, ModelFacts], Resolution]
    recognises: Callable[[Mapping[str, Any]], bool] = lambda settings: False
    wheels: tuple[str, ...] = ()

    def version(self, asked: Asked, environment: Environment) -> tuple[str, str]:
        """(version, where it is from: "asked", "installed" or "newest known")."""
        if asked.version:
            return asked.version, "asked"
        for name in (*self.wheels, self.distribution):
            if (installed := environment.version(name)) is not None:
                return installed, "installed"
        return self.newest, "newest known"


@cache
def frameworks() -> dict[str, Framework]:
    """Every framework by name."""
    from attncheck import frameworks as package

    return {entry.name: entry for entry in discovery.plugins(package, "FRAMEWORK", Framework)}


def find(name: str) -> Framework:
    """The framework of that name. Raises UsageError with the names there are."""
    known = frameworks()
    if name not in known:
        raise UsageError(f"--framework {name}: there is no such framework", f"choose from {', '.join(sorted(known))}")
    return known[name]
