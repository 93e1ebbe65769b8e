"""Unsloth: which route and kernel its settings lead to, and what that release does with masks and windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from attncheck.environment import Environment
from attncheck.findings import Recommendation, Severity
from attncheck.frameworks import unsloth_history as history
from attncheck.frameworks import unsloth_words as words
from attncheck.frameworks.flash_kernels import parsed
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
    Unresolved,
    newer_than,
    unread,
)
from attncheck.frameworks.unsloth_defects import Defect, defects
from attncheck.frameworks.unsloth_history import FLASH, LLAMA, LOADER, SDPA, XFORMERS, FastType
from attncheck.frameworks.unsloth_settings import settings

NAME, TITLE = "unsloth", "Unsloth"
FAST_PATH = "Unsloth's fast path"
#: Compute capability from which Unsloth takes flash-attn (models/_utils.py).
_AMPERE = (8, 0)
_SLUG = "known-bad-version"
#: `compare` measures transformers; what Unsloth's own code does shows on the loaded model only.
HOW_TO_MEASURE = Step("to measure it, load the model with Unsloth and call attncheck.verify(model, batch)")


def plan(asked: Asked) -> Plan:
    """What the settings say of the model and its use; Unsloth trains unless they say otherwise."""
    typed = settings(asked)
    return Plan(
        seq_len=typed.get("max_seq_length"),
        use="generate" if typed.get("for_inference") else "train",
        packing=bool(typed.get("packing") or typed.get("padding_free")),
        dtype=str(typed.get("dtype") or "").removeprefix("torch."),
    )


@dataclass(frozen=True, slots=True)
class Run:
    """Everything a resolution rests on.

    kernels: those that this machine has, best first; certain: a GPU is here. keeps_mask: the flag that lets masks
    through in training is set on the model.
    """

    version: str
    typed: Mapping[str, Any]
    model: str
    model_type: str
    windowed: bool
    window: int | None
    kernels: tuple[str, ...]
    certain: bool
    xformers: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    keeps_mask: bool = False

    @property
    def named(self) -> str:
        """The framework with its version, for sentences."""
        return f"{TITLE} {self.version}"

    @property
    def training(self) -> bool:
        """What the settings are for."""
        return not self.typed.get("for_inference")

    @property
    def packed(self) -> bool:
        """Several documents share a row."""
        return bool(self.typed.get("packing") or self.typed.get("padding_free"))


def resolve(asked: Asked, environment: Environment, facts: ModelFacts) -> Resolution:
    """What Unsloth makes of the settings for this model on this machine, or on one with a GPU where this has none."""
    version, origin = FRAMEWORK.version(asked, environment)
    certain = bool(environment.gpus)
    able = not certain or any(gpu.capability >= _AMPERE for gpu in environment.gpus)
    flash = environment.version("flash-attn") is not None and able
    xformers = environment.version("xformers") is not None
    run = Run(
        version=version,
        typed=settings(asked),
        model=facts.id,
        model_type=facts.model_type,
        windowed=facts.has_window,
        window=window(facts.config),
        kernels=tuple(name for name, there in ((FLASH, flash), (XFORMERS, xformers), (SDPA, True)) if there),
        certain=certain,
        xformers=xformers,
        variables={**environment.variables, **environment.inert},
    )
    return resolution(run, origin, facts.kind)


def resolution(run: Run, origin: str, kind: str = "causal-lm") -> Resolution:
    """The resolution of a run. kind: as in `ClassFacts.kind`."""
    row = history.fast_type(run.model_type, run.version)
    delegating = _delegating(run)
    fast = row is not None and not delegating
    outcome = _outcome(run, row if fast else None)
    own = isinstance(outcome, RunsOwn)
    return Resolution(
        framework=NAME,
        version=run.version,
        version_from=origin,
        named=run.named,
        outcome=outcome,
        steps=tuple(_steps(run, row, delegating, outcome)),
        settings={key: str(value) for key, value in run.typed.items()},
        remarks=tuple(remarks(run, row)) if own and row is not None else (),
        fixes=_fixes(run, outcome),
        offers=("sdpa", "eager", "flash_attention_2", "flex_attention"),
        recommend=lambda name: _recommended(run, name, fast, kind),
        versions={"transformers": history.transformers_for(run.version)},
    )


def window(config: Mapping[str, Any]) -> int | None:
    """The declared `sliding_window` of a raw config, in keys; None without one."""
    value = config.get("sliding_window")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _delegating(run: Run) -> str:
    """The setting that takes the model off the fast path, "" without one."""
    for name, span in history.DELEGATING:
        if run.typed.get(name) and span.holds(run.version):
            return name
    return ""


def _outcome(run: Run, row: FastType | None) -> Outcome:
    if parsed(run.version) < parsed(history.OLDEST):
        return unread(history.OLDEST, run.version)
    if row is None:
        asked = run.typed.get("attn_implementation")
        if asked and history.HONOURS_IMPLEMENTATION.holds(run.version):
            return Runs(str(asked))
        return Unresolved(
            "the compiled route decides when the model is loaded: what config._attn_implementation says then runs; "
            "attncheck.verify(model) measures it"
        )
    if row.family == "mistral" and not run.xformers and history.MISTRAL_NEEDS_XFORMERS.holds(run.version):
        return Fails("AttributeError", "'NoneType' object has no attribute 'attn_bias': xformers is not there")
    return RunsOwn(FAST_PATH, run.kernels if run.certain else history.KERNELS)


# The chain ------------------------------------------------------------------------------------------


def _steps(run: Run, row: FastType | None, delegating: str, outcome: Outcome) -> Iterator[Step]:
    if parsed(run.version) > parsed(history.NEWEST):
        yield newer_than(history.NEWEST)
    if isinstance(outcome, Unresolved) and parsed(run.version) < parsed(history.OLDEST):
        return
    if delegating:
        yield Step(
            "leaves the fast path: FastModel compiles the classes of transformers, masks and kernels stay theirs",
            delegating,
            str(run.typed[delegating]),
            LOADER,
        )
    elif row is None:
        text = f"{run.model_type} has no fast path: FastModel compiles the classes of transformers, whose masks stay"
        yield Step(text, source=LOADER)
    if not isinstance(outcome, RunsOwn) or row is None:
        return
    where = f"models/{row.model_type}.py, pre_patch"
    yield Step(f"the attention forward of {row.model_type} is replaced by Unsloth's {row.family} forward", source=where)
    if "attn_implementation" in run.typed:
        value = str(run.typed["attn_implementation"])
        yield Step("is thrown away: the fast path chooses by itself", "attn_implementation", value, f"{LLAMA}")
    source = history.DISPATCH if history.DISPATCHER.holds(run.version) else where
    order = "flash-attn, then xformers, then SDPA; SDPA whenever a mask comes through"
    here = f"here {run.kernels[0]}" if run.certain else "this machine has no GPU, so which of them cannot be said"
    yield Step(f"the kernel: {order}; {here}", source=source)
    entry = history.training_mask(run.version)
    unless = f" unless {entry.unless}" if entry.unless else ""
    training = f"in training attention_mask = None{unless}"
    if run.keeps_mask:
        training = f"in training the attention_mask is kept: {entry.flag} is set on this model"
    yield Step(training, source=f"{LLAMA}, LlamaModel_fast_forward")
    yield Step("in evaluation a mask becomes causal, and SDPA runs", source=f"{LLAMA}, LlamaModel_fast_forward")
    yield from _variables(run)
    yield HOW_TO_MEASURE


def _variables(run: Run) -> Iterator[Step]:
    for variable in history.VARIABLES:
        if (value := run.variables.get(variable.name)) is not None:
            holds = variable.span.holds(run.version)
            does = variable.does if holds else f"is not read by {run.version} ({variable.span.words})"
            yield Step(does, variable.name, value)


# Remarks --------------------------------------------------------------------------------------------


def remarks(run: Run, row: FastType) -> Iterator[Remark]:
    """What is known of that release for this model: static, labelled so, one remark a defect that can be met."""
    if run.training and not run.keeps_mask:
        yield _training_mask(run)
    for defect in defects(row, run.version):
        if _met(run, defect):
            yield _remark(run, defect)


def _training_mask(run: Run) -> Remark:
    entry = history.training_mask(run.version)
    custom = run.typed.get("attention_mask") == "custom"
    unless = f", unless {entry.unless}" if entry.unless else ""
    return Remark(
        _SLUG,
        Severity.WARNING if custom else Severity.NOTE,
        f"{run.named} drops every attention_mask in training{unless}: custom, block-diagonal and non-causal masks have "
        "no effect (mask-dropped)",
        "attention_mask" if custom else "",
        (*words.custom_mask(run.model, run.version), *(() if run.windowed else words.not_causal(run.version))),
        evidence=f"{LLAMA}, LlamaModel_fast_forward; unsloth#696",
    )


def _met(run: Run, defect: Defect) -> bool:
    """True where the settings, the model and the kernels that can run meet the defect."""
    if defect.windowed and not run.windowed:
        return False
    if defect.packed and not run.packed:
        return False
    if defect.mode and (defect.mode == "train") is not run.training:
        return False
    return run.kernels[0] in defect.kernels if run.certain else True


def _remark(run: Run, defect: Defect) -> Remark:
    window = "W" if run.window is None else str(run.window)
    text = defect.text.format(version=run.version, window=window)
    where = (
        "" if run.certain or len(defect.kernels) == len(history.KERNELS) else f" (with {' or '.join(defect.kernels)})"
    )
    fixes: tuple[Recommendation, ...] = (words.by_transformers(run.model, "sdpa"),)
    if defect.mended:
        fixes = (words.upgrade(defect.mended),)
    elif defect.windowed:
        fixes = (words.compiled_route(run.model, "sdpa", run.version), *fixes, *words.window_by_mask(run.version))
    return Remark(
        _SLUG,
        Severity.WARNING,
        f"{run.named} {text}{where} ({defect.slug})",
        fixes=fixes,
        evidence=f"{defect.source}; {defect.span.words}",
    )


def _fixes(run: Run, outcome: Outcome) -> tuple[Recommendation, ...]:
    if not isinstance(outcome, Fails):
        return ()
    return (Recommendation("pip install xformers"), words.upgrade("2025.7.2"))


def _recommended(run: Run, implementation: str, fast: bool, kind: str) -> Recommendation:
    if not fast and run.typed.get("attn_implementation") == implementation:
        return Recommendation(f"keep the settings: they give {implementation}")
    if not history.HONOURS_IMPLEMENTATION.holds(run.version) and implementation != "sdpa":
        return words.by_transformers(run.model, implementation, kind)
    return words.compiled_route(run.model, implementation, run.version)


FRAMEWORK = Framework(
    name=NAME,
    title=TITLE,
    distribution="unsloth",
    newest=history.NEWEST,
    plan=plan,
    resolve=resolve,
)
