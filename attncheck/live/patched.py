"""What Unsloth did to a live model: recognised by the code that runs, and told beside what was measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attncheck.environment import Environment
from attncheck.findings import Finding, Recommendation, Severity
from attncheck.frameworks import unsloth, unsloth_words
from attncheck.frameworks.plugin import Resolution, Runs, RunsOwn, Step
from attncheck.frameworks.section import FrameworkSection, Kind, section
from attncheck.frameworks.unsloth_history import FLASH, NEWEST, SDPA, XFORMERS, training_mask
from attncheck.frameworks.unsloth_recognition import NAME, Patched, patched
from attncheck.semantics.observation import Basis

if TYPE_CHECKING:
    from attncheck.probe.inside.facts import LiveFacts

#: What a caller's mask that had no effect may be called, by what was left of it.
_MASKS = ("mask-dropped", "prefix-dropped", "padding-ignored", "packing-leak", "causal-unexpected")
_WINDOWS = ("window-ignored", "window-unexpected", "window-off-by-one")


def named(facts: LiveFacts, model: Any) -> LiveFacts:
    """The facts, with the name of what really runs: `config._attn_implementation` means nothing on the fast path."""
    found = patched(model)
    return replace(facts, implementation=NAME) if found is not None and found.fast else facts


def resolution(facts: LiveFacts, model: Any, environment: Environment) -> Resolution | None:
    """What Unsloth's release is known to do with such a model, in its present mode; None for models it never touched.

    Nothing is imported: which kernels Unsloth found is read from its modules as they are loaded.
    """
    found = patched(model)
    if found is None:
        return None
    version = environment.version("unsloth") or ""
    run = unsloth.Run(
        version=version or NEWEST,
        typed={} if model.training else {"for_inference": True},
        model="",
        model_type=facts.spec.model_type,
        windowed=any(layer.mask.window.bounded for layer in facts.spec.layers),
        window=unsloth.window(facts.config),
        kernels=_kernels(),
        certain=True,
        xformers=XFORMERS in _kernels(),
        variables=environment.variables,
        keeps_mask=_keeps_mask(model, version or NEWEST),
    )
    made = unsloth.resolution(run, "installed" if version else "newest known", facts.subject.info.kind)
    if not found.fast:
        return replace(made, outcome=Runs(facts.implementation), steps=(_seen(found),), remarks=(), settings={})
    return replace(
        made,
        outcome=RunsOwn(unsloth.FAST_PATH, run.kernels),
        steps=(_seen(found), *(step for step in made.steps if step is not unsloth.HOW_TO_MEASURE)),
        remarks=tuple(replace(remark, severity=Severity.NOTE) for remark in made.remarks),
        settings={},
    )


def _seen(found: Patched) -> Step:
    says = f"; config._attn_implementation says {found.says} and is not read" if found.fast and found.says else ""
    where = ", ".join(found.fast or found.compiled)
    return Step(f"the attention forward comes from {where}{says}", basis=Basis.MEASURED, source="type(attn).forward")


def _keeps_mask(model: Any, version: str) -> bool:
    flag = training_mask(version).flag
    return bool(flag) and any(getattr(module, flag, False) for module in model.modules())


def _kernels() -> tuple[str, ...]:
    """The kernels of the fast path that Unsloth found when it was imported, best first."""
    modules = [sys.modules.get(name) for name in ("unsloth.utils.attention_dispatch", "unsloth.models.llama")]
    flash = any(getattr(module, "HAS_FLASH_ATTENTION", False) for module in modules)
    xformers = any(getattr(module, "HAS_XFORMERS", False) for module in modules)
    return tuple(name for name, there in ((FLASH, flash), (XFORMERS, xformers), (SDPA, True)) if there)


def told(findings: Sequence[Finding], own: Resolution | None) -> list[Finding]:
    """The findings with what helps in Unsloth's words; what is known of the release but was measured is said once."""
    if own is None or not isinstance(own.outcome, RunsOwn):
        return list(findings)
    measured = {finding.slug for finding in findings if finding.basis is Basis.MEASURED}
    kept = []
    for finding in findings:
        if finding.basis is Basis.STATIC and any(finding.message.endswith(f"({slug})") for slug in measured):
            continue
        kept.append(_helped(finding, own.version) if finding.implementation == NAME else finding)
    return kept


def _helped(finding: Finding, version: str) -> Finding:
    fixes: tuple[Recommendation, ...] = ()
    if finding.slug in _MASKS:
        fixes = unsloth_words.custom_mask("", version)
    elif finding.slug in _WINDOWS:
        by_mask = unsloth_words.window_by_mask(version) if finding.slug == "window-ignored" else ()
        fixes = (unsloth_words.compiled_route("", "sdpa", version), unsloth_words.by_transformers("", "sdpa"), *by_mask)
    elif finding.slug == "causal-ignored":
        fixes = (unsloth_words.upgrade(NEWEST),)
    return replace(finding, recommendations=fixes) if fixes else finding


def framework_section(own: Resolution | None) -> FrameworkSection | None:
    """What the report shows of it: the matrix holds what was measured under the name that really runs."""
    if own is None:
        return None
    made = section(unsloth.FRAMEWORK, own)
    return replace(made, kind=Kind.RUNS, implementation=NAME, reason="") if isinstance(own.outcome, RunsOwn) else made
