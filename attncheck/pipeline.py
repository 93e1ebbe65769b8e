"""The use case of `compare`, step by step: returns a Report and prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeGuard

from attncheck import __version__, checks
from attncheck.comparison import framework as framing
from attncheck.comparison import own_calls, stored_bench, sub_models, without
from attncheck.comparison.measuring import Measured, measure, real_shapes
from attncheck.comparison.options import (
    CompareOptions,
    arguments_of,
    check_implementations,
    check_plugins,
    device_and_dtype,
    retyped,
    scenario_names,
)
from attncheck.comparison.target import Target, framework_decisions, model_of, read_target
from attncheck.declared import oracle
from attncheck.declared.original import original
from attncheck.environment import read_environment
from attncheck.frameworks import llava_words
from attncheck.frameworks import transformers as framework
from attncheck.frameworks.interface import Decision, Redirected, Unavailable
from attncheck.probe.client import Prober
from attncheck.probe.protocol import Probe
from attncheck.probe.scenario import scenarios
from attncheck.report import Report
from attncheck.semantics.observation import Rejected

__all__ = [
    "CompareOptions",
    "Progress",
    "Target",
    "check_plugins",
    "compare",
    "framework_decisions",
    "model_of",
    "read_target",
    "retyped",
]

Progress = Callable[[str], None]


def compare(options: CompareOptions, progress: Progress = lambda _: None) -> Report:
    """Declared against effective attention of one target.

    Raises TargetError or UsageError (exit 2) for what cannot be read, NoVerdictError (exit 3) when torch or
    transformers cannot be used at all. A model that cannot be built gives a report whose cells say why nothing was run.
    """
    bench = None if options.bench is None else stored_bench.read(options.bench)
    setup = framing.read(options)
    options = options if setup is None else setup.options
    asked = scenario_names(options.scenario)
    check_implementations(options)
    check_plugins(options.plugins)
    without.check(options.without)
    with Prober(options.timeout, offline=options.offline) as prober:  # its imports run while the config is read
        progress(f"reading {options.target}")
        environment = read_environment()
        device, dtype = device_and_dtype(options, environment)
        target = read_target(prober, options)
        resolution = None if setup is None else framing.resolve(setup, environment, target)
        if resolution is None:
            decisions = framework_decisions(target.facts, environment, options)
        else:
            asked = framing.scenario_names(options, resolution)
            decisions = framing.decisions(options, resolution, environment, target)
        probe = Probe("", asked, dtype, device, options.seed, options.plugins)
        measured = measure(prober, target, decisions, probe, progress)
        target, measured = sub_models.with_vision(prober, target, measured, probe, progress)
        rows = sub_models.rows(prober, target, measured, options, probe, progress)
        proof = None
        if options.without:
            proof = without.answer(prober, target, measured, options, probe, resolution, progress)
    inputs = replace(inputs_of(target, measured, options, dtype), sub_models=rows, without=proof)
    answered = False
    if resolution is not None:
        resolution, own = own_calls.read(resolution, environment, options, dtype, inputs.seq_len, progress)
        inputs = replace(framing.with_resolution(inputs, resolution), own=own)
        answered = own_calls.measured(own)
    groups = checks.layer_groups(target.spec, inputs.tiny if measured.tiny is not None and decisions else None)
    inputs = replace(
        inputs, shapes=real_shapes(groups, measured, environment, options, device, inputs.seq_len, progress)
    )
    if bench is not None:
        held = stored_bench.held(bench, options, target.spec.model_type, groups, environment, device)
        inputs = replace(inputs, bench=held)
    progress("judging")
    conclusion = checks.evaluate(inputs)
    return Report(
        command="compare",
        version=__version__,
        environment=environment,
        arguments=arguments_of(options, dtype, device),
        model=model_of(target, groups),
        implementations=conclusion.implementations,
        core_scenarios=tuple(scenario.name for scenario in scenarios() if scenario.core),
        scenarios=asked,
        matrix=conclusion.cells,
        findings=conclusion.findings,
        recommended=conclusion.recommended,
        speeds=conclusion.speeds,
        shapes=tuple(inputs.shapes),
        sub_models=rows,
        without=proof,
        framework=None if setup is None else framing.section_of(setup, inputs, conclusion.findings, answered),
    )


def inputs_of(target: Target, measured: Measured, options: CompareOptions, dtype: str) -> checks.Inputs:
    """What the checks may read of a target and its runs."""
    tiny, facts, found = measured.tiny, target.facts, target.found
    tiny_config = {} if tiny is None else dict(tiny.config)
    tiny_spec = target.spec if tiny is None else oracle.declare(tiny_config, facts.defaults)
    tiny_spec = replace(tiny_spec, layers=(*tiny_spec.layers, *measured.vision))
    decisions = measured.decisions.items()
    flat = original(target.config)
    return checks.Inputs(
        target=retyped(options),
        real=target.spec,
        tiny=tiny_spec,
        declare=lambda changed: oracle.declare({**tiny_config, **dict(changed)}, facts.defaults),
        runs=measured.runs,
        implementations=tuple(measured.decisions),
        default=facts.default_implementation,
        refused={name: Rejected(decision.reasons) for name, decision in decisions if _refuses(decision)},
        replaced={
            name: (decision.actual, decision.reasons[0].text)
            for name, decision in decisions
            if isinstance(decision, Redirected) and decision.available
        },
        lacking={name: decision.reasons for name, decision in decisions if isinstance(decision, Unavailable)},
        tiny_config=tiny_config,
        model_class=facts.model_class if tiny is None else tiny.model_class,
        vocab_size=128 if tiny is None else tiny.vocab_size,
        settings=lambda name: (
            llava_words.for_language(flat.language, name, training=options.use == "train")
            if flat is not None
            else framework.settings(
                name,
                kind=facts.kind,
                target=found.loadable,
                sub_config=tiny.path[0] if tiny is not None and len(tiny.path) == 1 and not measured.vision else "",
                version=facts.transformers,
            )
        ),
        options=checks.Options(
            options.seq_len, options.use, options.packing, frozenset(options.scenario), dtype, frozenset(options.impl)
        ),
        versions={"transformers": facts.transformers, "torch": facts.torch},
    )


def _refuses(decision: Decision) -> TypeGuard[Rejected | Redirected]:
    """True when transformers raises: a refusal, or a redirection to something that is not there."""
    return isinstance(decision, Rejected) or (isinstance(decision, Redirected) and not decision.available)
