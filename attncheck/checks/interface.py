"""What a check is, what it may read, and what all checks together conclude."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attncheck.checks.machine import MachineCheck
from attncheck.findings import Evidence, Finding, Recommendation, Rule
from attncheck.frameworks.plugin import Resolution
from attncheck.semantics.difference import Difference
from attncheck.semantics.layer_masks import LayerMasks
from attncheck.semantics.layout import Layout
from attncheck.semantics.observation import CallObservation, Reason, Rejected, ScenarioRun
from attncheck.semantics.shape import ShapeReading
from attncheck.semantics.spec import AttentionSpec, ModelSpec, Part
from attncheck.semantics.speeds import HeldBench, Speeds
from attncheck.semantics.sub_models import AskedRun, WithoutFlash
from attncheck.semantics.tolerances import Tolerances, tolerances
from attncheck.semantics.written import OwnCalls
from attncheck.verdicts import Cell, Implementation, Recommended

Overrides = tuple[tuple[str, Any], ...]

#: The implementation whose masks stand in where a layer declares nothing knowable.
REFERENCE = "eager"


@dataclass(frozen=True, slots=True)
class Options:
    """What the user said about the use of the model.

    seq_len: longest sequence that will be run, in tokens; None is unbounded. use: "generate" or "train". packing: packed
    training is meant. scenarios, implementations: those asked for by name. dtype: of the probes, torch's short name.
    """

    seq_len: int | None = None
    use: str = "generate"
    packing: bool = False
    scenarios: frozenset[str] = frozenset()
    dtype: str = "float32"
    implementations: frozenset[str] = frozenset()

    def asked(self, scenario: str) -> bool:
        """True when the user asked for this scenario: by name, by what the model is used for, or by packing."""
        if scenario in self.scenarios or (self.use == "train" and scenario == "gradients"):
            return True
        return self.packing and (scenario.startswith("packed") or scenario == "position-jump")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything the checks may read.

    target: as the user typed it, with its --set options, for commands to paste. real, tiny: what the checkpoint and the probed tiny model
    declare. declare: what the tiny model declares under overrides (of `ScenarioRun.overrides`). runs: every scenario
    variant under every implementation. implementations: in the order of the report. default: the one the framework picks
    by itself. refused: implementations the framework does not accept, with reasons. lacking: what this machine lacks for
    an implementation that is therefore only predicted. replaced: implementation -> (what
    would quietly run instead, why). tiny_config: raw keys of the tiny model, for snippets; model_class: its class.
    vocab_size: of the tiny model. settings: what to paste to get an implementation. versions: of the installed libraries
    in whose code known defects lie; None for an absent one. shapes: what kernels do at the checkpoint's true sizes.
    sub_models: what each sub-model runs when attention is asked for in some way. without: the answer to `--without`.
    live: the model itself was probed (`tiny` is `real`), so that a layer stands for itself alone. framework: what a
    training framework's settings resolve to, None where none was named. own: kernel calls that it makes itself.
    bench: a stored bench whose times order what is right, None without.
    """

    target: str
    real: ModelSpec
    tiny: ModelSpec
    declare: Callable[[Overrides], ModelSpec]
    runs: Sequence[ScenarioRun]
    implementations: Sequence[str] = ()
    default: str | None = None
    refused: Mapping[str, Rejected] = field(default_factory=dict)
    lacking: Mapping[str, tuple[Reason, ...]] = field(default_factory=dict)
    replaced: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    tiny_config: Mapping[str, Any] = field(default_factory=dict)
    model_class: str = ""
    vocab_size: int = 128
    settings: Callable[[str], Recommendation] = lambda name: Recommendation(f"use {name}")
    options: Options = Options()
    versions: Mapping[str, str | None] = field(default_factory=dict)
    shapes: Sequence[ShapeReading] = ()
    live: bool = False
    sub_models: Sequence[AskedRun] = ()
    without: WithoutFlash | None = None
    framework: Resolution | None = None
    own: OwnCalls | None = None
    bench: HeldBench | None = None

    @property
    def seq_len(self) -> int | None:
        """The longest sequence to judge by: what the user said, else what the checkpoint says."""
        return self.options.seq_len if self.options.seq_len is not None else self.real.max_position

    @property
    def tolerances(self) -> Tolerances:
        """How far numbers may be off in the dtype of the probes."""
        return tolerances(self.options.dtype)


@dataclass(frozen=True, slots=True)
class View:
    """One layer of the tiny model in one scenario variant, under one implementation and kernel: a unit of judgement.

    spec: what the tiny layer declares there, overrides applied. real: layers of the checkpoint that it stands for.
    real_spec: what the first of those declares. layout: of the queries; encoder: of the keys of cross-attention.
    masks: its masks beside the tokens. differences: how they differ from the declaration, or from `reference` where
    nothing knowable is declared; empty without a truth. reference: the same layer under eager, if that was probed.
    """

    run: ScenarioRun
    part: Part
    layer: int
    kernel: str
    spec: AttentionSpec
    real: tuple[int, ...]
    real_spec: AttentionSpec | None
    calls: tuple[CallObservation, ...]
    masks: LayerMasks
    layout: Layout
    encoder: Layout | None = None
    differences: tuple[Difference, ...] = ()
    reference: View | None = None

    @property
    def broken(self) -> bool:
        """True when some output is NaN or Inf: nothing else can be concluded from it."""
        return any(call.nan_rows for call in self.calls)

    @property
    def dropout(self) -> bool:
        """True when keys came and went between readings, or are missing at random: masks and fits mean little then."""
        return any(call.unstable for call in self.calls) or any(
            "dropout-active" in difference.slugs for difference in self.differences
        )

    def some_heads(self, heads: Iterable[int]) -> tuple[int, ...]:
        """The heads sorted, or empty when they are all there are."""
        chosen = tuple(sorted(set(heads)))
        return () if len(chosen) >= max((call.num_heads for call in self.calls), default=0) else chosen


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing wrong with one view. weight: how bad beside other issues of the same slug (wrong cells, deviation).

    headline: as in `Finding`.
    """

    slug: str
    view: View
    message: str
    evidence: Evidence = field(default_factory=Evidence)
    weight: float = 0.0
    headline: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """What checks of a whole run may read besides the inputs: the views, and the findings about them."""

    inputs: Inputs
    views: Sequence[View]
    findings: Sequence[Finding] = ()


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """One file of checks: its rules, and how it looks for them. A module of `attncheck.checks` offers it as `GROUP`.

    judge: looks at one view. conclude: looks at the whole run, after every view was judged. machine: checks of
    `doctor`. order: place in reports.
    """

    name: str
    rules: tuple[Rule, ...]
    order: int
    judge: Callable[[View, Inputs], Iterable[Issue]] | None = None
    conclude: Callable[[Case], Iterable[Finding]] | None = None
    machine: tuple[MachineCheck, ...] = ()


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What all checks conclude."""

    implementations: tuple[Implementation, ...]
    cells: tuple[Cell, ...]
    findings: tuple[Finding, ...]
    recommended: Recommended | None = None
    speeds: Speeds | None = None
