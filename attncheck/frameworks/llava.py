"""LLaVA: what its training scripts and its loader really lead to, by version, and what to change in its own words."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from attncheck.declared.original import original
from attncheck.environment import Environment
from attncheck.errors import UsageError
from attncheck.findings import Recommendation, Severity
from attncheck.frameworks import transformers
from attncheck.frameworks.llava_versions import (
    DEFAULT,
    NAMED,
    NEWEST,
    PATCHED,
    PLACEHOLDER,
    RELEASES,
    Release,
    Way,
    newest,
    release,
)
from attncheck.frameworks.llava_words import NAME, recommend
from attncheck.frameworks.plugin import (
    Asked,
    Fails,
    Framework,
    ModelFacts,
    Outcome,
    Plan,
    Remark,
    Resolution,
    Runs,
    RunsOwn,
    Step,
    SubModel,
    Unresolved,
)

#: Every setting of some version, with what it is.
SETTINGS: Mapping[str, str] = {
    "script": "the training script that is launched: train_mem.py, train.py or train_xformers.py; none: inference",
    "use_flash_attn": "argument of load_pretrained_model and flag of model_worker.py: true or false",
    "attn_implementation": "argument of load_pretrained_model; in LLaVA-NeXT also a training flag",
    "model_base": "argument of load_pretrained_model: the language model that an adapter is loaded onto",
}
#: What people write, though no version has it.
_NEVER_THERE = ("use_flash_attention", "use_flash_attention_2", "flash_attn", "disable_flash_attn")
#: Sub-configs of transformers' own LLaVA types.
SUB_CONFIGS = ("vision_config", "text_config")


def plan(asked: Asked) -> Plan:
    """Training where a script is named. Raises UsageError for settings that no version has."""
    settings = checked(asked)
    return Plan(target=asked.model, use="train" if "script" in settings else "generate")


def resolve(asked: Asked, environment: Environment, facts: ModelFacts) -> Resolution:
    """What runs under these settings in this version."""
    version, origin = FRAMEWORK.version(asked, environment)
    found = original(facts.config)
    if origin == "newest known" and found is not None:
        version = newest(found.language)
    settings = checked(asked)
    known = release(version)
    if known is None:
        reason = (
            f"the package llava {version} of PyPI holds no code; the original repository's own is llava-torch"
            if version == PLACEHOLDER
            else f"llava {version} is none of the known versions ({', '.join(entry.since for entry in RELEASES)}, ...)"
        )
        return Resolution(NAME, version, origin, Unresolved(reason), named=f"llava {version}")
    if found is None:
        return _native(settings, version, origin, known, facts)
    way, chosen = _way(settings, known)
    outcome = _outcome(way, chosen, settings, known, facts)
    return Resolution(
        framework=NAME,
        version=version,
        version_from=origin,
        outcome=outcome,
        named=f"{known.title} ({version})",
        steps=_steps(way, chosen, settings, known, facts),
        settings={key: str(value) for key, value in settings.items()},
        sub_models=_sub_models(outcome, settings, known, facts),
        remarks=tuple(_remarks(way, settings, known)),
        offers=("eager", "sdpa"),
        recommend=lambda name: recommend(name, known, training="script" in settings),
        versions=known.requires,
    )


def checked(asked: Asked) -> dict[str, Any]:
    """The settings, typed. Raises UsageError for a name that no version has and for a value of another type."""
    given = {**asked.settings, **asked.assigned}
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key not in SETTINGS:
            never = f"; no LLaVA version that was read has {key}, and none reads an environment variable for attention"
            near = difflib.get_close_matches(key, SETTINGS, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(SETTINGS)}"
            raise UsageError(
                f"--framework-set {key}: LLaVA has no such setting{never if key in _NEVER_THERE else ''}", hint
            )
        found[key] = _typed(key, value)
    return found


def _typed(key: str, value: Any) -> Any:
    if key == "use_flash_attn":
        word = str(value).lower()
        if word not in ("true", "false", "1", "0"):
            raise UsageError(f"--framework-set use_flash_attn={value}: not true or false", "use_flash_attn=false")
        return word in ("true", "1")
    if key == "script":
        name = str(value).rpartition("/")[2]
        scripts = sorted({script for entry in RELEASES for script in entry.scripts})
        if name not in scripts:
            raise UsageError(f"--framework-set script={value}: no such script", f"choose from {', '.join(scripts)}")
        return name
    return _implementation(str(value)) if key == "attn_implementation" else str(value)


def _implementation(value: str) -> Any:
    """A name of transformers or of a hub kernel, or the JSON object that names one for each sub-config."""
    if value.startswith("{"):
        try:
            return dict(json.loads(value))
        except (ValueError, RecursionError):
            raise UsageError(
                f"--framework-set attn_implementation={value}: not JSON", 'for example {"text_config": "eager"}'
            ) from None
    known = transformers.implementations()
    if value not in known and "/" not in value:
        raise UsageError(
            f"--framework-set attn_implementation={value}: there is no such implementation",
            f"choose from {', '.join(known)}",
        )
    return value


def _way(settings: Mapping[str, Any], known: Release) -> tuple[Way, str]:
    """The way that is taken and the setting that takes it."""
    script = settings.get("script")
    if script is not None:
        if script not in known.scripts:
            raise UsageError(f"{known.title} has no {script}", f"choose from {', '.join(known.scripts)}")
        return known.scripts[script], "script"
    if "use_flash_attn" in settings and known.flash is None:
        older = "attn_implementation" if known.named else "the inference of that version never passes one"
        raise UsageError(f"{known.title}: load_pretrained_model has no use_flash_attn", older)
    if settings.get("use_flash_attn") and known.flash is not None:
        return known.flash, "use_flash_attn"
    return known.plain, "use_flash_attn" if "use_flash_attn" in settings else ""


def _outcome(way: Way, chosen: str, settings: Mapping[str, Any], known: Release, facts: ModelFacts) -> Outcome:
    default = facts.support.default or "sdpa"
    if way.gives == PATCHED:
        return RunsOwn("LLaVA's patched LlamaAttention", ("flash-attn 2, packed function",))
    named = settings.get("attn_implementation")
    if isinstance(named, Mapping):
        return Unresolved(
            "a dict names the parts of transformers' own format; this checkpoint is in the original format, which has "
            "none: name one implementation"
        )
    if way.gives == NAMED:
        if settings.get("model_base") and facts.support.model_class.startswith("Llama") and chosen != "script":
            return Runs(default)  # this one branch forgets the argument
        return Runs(str(named or known.named))
    if named is not None and chosen == "script":
        reason = "Some specified arguments are not used by the HfArgumentParser: it is no flag of this version"
        return Fails("ValueError", reason, "attn_implementation")
    if way.gives != DEFAULT:  # use_flash_attn overwrites what is passed beside it
        return Runs(way.gives)
    return Runs(str(named) if named is not None else default)


def _steps(way: Way, chosen: str, settings: Mapping[str, Any], known: Release, facts: ModelFacts) -> tuple[Step, ...]:
    said = str(settings.get(chosen, "")).lower() if chosen == "use_flash_attn" else str(settings.get(chosen, ""))
    found = [Step(way.does, chosen, said, way.source)]
    if way.inert:
        found.append(Step(way.inert, source="transformers 4.36.2, modeling_llama.py"))
    named = settings.get("attn_implementation")
    if way.gives == NAMED:
        forgotten = (
            bool(settings.get("model_base")) and facts.support.model_class.startswith("Llama") and chosen != "script"
        )
        does = f"takes {named or known.named}" + ("" if named else ", its default")
        if forgotten:
            does = "the branch for an adapter on a Llama forgets the argument: nothing is passed"
        found.append(Step(does, "attn_implementation", str(named or ""), known.plain.source))
    elif named is not None and way.gives == DEFAULT and chosen != "script":
        found.append(
            Step("hands further arguments to from_pretrained", "attn_implementation", str(named), known.plain.source)
        )
    elif way.gives == DEFAULT:
        default = facts.support.default or "sdpa"
        found.append(Step(f"transformers {facts.support.version} picks {default}", source=facts.support.model_class))
        found.append(
            Step(f"under LLaVA's own pins it is {known.default_here}", source="pyproject.toml of that version")
        )
    return tuple(found)


def _sub_models(
    outcome: Outcome, settings: Mapping[str, Any], known: Release, facts: ModelFacts
) -> tuple[SubModel, ...]:
    found = original(facts.config)
    runs = outcome.implementation if isinstance(outcome, Runs) else outcome.what if isinstance(outcome, RunsOwn) else ""
    named = "flash_attention_2" if runs == "flash_attention_2" else "nothing"
    asked = str(settings.get("attn_implementation") or named)
    tower = found.tower if found is not None else ""
    own = "siglip" in tower and known.named
    effective = "eager" if own else "" if not tower else facts.support.default or "sdpa"
    why = f"{tower}: {known.tower}" if tower else "the file names no vision tower"
    return (
        SubModel("language model", asked, runs),
        SubModel("vision tower", "nothing", effective, why),
    )


def _remarks(way: Way, settings: Mapping[str, Any], known: Release) -> list[Remark]:
    found = []
    if way.inert:
        found.append(
            Remark(
                "setting-ignored",
                Severity.WARNING,
                f"{settings['script']} {way.does}, but {way.inert}",
                "script",
                (recommend("sdpa", known, training=True),),
                evidence=way.source,
            )
        )
    if settings.get("use_flash_attn") is False:
        found.append(
            Remark(
                "setting-ignored",
                Severity.NOTE,
                "use_flash_attn=False does not switch flash attention off: it passes nothing, and transformers' "
                "default, sdpa, may run torch's own flash kernel; --without flash shows whether it does",
                "use_flash_attn",
                (recommend("eager", known, training=False),),
                evidence=known.plain.source,
            )
        )
    return found


def _native(settings: Mapping[str, Any], version: str, origin: str, known: Release, facts: ModelFacts) -> Resolution:
    """A checkpoint in transformers' own format: LLaVA's code does not load it."""
    reason = (
        f"{facts.id} is in transformers' own format, which the llava package does not load: transformers' arguments "
        f"count, {' and '.join(SUB_CONFIGS)} are its parts"
    )
    default = facts.support.default or "sdpa"
    named = settings.get("attn_implementation")
    remarks = [
        Remark(
            "setting-ignored",
            Severity.WARNING,
            f"{key}={str(settings[key]).lower() if key == 'use_flash_attn' else settings[key]} has no effect: {reason}",
            key,
            (transformers.settings(default, kind="text", target=facts.id, version=facts.support.version),),
            evidence="transformers, models/llava; llava/model/builder.py and llava/train, which are never reached",
        )
        for key in ("script", "use_flash_attn")
        if key in settings
    ]
    if isinstance(named, Mapping):
        keys = [key for key, value in facts.config.items() if isinstance(value, Mapping)]
        wrong = [key for key in named if key and key not in (*SUB_CONFIGS, *keys)]
        for key in wrong:
            remarks.append(
                Remark(
                    "setting-ignored",
                    Severity.WARNING,
                    f"attn_implementation={{{key!r}: ...}}: {key} is no sub-config of this model, so transformers "
                    "ignores it without a word",
                    "attn_implementation",
                    (Recommendation(f'Use {" or ".join(SUB_CONFIGS)}; "" is the outermost config alone.'),),
                    evidence="PreTrainedModel, transformers: keys of the dict are looked up by sub-config",
                )
            )
    runs = named if isinstance(named, str) else default
    picks = Step(f"transformers {facts.support.version} picks {default}", source=facts.support.model_class)
    return Resolution(
        framework=NAME,
        version=version,
        version_from=origin,
        outcome=Runs(runs),
        named=f"{known.title} ({version})",
        steps=(Step(reason, source="transformers, models/llava"), *(() if isinstance(named, str) else (picks,))),
        settings={key: str(value) for key, value in settings.items()},
        remarks=tuple(remarks),
        offers=("eager", "sdpa"),
        recommend=lambda name: transformers.settings(name, kind="text", target=facts.id, version=facts.support.version),
    )


FRAMEWORK = Framework(
    name=NAME,
    title="LLaVA",
    distribution="llava",
    wheels=("llava-torch",),
    newest=NEWEST,
    plan=plan,
    resolve=resolve,
)
