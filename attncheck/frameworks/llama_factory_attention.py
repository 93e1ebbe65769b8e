"""`flash_attn` of LLaMA-Factory: what its resolver writes into the config, step by step, by version."""

from __future__ import annotations

from packaging.version import Version

from attncheck.findings import Recommendation, Severity
from attncheck.frameworks import llama_factory_words, transformers
from attncheck.frameworks.flash_kernels import parsed
from attncheck.frameworks.llama_factory_run import ATTENTION, Chain, Run
from attncheck.frameworks.llama_factory_versions import Release
from attncheck.frameworks.plugin import Fails, LogWarning, Remark, SubModel


def requested(chain: Chain) -> str | Fails:
    """What the resolver writes into the config: transformers' name, "" where it writes nothing."""
    run, row = chain.run, chain.run.release
    value = run.text("flash_attn") or "auto"
    model_type = run.facts.model_type
    if not run.text("flash_attn"):
        chain.step("flash_attn is not set: auto", ATTENTION)
    if kernel := kernel_of(run):
        return _kernel(chain, kernel)
    special = _special(chain, value, model_type)
    if isinstance(special, Fails):
        return special
    value = special
    wanted = row.implementation(value)
    if wanted is None:
        return _no_branch(chain, value)
    if wanted == "":
        chain.step(f"{run.named} sets nothing", ATTENTION, "flash_attn")
    elif wanted == "flash_attention_2":
        missing = transformers.missing_for(run.environment, wanted)
        if missing:
            return _not_installed(chain, missing[0].text.partition(";")[0])
        chain.step(f"{run.named} asks for flash_attention_2", ATTENTION, "flash_attn")
    else:
        chain.step(f"{run.named} asks for {wanted}", ATTENTION, "flash_attn")
    for kind, whole in row.into_parts:
        if kind == model_type and wanted:
            for part in ("vision_config", "text_config"):
                chain.parts.append(SubModel(part, wanted, wanted, ATTENTION))
            if not whole:
                chain.step("written into vision_config and text_config only", ATTENTION)
    return wanted


def kernel_of(run: Run) -> str | None:
    """The hub kernel that is loaded for this model type whatever was asked for."""
    return dict(run.release.kernels).get(run.facts.model_type)


def _kernel(chain: Chain, kernel: str) -> str:
    """gpt_oss: flash_attn is not read at all."""
    run = chain.run
    chain.step(
        f"not read: for {run.facts.model_type}, {run.named} loads {kernel} from the hub", ATTENTION, "flash_attn"
    )
    if (value := run.text("flash_attn")) not in ("", "auto"):
        chain.remarks.append(
            Remark(
                "setting-ignored",
                Severity.WARNING,
                f"flash_attn: {value} has no effect: for {run.facts.model_type}, {run.named} always runs {kernel}",
                "flash_attn",
                (Recommendation("Remove the line: nothing changes by it."),),
                evidence=ATTENTION,
            )
        )
    return kernel


def _special(chain: Chain, value: str, model_type: str) -> str | Fails:
    """The value that goes on for model types with a rule of their own."""
    run, row = chain.run, chain.run.release
    if model_type == "gemma2" and (row.gemma2 == "always" or (row.gemma2 == "training" and run.trainable)):
        if value in ("auto", "fa2"):
            if transformers.missing_for(run.environment, "flash_attention_2"):
                chain.step(
                    'for gemma2 without flash-attn: "FlashAttention-2 is not installed, use eager attention."',
                    ATTENTION,
                    "flash_attn",
                )
                return _eager_value(row)
            installed = run.environment.version("flash-attn") or ""
            if row.gemma2_flash and parsed(installed) < Version(row.gemma2_flash):
                chain.step(f"for gemma2, flash-attn {row.gemma2_flash} or newer is required", ATTENTION, "flash_attn")
                reason = f"flash_attn>={row.gemma2_flash} is required for gemma2, {installed} is installed"
                return Fails("ImportError", reason, "flash_attn")
            if value == "auto":
                chain.step("for gemma2 with flash-attn, auto becomes fa2", ATTENTION, "flash_attn")
            return "fa2"
        if value == "sdpa":
            chain.warnings.append(
                LogWarning(
                    "Gemma-2 should use soft-capping attention, while the SDPA attention does not support it.",
                    "softcap-dropped",
                    "sdpa",
                    f"{run.named}, {ATTENTION}",
                )
            )
    if model_type in row.no_sdpa and value in ("auto", "sdpa"):
        chain.step(f"for {model_type}, {run.named} forces eager", ATTENTION, "flash_attn")
        return _eager_value(row)
    return value


def _eager_value(row: Release) -> str:
    return next(value for value, name in row.values if name == "eager")


def _no_branch(chain: Chain, value: str) -> Fails:
    run = chain.run
    why = "the parser takes the value, but the resolver has no branch for it"
    if isinstance(run.settings.get("flash_attn"), bool):
        why = f"YAML reads {run.asked.written('flash_attn') or 'it'} as {value}, and the parser lets that pass"
    shown = str(run.settings.get("flash_attn")) if run.settings.get("flash_attn") is not None else value
    chain.step(f"{why}: the run ends when the model is loaded", ATTENTION, "flash_attn")
    return Fails("NotImplementedError", f"Unknown attention type: {shown}", "flash_attn")


def _not_installed(chain: Chain, why: str) -> str:
    """`flash_attn: fa2` without flash-attn: one line in the log, and transformers' default runs."""
    run = chain.run
    chain.step(
        f'{why}: {run.named} logs "FlashAttention-2 is not installed." and goes on without setting anything',
        ATTENTION,
        "flash_attn",
    )
    default = run.facts.support.default or "its default"
    chain.remarks.append(
        Remark(
            "silent-fallback",
            Severity.WARNING,
            f"flash_attn: fa2 runs {default} here: {why}, and {run.named} says so in one line of the log only",
            "flash_attn",
            llama_factory_words.without_flash(run),
            evidence=ATTENTION,
            implementation=run.facts.support.default,
        )
    )
    return ""
