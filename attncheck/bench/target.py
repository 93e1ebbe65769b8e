"""The model whose sizes are timed: what it declares, and which implementations transformers would run of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attncheck import checks, pipeline
from attncheck.bench.options import BenchOptions
from attncheck.environment import Environment
from attncheck.findings import Recommendation
from attncheck.frameworks import transformers as framework
from attncheck.frameworks.interface import Decision
from attncheck.pipeline import CompareOptions
from attncheck.probe.client import Prober
from attncheck.verdicts import LayerGroup, Model


@dataclass(frozen=True, slots=True)
class Declared:
    """A target as far as it is known without running it.

    config: raw keys, overrides applied. longest: tokens that the checkpoint says it handles, None unknown. decisions:
    what transformers makes of each implementation here. settings: what to paste to get one. typed: the target with its
    options as users type them; target: by itself.
    """

    target: str
    model: Model
    config: Mapping[str, Any]
    longest: int | None
    decisions: Mapping[str, Decision]
    settings: Callable[[str], Recommendation]
    typed: str

    @property
    def groups(self) -> tuple[LayerGroup, ...]:
        """Layers that declare the same attention, together."""
        return self.model.groups


def compare_options(options: BenchOptions, target: str) -> CompareOptions:
    """The options of `compare` that mean the same target."""
    return CompareOptions(
        target=target,
        assignments=options.assignments,
        unchecked=options.unchecked,
        device=options.device,
        dtype=options.dtype,
        revision=options.revision,
        trust_remote_code=options.trust_remote_code,
        plugins=options.plugins,
        offline=options.offline,
        timeout=options.timeout,
        seed=options.seed,
    )


def read(options: BenchOptions, target: str, environment: Environment) -> Declared:
    """Read the target; imports transformers in a worker process. Raises TargetError or UsageError."""
    asked = compare_options(options, target)
    with Prober(options.timeout, offline=options.offline) as prober:
        found = pipeline.read_target(prober, asked)
    facts = found.facts
    return Declared(
        target=target,
        model=pipeline.model_of(found, checks.layer_groups(found.spec, None)),
        config=found.config,
        longest=found.spec.max_position,
        decisions=pipeline.framework_decisions(facts, environment, asked),
        settings=lambda name: framework.settings(
            name, kind=facts.kind, target=found.found.loadable, version=facts.transformers
        ),
        typed=pipeline.retyped(asked),
    )
