"""The measuring of `compare`: runs every implementation as transformers would, and its kernels at the real sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from attncheck import verdicts
from attncheck.comparison.options import CompareOptions, run_dtype
from attncheck.comparison.target import Target
from attncheck.environment import Environment
from attncheck.frameworks.flash_kernels import FLASH_NAMES
from attncheck.frameworks.interface import Decision, Redirected, Unavailable, Usable
from attncheck.probe import shapes
from attncheck.probe.client import Prober
from attncheck.probe.protocol import Build, NotBuilt, Probe, TinyInfo
from attncheck.probe.scenario import every_scenario
from attncheck.semantics.observation import Basis, NotRun, Rejected, ScenarioRun
from attncheck.semantics.shape import ShapeReading
from attncheck.semantics.spec import AttentionSpec

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the probes gave. tiny: None when no model could be built. vision: layers of its vision tower, if any."""

    tiny: TinyInfo | None
    decisions: Mapping[str, Decision]
    runs: Sequence[ScenarioRun]
    vision: tuple[AttentionSpec, ...] = ()


def measure(
    prober: Prober, target: Target, decisions: Mapping[str, Decision], probe: Probe, progress: Progress
) -> Measured:
    """The runs of every implementation by the tiny model. probe: what is asked of each, but for its name."""
    progress("building the tiny model")
    built = prober.build(Build(target.config, target.remote_code))
    if isinstance(built, NotBuilt):
        why = NotRun("no tiny model of this type could be built: " + "; ".join(reason.text for reason in built.reasons))
        runs = [run for name in decisions for run in _not_run(name, probe.scenarios, why)]
        return Measured(None, decisions, runs)
    runs = [
        run
        for name, decision in decisions.items()
        for run in runs_of(prober, decision, replace(probe, implementation=name), progress)
    ]
    return Measured(built, decisions, runs)


def runs_of(prober: Prober, decision: Decision, request: Probe, progress: Progress) -> list[ScenarioRun]:
    """The runs of one implementation, as transformers would really run it."""
    name = request.implementation
    called = called_as(name, decision)
    if called is None:
        return []
    if isinstance(called, NotRun):
        return _not_run(name, request.scenarios, called)
    request = replace(request, implementation=called)
    if runs_here(name, decision, request.device):
        return list(prober.probe(request, progress))
    request = replace(request, device="cpu")  # only the documented contract can answer, in plain torch
    # Of a worker that died nobody hears on what the run rested.
    return [replace(run, implementation=name, basis=Basis.PREDICTED) for run in prober.probe(request, progress)]


def called_as(name: str, decision: Decision) -> str | NotRun | None:
    """The implementation whose function is called when `name` is asked for; None where transformers raises."""
    if isinstance(decision, Rejected) or (isinstance(decision, Redirected) and not decision.available):
        return None
    if not isinstance(decision, Redirected):
        return name
    if decision.contract is None:
        return NotRun(f"transformers would run {decision.actual} instead, whose call contract is not known")
    return decision.contract


def runs_here(name: str, decision: Decision, device: str) -> bool:
    """True where its own kernel can run on that device; else only its documented contract can answer: a prediction."""
    return not isinstance(decision, Unavailable | Redirected) and not (device == "cpu" and name in FLASH_NAMES)


def real_shapes(
    groups: Sequence[verdicts.LayerGroup],
    measured: Measured,
    environment: Environment,
    options: CompareOptions,
    device: str,
    longest: int | None,
    progress: Progress,
) -> tuple[ShapeReading, ...]:
    """What the kernels of each implementation that transformers would run do at the checkpoint's true sizes."""
    names = [name for name, decision in measured.decisions.items() if isinstance(decision, Usable | Unavailable)]
    # What a user would run, also where the probes of the tiny model are float32.
    wanted = shapes.cases(groups, measured.runs, names, run_dtype(options))
    return shapes.read(wanted, environment, shapes.Plan(device, longest=longest, seed=options.seed), progress)


def _not_run(name: str, asked: Sequence[str], why: NotRun) -> list[ScenarioRun]:
    """One run a scenario that nobody tried."""
    return [
        ScenarioRun(name, scenario.name, "", Basis.MEASURED, why, core=scenario.core)
        for scenario in every_scenario()
        if scenario.name in asked
    ]
