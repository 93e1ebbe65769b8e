"""The use cases, step by step: each returns a Report and prints nothing."""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from attncheck import __version__, checks, verdicts
from attncheck.declared import limits, oracle, overrides, source
from attncheck.environment import Environment, read_environment
from attncheck.errors import TargetError, UsageError
from attncheck.frameworks import transformers as framework
from attncheck.frameworks.interface import ClassSupport, Decision, Redirected, Unavailable
from attncheck.probe.client import Prober
from attncheck.probe.protocol import Build, ClassFacts, Describe, NotBuilt, Probe, TinyInfo, UnknownType
from attncheck.probe.scenario import scenarios
from attncheck.report import Report
from attncheck.semantics.observation import Basis, NotRun, Rejected, ScenarioRun
from attncheck.semantics.spec import ModelSpec, Part

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What `attncheck compare` was asked for. Empty tuples mean "all that apply"; None means "not said".

    assignments, unchecked: `key=value` texts of --set and --set-unknown. seq_len: tokens. timeout: seconds of silence
    allowed to one scenario.
    """

    target: str
    impl: tuple[str, ...] = ()
    scenario: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    seq_len: int | None = None
    use: str = "generate"
    packing: bool = False
    device: str = "auto"
    dtype: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    plugins: tuple[str, ...] = ()
    offline: bool = False
    timeout: float = 120.0
    seed: int = 0


def compare(options: CompareOptions, progress: Progress = lambda _: None) -> Report:
    """Declared against effective attention of one target.

    Raises TargetError or UsageError (exit 2) for what cannot be read, NoVerdictError (exit 3) when torch or
    transformers cannot be used at all. A model that cannot be built gives a report whose cells say why nothing was run.
    """
    scenario_names = _scenario_names(options.scenario)
    _check_implementations(options)
    _check_plugins(options.plugins)
    with Prober(options.timeout, offline=options.offline) as prober:  # its imports run while the config is read
        progress(f"reading {options.target}")
        environment = read_environment()
        device, dtype = _where(options, environment)
        target = _read(prober, options)
        measured = _measure(
            prober,
            target,
            _decisions(target.facts, environment, options),
            Probe("", scenario_names, dtype, device, options.seed, options.plugins),
            progress,
        )
    progress("judging")
    inputs = _inputs(target, measured, options, dtype)
    conclusion = checks.evaluate(inputs)
    return Report(
        command="compare",
        version=__version__,
        environment=environment,
        arguments=_arguments(options, dtype, device),
        model=_model(target, None if measured.tiny is None else inputs.tiny),
        implementations=conclusion.implementations,
        core_scenarios=tuple(scenario.name for scenario in scenarios() if scenario.core),
        scenarios=scenario_names,
        matrix=conclusion.cells,
        findings=conclusion.findings,
        recommended=conclusion.recommended,
    )


@dataclass(frozen=True, slots=True)
class _Target:
    """The target as read: config with overrides applied, what transformers knows of its type, what it declares."""

    found: source.ConfigSource
    config: Mapping[str, Any]
    facts: ClassFacts
    spec: ModelSpec
    remote_code: bool = False


@dataclass(frozen=True, slots=True)
class _Measured:
    """What the probes gave. tiny: None when no model could be built."""

    tiny: TinyInfo | None
    decisions: Mapping[str, Decision]
    runs: Sequence[ScenarioRun]


def _read(prober: Prober, options: CompareOptions) -> _Target:
    found = source.resolve(
        options.target,
        offline=options.offline,
        revision=options.revision,
        trust_remote_code=options.trust_remote_code,
    )
    raw = _with_origin(found, options)
    facts = _describe(prober, raw, options)
    config = overrides.apply(raw, options.assignments, facts.keys, unchecked=options.unchecked, defaults=facts.defaults)
    changed = bool(options.assignments or options.unchecked)
    limits.check(config, f"{found.detail} with --set" if changed else found.detail, found.usable(facts.defaults))
    if changed:
        facts = _describe(prober, config, options)
    spec = oracle.declare(config, found.usable(facts.defaults))
    return _Target(found, config, facts, spec, options.trust_remote_code)


def _with_origin(found: source.ConfigSource, options: CompareOptions) -> Mapping[str, Any]:
    """The config, with the place of its model code when that may be run: the file itself names only modules.

    A revision is not passed on by transformers' loader, so code of another one than the config's is never fetched.
    """
    if not options.trust_remote_code or "auto_map" not in found.config or options.revision is not None:
        return found.config
    folder = os.path.dirname(os.path.abspath(found.detail))
    return {"_name_or_path": folder if found.kind == "path" else found.id, **found.config}


def _describe(prober: Prober, config: Mapping[str, Any], options: CompareOptions) -> ClassFacts:
    facts = prober.describe(Describe(dict(config), options.trust_remote_code))
    if isinstance(facts, UnknownType):
        hint = f"did you mean {', '.join(facts.nearest)}?" if facts.nearest else ""
        raise TargetError(f"{options.target}: {facts.reason}", hint)
    return facts


def _decisions(facts: ClassFacts, environment: Environment, options: CompareOptions) -> dict[str, Decision]:
    """What transformers would make of each implementation to probe, in the order of the report."""
    support = ClassSupport(
        facts.model_class, facts.transformers, facts.supports, facts.compatible_flash, facts.default_implementation
    )
    wanted = options.impl or framework.default_implementations(support, environment)
    return {name: framework.decide(support, environment, name) for name in wanted}


def _measure(
    prober: Prober, target: _Target, decisions: Mapping[str, Decision], probe: Probe, progress: Progress
) -> _Measured:
    progress("building the tiny model")
    built = prober.build(Build(target.config, target.remote_code))
    if isinstance(built, NotBuilt):
        why = NotRun("no tiny model of this type could be built: " + "; ".join(reason.text for reason in built.reasons))
        runs = [run for name in decisions for run in _not_run(name, probe.scenarios, why)]
        return _Measured(None, decisions, runs)
    runs = [
        run
        for name, decision in decisions.items()
        for run in _run(prober, decision, replace(probe, implementation=name), progress)
    ]
    return _Measured(built, decisions, runs)


def _run(prober: Prober, decision: Decision, request: Probe, progress: Progress) -> list[ScenarioRun]:
    """The runs of one implementation, as transformers would really run it."""
    name = request.implementation
    if isinstance(decision, Rejected) or (isinstance(decision, Redirected) and not decision.available):
        return []
    if isinstance(decision, Redirected):
        if decision.contract is None:
            why = NotRun(f"transformers would run {decision.actual} instead, whose call contract is not known")
            return _not_run(name, request.scenarios, why)
        request = replace(request, implementation=decision.contract)
    if not isinstance(decision, Unavailable | Redirected):
        return list(prober.probe(request, progress))
    request = replace(request, device="cpu")  # only the documented contract can answer, in plain torch
    # Of a worker that died nobody hears on what the run rested.
    return [replace(run, implementation=name, basis=Basis.PREDICTED) for run in prober.probe(request, progress)]


def _not_run(name: str, asked: Sequence[str], why: NotRun) -> list[ScenarioRun]:
    """One run a scenario that nobody tried."""
    return [
        ScenarioRun(name, scenario.name, "", Basis.MEASURED, why, core=scenario.core)
        for scenario in scenarios()
        if scenario.name in asked
    ]


def _inputs(target: _Target, measured: _Measured, options: CompareOptions, dtype: str) -> checks.Inputs:
    tiny, facts, found = measured.tiny, target.facts, target.found
    tiny_config = {} if tiny is None else dict(tiny.config)
    tiny_spec = target.spec if tiny is None else oracle.declare(tiny_config, facts.defaults)
    decisions = measured.decisions.items()
    return checks.Inputs(
        target=_retyped(options),
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
        settings=lambda name: framework.settings(
            name,
            kind=facts.kind,
            target="" if found.kind == "model_type" else found.id,
            sub_config=tiny.path[0] if tiny is not None and len(tiny.path) == 1 else "",
            version=facts.transformers,
        ),
        options=checks.Options(options.seq_len, options.use, options.packing, frozenset(options.scenario), dtype),
    )


def _retyped(options: CompareOptions) -> str:
    """The target and its overrides as they are typed, for commands to paste."""
    flags = [
        *(("--set", text) for text in options.assignments),
        *(("--set-unknown", text) for text in options.unchecked),
        *(("--plugin", module) for module in options.plugins),
    ]
    return " ".join((shlex.quote(options.target), *(f"{flag} {shlex.quote(text)}" for flag, text in flags)))


def _refuses(decision: Decision) -> TypeGuard[Rejected | Redirected]:
    """True when transformers raises: a refusal, or a redirection to something that is not there."""
    return isinstance(decision, Rejected) or (isinstance(decision, Redirected) and not decision.available)


def _model(target: _Target, tiny: ModelSpec | None) -> verdicts.Model:
    found, spec = target.found, target.spec
    counts = [len(spec.of_part(part)) for part in (Part.DECODER, Part.ENCODER)]
    return verdicts.Model(
        id=found.id,
        source=found.kind,
        source_detail=found.detail,
        model_type=spec.model_type,
        num_layers=next((count for count in counts if count), None),
        groups=checks.layer_groups(spec, tiny),
        notes=(*found.notes, *spec.notes),
        sources=spec.sources,
    )


def _scenario_names(asked: Sequence[str]) -> tuple[str, ...]:
    known = [scenario.name for scenario in scenarios()]
    if strange := [name for name in asked if name not in known]:
        raise UsageError(f"--scenario {strange[0]}: there is no such scenario", f"choose from {', '.join(known)}")
    return tuple(name for name in known if not asked or name in asked)


def _check_implementations(options: CompareOptions) -> None:
    known = framework.implementations()
    strange = [name for name in options.impl if name not in known]
    if strange and not options.plugins:  # with plug-ins, it may be a name that they register
        raise UsageError(
            f"--impl {strange[0]}: there is no such implementation",
            f"choose from {', '.join(known)}, or name the module that registers it with --plugin",
        )


def _check_plugins(modules: Sequence[str]) -> None:
    for module in modules:
        try:
            missing = importlib.util.find_spec(module) is None
        except (ImportError, ValueError):
            missing = True
        if missing:
            raise UsageError(f"--plugin {module}: there is no such module", "put its folder on PYTHONPATH")


def _where(options: CompareOptions, environment: Environment) -> tuple[str, str]:
    """Device and dtype of the probes."""
    device = options.device if options.device != "auto" else ("cuda" if environment.gpus else "cpu")
    if device == "cuda" and not environment.gpus:
        raise UsageError(
            f"--device cuda: no GPU is visible ({environment.gpu_note or 'NVML lists none'})", "--device cpu"
        )
    return device, options.dtype or ("bfloat16" if device == "cuda" else "float32")


def _arguments(options: CompareOptions, dtype: str, device: str) -> dict[str, str]:
    """What the run was asked, as text, for the report's header."""
    said = {
        "set": " ".join((*options.assignments, *options.unchecked)),
        "seq_len": str(options.seq_len or ""),
        "use": options.use if options.use != "generate" else "",
        "packing": "yes" if options.packing else "",
    }
    return {"dtype": dtype, "device": device, **{key: value for key, value in said.items() if value}}
