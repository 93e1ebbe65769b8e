"""Probes one model type in one setting, as `attncheck compare TYPE --set ...` would, and puts the result into a row."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from attncheck import checks
from attncheck.comparison.measuring import Measured, runs_of
from attncheck.comparison.options import CompareOptions
from attncheck.comparison.target import Target, framework_decisions
from attncheck.declared import oracle, overrides
from attncheck.declared.source import ConfigSource
from attncheck.environment import Environment
from attncheck.errors import AttnCheckError
from attncheck.frameworks.interface import Decision, Usable
from attncheck.pipeline import inputs_of
from attncheck.probe.client import Prober
from attncheck.probe.protocol import Build, ClassFacts, Describe, NotBuilt, Probe, UnknownType
from attncheck.probe.scenario import scenarios
from attncheck.semantics.observation import Basis, Method, NotRun, Observed, ScenarioRun
from attncheck.survey.digest import cells_of, declared_of, findings_of
from attncheck.survey.options import without_mark
from attncheck.survey.settings import Setting
from attncheck.surveyed import Plan, Row, Status

Progress = Callable[[str], None]


class TooLong(Exception):
    """The type used up its time."""


def describe(prober: Prober, model_type: str) -> ClassFacts | Row:
    """What transformers knows of a type, or the row that says why it cannot be probed."""
    try:
        facts = prober.describe(Describe({"model_type": model_type}))
    except AttnCheckError as error:
        return Row(model_type, status=Status.LOST, reason=error.message)
    if isinstance(facts, UnknownType):
        return Row(model_type, status=Status.NOT_BUILT, reason=facts.reason)
    if not facts.model_class:
        return Row(model_type, status=Status.NO_TEXT, reason="transformers has no model class of this type for text")
    return facts


def examine(
    prober: Prober,
    facts: ClassFacts,
    setting: Setting,
    plan: Plan,
    environment: Environment,
    limit: float,
    progress: Progress,
) -> Row:
    """The row of one type in one setting. limit: seconds it may take; what is not done by then is not run."""
    started = time.monotonic()
    row = Row(
        facts.model_type,
        setting.name,
        setting.assignments,
        kind=facts.kind,
        model_class=facts.model_class,
        default=facts.default_implementation or "",
    )
    try:
        target = _target(prober, facts, setting)
        built = prober.build(Build(target.config))
    except AttnCheckError as error:
        return replace(row, status=Status.LOST, reason=error.message)
    if isinstance(built, NotBuilt):
        status = Status.NO_TEXT if built.textless else Status.NOT_BUILT
        return replace(row, status=status, reason="; ".join(reason.text for reason in built.reasons))
    options = CompareOptions(
        facts.model_type,
        impl=tuple(dict.fromkeys(without_mark(name)[0] for name in plan.implementations)),
        scenario=plan.scenarios if plan.asked else (),
        assignments=setting.assignments,
        device=plan.device,
        dtype=plan.dtype,
        plugins=plan.plugins,
        seed=plan.seed,
    )
    decisions = _decisions(framework_decisions(target.facts, environment, options), plan)
    runs: list[ScenarioRun] = []
    for name, decision in decisions.items():
        runs += _timed_runs(prober, name, decision, plan, started + limit, limit, progress)
    measured = Measured(built, decisions, runs)
    conclusion = checks.evaluate(inputs_of(target, measured, options, plan.dtype))
    return replace(
        row,
        kind=built.kind,
        model_class=built.model_class,
        method="+".join(sorted({_METHODS[m] for m in _methods(runs)})),
        declared=declared_of(target.spec),
        notes=tuple(f"{note.code}: {note.text}" for note in target.spec.notes),
        cells=cells_of(conclusion, plan),
        findings=findings_of(conclusion),
        seconds=round(time.monotonic() - started, 2),
    )


def _target(prober: Prober, facts: ClassFacts, setting: Setting) -> Target:
    """The target that the command line would read, without looking for files that happen to be called like the type."""
    name = facts.model_type
    found = ConfigSource(name, "model_type", f"model type {name} with the defaults of its class", {"model_type": name})
    config = overrides.apply(found.config, setting.assignments, facts.keys, defaults=facts.defaults)
    if setting.assignments:
        again = prober.describe(Describe(config))
        facts = again if isinstance(again, ClassFacts) else facts
    return Target(found, config, facts, oracle.declare(config, facts.defaults))


def _decisions(decisions: dict[str, Decision], plan: Plan) -> dict[str, Decision]:
    """One decision a column: predictions are only worth a column of their own beside a kernel that really runs."""
    found: dict[str, Decision] = {}
    for column in plan.implementations:
        name, predicted = without_mark(column)
        if not predicted:
            found[column] = decisions[name]
        elif isinstance(decisions[name], Usable):
            found[column] = Usable(column)
    return found


def _timed_runs(
    prober: Prober, column: str, decision: Decision, plan: Plan, end: float, limit: float, progress: Progress
) -> list[ScenarioRun]:
    name, predicted = without_mark(column)

    def tell(text: str) -> None:
        progress(text)
        if time.monotonic() > end:
            raise TooLong

    request = Probe(name, plan.scenarios, plan.dtype, plan.device, plan.seed, plan.plugins, predict=predicted)
    try:
        if time.monotonic() > end:
            raise TooLong
        runs = runs_of(prober, decision, request, tell)
    except TooLong:
        why = NotRun(f"this type took longer than {limit:.0f} s")
        core = {scenario.name: scenario.core for scenario in scenarios()}
        return [
            ScenarioRun(column, scenario, "", Basis.MEASURED, why, core.get(scenario, False))
            for scenario in plan.scenarios
        ]
    return [_in_column(run, name, column) for run in runs]


def _in_column(run: ScenarioRun, name: str, column: str) -> ScenarioRun:
    outcome = run.outcome
    if isinstance(outcome, Observed) and outcome.used_implementation == name:
        outcome = replace(outcome, used_implementation=column)  # what was asked for ran: no other implementation did
    return replace(run, implementation=column, outcome=outcome)


_METHODS = {Method.IDENTITY: "calls", Method.PERTURBATION: "black-box", Method.JACOBIAN: "black-box"}


def _methods(runs: list[ScenarioRun]) -> set[Method]:
    outcomes = [run.outcome for run in runs]
    return {call.method for outcome in outcomes if isinstance(outcome, Observed) for call in outcome.calls}
