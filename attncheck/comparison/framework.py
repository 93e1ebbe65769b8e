"""A training framework round the measuring: settings become options, the resolution becomes inputs of the checks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from packaging.version import InvalidVersion, Version

from attncheck.checks.interface import Case, Inputs
from attncheck.checks.log_lines import judged
from attncheck.checks.views import views
from attncheck.comparison.options import CompareOptions
from attncheck.comparison.options import scenario_names as asked_names
from attncheck.comparison.target import Target, framework_decisions
from attncheck.environment import Environment
from attncheck.errors import TargetError, UsageError
from attncheck.findings import Finding
from attncheck.frameworks import plugin, settings_file
from attncheck.frameworks.interface import ClassSupport, Decision
from attncheck.frameworks.plugin import Asked, Framework, ModelFacts, Plan, Resolution, RunsOwn
from attncheck.frameworks.section import FrameworkSection, section
from attncheck.probe.scenario import scenarios

#: What can be probed: the names of `--dtype`. Any other word of the settings is left to the framework.
_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Setup:
    """A framework that was named, or recognised by its settings file. options: with what the settings say applied."""

    framework: Framework
    asked: Asked
    plan: Plan
    options: CompareOptions


def read(options: CompareOptions) -> Setup | None:
    """The framework that the options name or whose settings file the target is; None without one.

    Raises UsageError for a file or settings that cannot be read, arguments without a file, an unknown framework.
    """
    _check_version(options.framework_version)
    assigned = _pairs("--framework-set", options.framework_set)
    file = _settings_file(options)
    if options.framework is None and file is None:
        named = "--framework-set" if options.framework_set else "--framework-version"
        if options.framework_set or options.framework_version is not None:
            raise UsageError(f"{named}: no framework is named", "add --framework NAME")
        if options.arguments:
            raise UsageError(
                f"{options.arguments[0]!r}: only one TARGET is compared; key=value arguments belong to a settings file",
                "config keys are set with --set key=value",
            )
        return None
    framework = plugin.find(options.framework) if options.framework is not None else _recognised(file, options.target)
    assigned |= _pairs("argument", options.arguments)
    asked = Asked(
        settings={} if file is None else file.values,
        assigned=assigned,
        version=options.framework_version,
        file="" if file is None else file.path,
        lines={} if file is None else file.lines,
        text=() if file is None else file.text,
        ended=file is None or file.ended,
        model="" if file is not None else options.target,
        use=options.use if options.use != "generate" else "",
    )
    plan = framework.plan(asked)
    if not (target := plan.target or asked.model):
        raise UsageError(f"{options.target} names no model", "name it: attncheck compare MODEL --framework NAME")
    return Setup(framework, asked, plan, _applied(options, plan, target))


def _applied(options: CompareOptions, plan: Plan, target: str) -> CompareOptions:
    """The options with the plan's words where the user said nothing."""
    overrides = tuple(f"{key}={_text(value)}" for key, value in plan.overrides)
    return replace(
        options,
        target=target,
        settings_file=options.target if options.target != target else "",
        assignments=(*overrides, *options.assignments),
        seq_len=options.seq_len if options.seq_len is not None else plan.seq_len,
        use=options.use if options.use != "generate" or not plan.use else plan.use,
        packing=options.packing or plan.packing,
        weights=plan.dtype if plan.dtype in _DTYPES else "",
        # A folder has no revisions: the framework reads the setting and does nothing with it there.
        revision=options.revision or (plan.revision if not os.path.exists(target) else "") or None,
    )


def _text(value: Any) -> str:
    import json

    return json.dumps(value)


def resolve(setup: Setup, environment: Environment, target: Target) -> Resolution:
    """What the framework makes of the settings for this model on this machine."""
    facts = target.facts
    support = ClassSupport(
        facts.model_class, facts.transformers, facts.supports, facts.compatible_flash, facts.default_implementation
    )
    windows = any(layer.mask.window.bounded for layer in target.spec.layers)
    model = ModelFacts(
        target.found.id, target.spec.model_type, target.config, support, facts.kind, windows, target.spec
    )
    return setup.framework.resolve(setup.asked, environment, model)


