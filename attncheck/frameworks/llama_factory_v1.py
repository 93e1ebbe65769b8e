"""The engine that USE_V1=1 starts in LLaMA-Factory 0.9.5: other keys, and a `flash_attn` in transformers' own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attncheck.findings import Recommendation
from attncheck.frameworks import transformers
from attncheck.frameworks.interface import Redirected, Unavailable
from attncheck.frameworks.llama_factory_words import changed
from attncheck.frameworks.plugin import Fails, Outcome, Resolution, Runs, Step
from attncheck.semantics.observation import Rejected

if TYPE_CHECKING:
    from attncheck.frameworks.llama_factory_run import Run

ARGUMENTS = "v1/config/model_args.py, ModelArguments.__post_init__"
ENGINE = "v1/core/model_engine.py"
TRAINER = "v1/core/base_trainer.py"
#: v1/utils/types.py, AttentionFunction
VALUES = ("eager", "sdpa", "flash_attention_2")
DEFAULT = "sdpa"
SHOWN = ("model", "flash_attn", "cutoff_len", "bf16", "micro_batch_size", "batching_strategy")


def resolution(run: Run) -> Resolution:
    """Passed on as `attn_implementation`: nothing is replaced in silence, transformers refuses what it cannot run."""
    steps: list[Step] = []
    outcome = _outcome(run, steps)
    padding = isinstance(outcome, Fails) and outcome.setting == "batching_strategy"
    return Resolution(
        framework="llama-factory",
        version=run.version,
        version_from=run.version_from,
        outcome=outcome,
        named=f"{run.named} (v1 engine)",
        offers=VALUES,
        steps=tuple(steps),
        settings={key: run.text(key) for key in SHOWN if run.text(key)},
        file=run.asked.file,
        lines=run.asked.lines,
        fixes=(changed(run, {"flash_attn": "flash_attention_2"}, "padding_free needs it."),) if padding else (),
        recommend=lambda name: (
            changed(run, {"flash_attn": name}, f"use {name} in LLaMA-Factory's v1 engine")
            if name in VALUES
            else Recommendation(f"the v1 engine of {run.named} has no setting for {name}")
        ),
        versions={"transformers": run.release.transformers},
    )


def _outcome(run: Run, steps: list[Step]) -> Outcome:
    raw = run.settings.get("flash_attn")
    value = DEFAULT if raw is None else str(raw)
    line = run.asked.lines.get("flash_attn")
    shown = run.text("flash_attn")
    if value not in VALUES:
        steps.append(Step("refused when the arguments are read", "flash_attn", shown, ARGUMENTS, line))
        reason = f"Unsupported `flash_attn`: {value}. Supported values are: {list(VALUES)}."
        return Fails("ValueError", reason, "flash_attn")
    does = f"the v1 engine passes attn_implementation={value!r}" + ("" if raw is not None else ", its default")
    steps.append(Step(does, "flash_attn" if shown else "", shown, ENGINE, line))
    decision = transformers.decide(run.facts.support, run.environment, value)
    if isinstance(decision, Rejected):
        return Fails("ValueError", decision.said, "flash_attn")
    if isinstance(decision, Unavailable):
        return Fails("ImportError", "; ".join(reason.said for reason in decision.reasons), "flash_attn")
    if run.text("batching_strategy") == "padding_free" and value != "flash_attention_2":
        place = run.asked.lines.get("batching_strategy")
        steps.append(Step("needs flash_attention_2", "batching_strategy", "padding_free", TRAINER, place))
        return Fails("ValueError", "`padding_free` requires `flash_attn: flash_attention_2`.", "batching_strategy")
    return Runs(decision.actual if isinstance(decision, Redirected) else value)
