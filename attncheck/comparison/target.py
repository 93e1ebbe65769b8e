"""The target of `compare`: reads its config, asks transformers about its type, and declares what it should do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attncheck import verdicts
from attncheck.comparison.options import CompareOptions
from attncheck.declared import limits, lines, oracle, overrides, source
from attncheck.environment import Environment
from attncheck.errors import TargetError
from attncheck.frameworks import transformers as framework
from attncheck.frameworks.interface import ClassSupport, Decision
from attncheck.probe.client import Prober
from attncheck.probe.protocol import ClassFacts, Describe, UnknownType
from attncheck.semantics.spec import ModelSpec, Part


@dataclass(frozen=True, slots=True)
class Target:
    """The target as read: config with overrides applied, what transformers knows of its type, what it declares.

    overridden: dotted keys whose value is not that of the source.
    """

    found: source.ConfigSource
    config: Mapping[str, Any]
    facts: ClassFacts
    spec: ModelSpec
    remote_code: bool = False
    overridden: frozenset[str] = frozenset()


def read_target(prober: Prober, options: CompareOptions) -> Target:
    """What the target is and declares. Raises TargetError or UsageError for what cannot be read."""
    found = _found(options)
    raw = _with_origin(found, options)
    facts = _describe(prober, raw, options)
    config = overrides.apply(raw, options.assignments, facts.keys, unchecked=options.unchecked, defaults=facts.defaults)
    changed = bool(options.assignments or options.unchecked)
    limits.check(config, f"{found.detail} with --set" if changed else found.detail, found.usable(facts.defaults))
    if changed:
        facts = _describe(prober, config, options)
    spec = oracle.declare(config, found.usable(facts.defaults))
    changes = frozenset(text.partition("=")[0].strip() for text in (*options.assignments, *options.unchecked))
    return Target(found, config, facts, spec, options.trust_remote_code, changes)


def _found(options: CompareOptions) -> source.ConfigSource:
    if options.given is not None:
        limits.check(options.given, "the config that was given")
        return source.ConfigSource(options.target, "live", "the config object that was given", options.given)
    return source.resolve(
        options.target,
        offline=options.offline,
        revision=options.revision,
        trust_remote_code=options.trust_remote_code,
    )


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


def framework_decisions(facts: ClassFacts, environment: Environment, options: CompareOptions) -> dict[str, Decision]:
    """What transformers would make of each implementation to probe, in the order of the report."""
    support = ClassSupport(
        facts.model_class, facts.transformers, facts.supports, facts.compatible_flash, facts.default_implementation
    )
    wanted = options.impl or framework.default_implementations(support, environment)
    return {name: framework.decide(support, environment, name) for name in wanted}


def model_of(target: Target, groups: tuple[verdicts.LayerGroup, ...]) -> verdicts.Model:
    """The target as reports show it."""
    found, spec = target.found, target.spec
    written = lines.of_file(found.detail) if found.kind == "path" else {}
    counts = [len(spec.of_part(part)) for part in (Part.DECODER, Part.ENCODER)]
    return verdicts.Model(
        id=found.id,
        source=found.kind,
        source_detail=found.detail,
        model_type=spec.model_type,
        num_layers=next((count for count in counts if count), None),
        groups=groups,
        notes=(*found.notes, *spec.notes),
        sources=spec.sources,
        file=lines.shown(found.detail) if found.kind == "path" else "",
        lines={key: line for key, line in written.items() if key not in target.overridden},
    )