def decisions(
    options: CompareOptions, resolution: Resolution, environment: Environment, target: Target
) -> dict[str, Decision]:
    """What is probed: the implementation that the framework runs, eager, and what else it can be told to run.

    Nothing where its own attention runs and nobody named an implementation. Hub kernels are not downloaded.
    """
    if (isinstance(resolution.outcome, RunsOwn) or resolution.bypasses) and not options.impl:
        return {}
    usual = framework_decisions(target.facts, environment, replace(options, impl=()))
    wanted = options.impl or (*(name for name in usual if name in ("eager", *resolution.offers)), resolution.runs)
    names = tuple(dict.fromkeys(name for name in wanted if name and "/" not in name))
    return framework_decisions(target.facts, environment, replace(options, impl=names))


def with_resolution(inputs: Inputs, resolution: Resolution) -> Inputs:
    """The inputs of the checks: what the framework feeds counts as used, and settings are spelled in its words."""
    used = inputs.options.scenarios | set(resolution.scenarios)
    return replace(
        inputs,
        framework=resolution,
        settings=resolution.recommend,
        options=replace(inputs.options, scenarios=frozenset(used)),
    )


def scenario_names(options: CompareOptions, resolution: Resolution) -> tuple[str, ...]:
    """What is probed: core scenarios, those of training and packing, what the framework feeds; or what was named."""
    if options.scenario:
        return asked_names(options.scenario)
    core = (scenario.name for scenario in scenarios() if scenario.core)
    training = ("gradients",) if options.use == "train" else ()
    packed = [scenario.name for scenario in scenarios() if options.packing and scenario.name.startswith("packed")]
    return asked_names((*core, *training, *packed, *resolution.scenarios, *resolution.beside))


def section_of(setup: Setup, inputs: Inputs, findings: Sequence[Finding], measured: bool) -> FrameworkSection:
    """What the report shows of the framework, its log lines judged."""
    assert inputs.framework is not None
    lines = judged(Case(inputs, views(inputs), findings))
    return section(setup.framework, inputs.framework, lines, measured)


def _settings_file(options: CompareOptions) -> settings_file.SettingsFile | None:
    """The target as a settings file; None where it is a model."""
    path = options.target
    if not path.lower().endswith(settings_file.SUFFIXES) or os.path.isdir(path):
        return None
    if path.lower().endswith(".json"):
        if os.path.basename(path) == "config.json" or not os.path.isfile(path):
            return None
        if options.framework is None and not _holds_settings(path):
            return None
    elif not os.path.isfile(path):  # a named pipe would be waited for
        what = "it is no ordinary file" if os.path.exists(path) else "there is no such file"
        raise TargetError(f"{path}: {what}", "name a settings file, a model or a config.json")
    return settings_file.read(path)


def _holds_settings(path: str) -> bool:
    """True for a JSON file that some framework takes for its own; anything else is left to be a config."""
    try:
        values = settings_file.read(path).values
    except UsageError:
        return False
    return "model_type" not in values and any(one.recognises(values) for one in plugin.frameworks().values())


def _recognised(file: settings_file.SettingsFile | None, target: str) -> Framework:
    values: Mapping[str, Any] = {} if file is None else file.values
    known = plugin.frameworks()
    found = next((one for one in known.values() if one.recognises(values)), None)
    if found is None:
        raise UsageError(
            f"{target}: no framework is known by these settings; one of LLaMA-Factory names model_name_or_path beside "
            "others of its keys",
            f"name it with --framework ({', '.join(sorted(known))})",
        )
    return found


def _check_version(version: str | None) -> None:
    try:
        Version(version or "0")
    except InvalidVersion:
        raise UsageError(f"--framework-version {version!r} is no version", "for example 0.9.5") from None


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise UsageError(f"{option} {text!r} is not key=value")
        found[key.strip()] = value
    return found
