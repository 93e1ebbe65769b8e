"""LLaMA-Factory's resolver, retold: from the settings to what runs, in the order of its own code, by version."""

from __future__ import annotations

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from attncheck.findings import Severity
from attncheck.frameworks import llama_factory_packing, llama_factory_words, sliding_warning, transformers
from attncheck.frameworks.flash_kernels import parsed
from attncheck.frameworks.interface import Redirected, Unavailable
from attncheck.frameworks.llama_factory_attention import kernel_of, requested
from attncheck.frameworks.llama_factory_run import LOADER, LONGLORA, PARSER, SHOWN, Chain, Run
from attncheck.frameworks.llama_factory_versions import Release
from attncheck.frameworks.plugin import Fails, Outcome, Remark, Resolution, Runs, RunsOwn, Unresolved
from attncheck.semantics.observation import Rejected


def resolution(run: Run) -> Resolution:
    """The chain and its end."""
    chain = Chain(run)
    outcome = _outcome(chain)
    packing = llama_factory_packing.Packing()
    if isinstance(outcome, Runs):
        outcome, packing = llama_factory_packing.resolve(chain, outcome)
    if isinstance(outcome, Runs):
        installed = run.environment.version("transformers") or run.facts.support.version
        line = sliding_warning.for_model(
            run.facts.model_type, run.facts.config, outcome.implementation, installed, run.release.transformers
        )
        chain.warnings += [line] if line is not None else []
    offers = tuple(name for _, name in run.release.values if name) if not kernel_of(run) else ()
    return Resolution(
        framework="llama-factory",
        version=run.version,
        version_from=run.version_from,
        outcome=outcome,
        named=run.named,
        steps=tuple(chain.steps),
        settings={key: run.asked.written(key) or run.text(key) for key in SHOWN if run.text(key)},
        file=run.asked.file,
        lines=run.asked.lines,
        scenarios=packing.scenarios,
        beside=packing.beside,
        sub_models=tuple(chain.parts),
        remarks=tuple(chain.remarks),
        warnings=tuple(chain.warnings),
        remedies=packing.remedies,
        fixes=llama_factory_words.fixes(run, outcome),
        offers=offers,
        recommend=lambda name: llama_factory_words.recommend(run, name, outcome),
        versions={"transformers": run.release.transformers},
    )


def _outcome(chain: Chain) -> Outcome:
    """The order of load_model: the implementation, then LongLoRA, then who loads the model."""
    run = chain.run
    backend = run.text("infer_backend")
    if not run.trainable and backend in ("vllm", "sglang"):
        chain.step(f"{backend} loads the model; LLaMA-Factory's own resolver has no say", PARSER, "infer_backend")
        return RunsOwn(f"{backend}'s own attention")
    written = requested(chain)
    if isinstance(written, Fails):
        return written
    if (shifted := _shift(chain)) is not None:
        return shifted
    if (own := _loaded_elsewhere(chain)) is not None:
        return own
    return _by_transformers(chain, written)


def _shift(chain: Chain) -> Outcome | None:
    """`shift_attn` (LongLoRA) is llama's only, and needs an older transformers than newer releases accept."""
    run, row = chain.run, chain.run.release
    if not run.settings.get("shift_attn") or not run.trainable:
        return None
    remove = (llama_factory_words.changed(run, {"shift_attn": False}, "Switch it off: it does nothing here."),)
    if run.facts.model_type != "llama":
        chain.step('"Current model does not support shift short attention.": ignored', LONGLORA, "shift_attn")
        chain.remarks.append(
            Remark(
                "setting-ignored",
                Severity.WARNING,
                f"shift_attn: true has no effect: {run.named} knows it for llama only, not for {run.facts.model_type}",
                "shift_attn",
                remove,
                evidence=LONGLORA,
            )
        )
        return None
    installed = run.environment.version("transformers") or run.facts.support.version
    if _allows(row.shift, installed):
        chain.step(
            "the attention of llama is replaced by shifted groups of a quarter of the sequence", LONGLORA, "shift_attn"
        )
        return RunsOwn("LLaMA-Factory's own shift short attention (LongLoRA)")
    chain.step(f"needs transformers {row.shift}", LONGLORA, "shift_attn")
    never = not any(_allows(row.shift, str(version)) for version in _possible(row))
    words = f"; {run.named} itself needs {row.transformers}, so it can never run" if never else ""
    return Fails(
        "ImportError",
        f"shift_attn needs transformers {row.shift}, transformers {installed} is installed{words}",
        "shift_attn",
    )


def _possible(row: Release) -> list[Version]:
    """Every minor release of transformers that both ranges could name: enough to see whether they meet."""
    return [
        Version(f"4.{minor}.{patch}")
        for minor in range(37, 60)
        for patch in range(4)
        if _allows(row.transformers, f"4.{minor}.{patch}")
    ]


def _allows(specifier: str, version: str) -> bool:
    return not specifier or SpecifierSet(specifier).contains(parsed(version), prereleases=True)


def _loaded_elsewhere(chain: Chain) -> Outcome | None:
    run = chain.run
    if run.settings.get("use_kt"):
        chain.step("KTransformers loads the model; the resolver has no say", LOADER, "use_kt")
        return RunsOwn("KTransformers' own attention")
    if not (run.settings.get("use_unsloth") and run.trainable):
        return None
    if run.environment.version("unsloth") is None:
        chain.step("unsloth is not installed", PARSER, "use_unsloth")
        return Fails(
            "ImportError", "use_unsloth: true needs the package unsloth, which is not installed", "use_unsloth"
        )
    chain.remarks.clear()  # what the resolver wrote into the config has no say any more
    look = f"attncheck compare {run.facts.id} --framework unsloth"
    chain.step(f"Unsloth loads the model: flash_attn is not read; look into it with `{look}`", LOADER, "use_unsloth")
    return RunsOwn("Unsloth's own attention")


def _by_transformers(chain: Chain, written: str) -> Outcome:
    """What transformers makes of what was written into the config."""
    run = chain.run
    support = run.facts.support
    name = f"transformers {support.version}"
    if "/" in written:
        return Runs(written)
    if run.facts.model_type == "internlm2" and not written:
        default = str(run.facts.config.get("attn_implementation") or "eager")
        chain.step(f"the checkpoint's own code reads attn_implementation: {default}", "configuration_internlm2.py")
        return Runs(default)
    if not written:
        if support.default is None:
            return Unresolved(f"{name} cannot say what it picks for {support.model_class or run.facts.model_type}")
        chain.step(f"{name} takes its default for {support.model_class}", "PreTrainedModel.__init__")
        return Runs(support.default)
    decision = transformers.decide(support, run.environment, written)
    if isinstance(decision, Rejected):
        return Fails("ValueError", decision.said, "flash_attn")
    if isinstance(decision, Unavailable):
        return Fails("ImportError", "; ".join(reason.said for reason in decision.reasons), "flash_attn")
    if isinstance(decision, Redirected):
        chain.step(decision.reasons[0].text, decision.reasons[0].source)
        return Runs(decision.actual)
    return Runs(written)
