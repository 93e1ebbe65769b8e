"""LLaMA-Factory: what its settings really lead to, by version. The resolver is `llama_factory_resolve`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attncheck.environment import Environment
from attncheck.errors import UsageError
from attncheck.frameworks import llama_factory_keys, llama_factory_v1
from attncheck.frameworks.flash_kernels import parsed
from attncheck.frameworks.llama_factory_resolve import resolution
from attncheck.frameworks.llama_factory_run import Run
from attncheck.frameworks.llama_factory_versions import NEWEST, RELEASES
from attncheck.frameworks.plugin import Asked, Framework, ModelFacts, Plan, Resolution, newer_than, unread

#: `cutoff_len` where the file does not say (hparams/data_args.py, 0.8.3 to 0.9.5).
DEFAULT_CUTOFF = 2048


def recognises(settings: Mapping[str, Any]) -> bool:
    """True for settings that name a model as LLaMA-Factory does, beside another of its own keys."""
    own = llama_factory_keys.of_any_version() & set(settings)
    return bool(own & {"model_name_or_path", "model"}) and len(own) > 1


def plan(asked: Asked) -> Plan:
    """What the settings say of the model and its use; raises UsageError for keys and types that are wrong."""
    settings = llama_factory_keys.checked(asked, asked.version)
    v1 = llama_factory_keys.is_v1(settings)
    target = settings.get("model" if v1 else "model_name_or_path") or asked.model
    if not target:
        raise UsageError(f"{asked.file or 'the settings'}: no model_name_or_path", "add model_name_or_path: MODEL")
    training = v1 or llama_factory_keys.trains(asked, settings)
    return Plan(
        target=target,
        seq_len=settings.get("cutoff_len") or (DEFAULT_CUTOFF if training else None),
        use="train" if training else "generate",
        dtype=_dtype(settings),
        revision=settings.get("model_revision") or "",
    )


def resolve(asked: Asked, environment: Environment, facts: ModelFacts) -> Resolution:
    """What runs under these settings on this machine."""
    version, origin = FRAMEWORK.version(asked, environment)
    settings = llama_factory_keys.checked(asked, version)
    run = Run(asked, settings, version, origin, environment, facts)
    made = llama_factory_v1.resolution(run) if llama_factory_keys.is_v1(settings) else resolution(run)
    return _as_far_as_read(made)


def _as_far_as_read(made: Resolution) -> Resolution:
    """Nothing is said of releases before the oldest that was read; a newer one is judged as the newest, and told so."""
    oldest = RELEASES[-1].since
    if parsed(made.version) < parsed(oldest):
        return replace(
            made, outcome=unread(oldest, made.version), steps=(), remarks=(), warnings=(), fixes=(), versions={}
        )
    if parsed(made.version) > parsed(NEWEST):
        return replace(made, steps=(newer_than(NEWEST), *made.steps))
    return made


def _dtype(settings: Mapping[str, Any]) -> str:
    """hparams/parser.py: bf16 or pure_bf16 before fp16."""
    if settings.get("bf16") or settings.get("pure_bf16"):
        return "bfloat16"
    return "float16" if settings.get("fp16") else ""


FRAMEWORK = Framework(
    name="llama-factory",
    title="LLaMA-Factory",
    distribution="llamafactory",
    newest=NEWEST,
    plan=plan,
    resolve=resolve,
    recognises=recognises,
)
