"""Rules about flash attention that runs although it should not, and about sub-models that run something else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from attncheck.checks.interface import Case, Inputs, RuleGroup
from attncheck.checks.registry import code_of
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Setting, Severity
from attncheck.frameworks.flash_kernels import FLASH_NAMES
from attncheck.semantics.flash_names import owner
from attncheck.semantics.kernel_names import shortened
from attncheck.semantics.observation import Basis
from attncheck.semantics.sub_models import SWITCHES, Asked, AskedRun, SubModelRun, WithoutFlash
from attncheck.verdicts import Recommended

RULES = (
    Rule(
        "ATC603",
        "flash-not-off",
        "A flash kernel runs although none should",
        "With --without flash: a flash kernel was launched in some sub-model: that of flash-attn, SDPA's own, or cuDNN's, which SDPA prefers on Hopper and newer.",
        "Switching flash-attn off leaves SDPA, which has flash kernels of its own; who must do without flash (reproducibility, a comparison, an older GPU) still has it.",
        "The whole model, tiny but with heads of the true width, runs under the profiler: an image, a prompt, a padded batch, one decoded token, and a backward. On a GPU the names of the launched kernels are read, and torch's operators everywhere.",
        "Ask for eager, or keep sdpa and switch its flash kernels off: each way that is recommended was measured.",
        ("LLaVA#275", "LLaVA#435", "LLaVA#641"),
    ),
    Rule(
        "ATC604",
        "flash-not-proven",
        "It could not be shown that no flash kernel runs",
        "With --without flash: some call broke, was refused, or showed no attention kernel to the profiler.",
        "What was not seen may be flash attention.",
        "As for flash-not-off; a call that shows no kernel at all proves nothing.",
        "Run it where the implementation can run; on a GPU the profiler needs CUPTI, which some containers forbid.",
    ),
)  # fmt: skip


def conclude(case: Case) -> Iterator[Finding]:
    """Sub-models that run something else than asked for, and what `--without flash` found."""
    yield from _replaced(case.inputs)
    answer = case.inputs.without
    if answer is None:
        return
    for run in answer.asked:
        yield from _of_run(run, answer, case.inputs)


def _replaced(inputs: Inputs) -> Iterator[Finding]:
    for run in inputs.sub_models:
        for sub in run.sub_models:
            if run.asked.predicted or sub.effective in ("", sub.requested) or not sub.requested:
                continue
            seen = bool(sub.reached)
            yield Finding(
                code=code_of("silent-fallback"),
                slug="silent-fallback",
                severity=Severity.WARNING if seen else Severity.NOTE,
                message=f"{sub.requested} was requested for the {sub.title}, {sub.effective} runs there instead"
                + ("" if seen else ", by its config"),
                basis=run.basis,
                implementation=sub.requested,
                part=sub.part,
                evidence=Evidence(requested=sub.requested, effective=sub.effective),
                recommendations=(Recommendation(f"Ask for {sub.effective}, so that the setting says what runs."),),
            )


def _of_run(run: AskedRun, answer: WithoutFlash, inputs: Inputs) -> Iterator[Finding]:
    unmeasured = run.basis is Basis.STATIC  # a framework's own attention: no implementation of transformers runs it
    name = run.asked.name if unmeasured else _implementation(run.asked, inputs)
    again = "" if unmeasured else f"attncheck compare {inputs.target} --without flash --impl {name}"
    if run.asked.predicted and name in FLASH_NAMES:
        yield Finding(
            code=code_of("flash-not-off"),
            slug="flash-not-off",
            severity=Severity.ERROR,
            message=f"{name} is flash attention itself, whatever else is switched off",
            basis=Basis.PREDICTED,
            implementation=name,
            evidence=Evidence(declared="no flash kernel", requested=run.asked.argument, effective=name),
            reproduction=again,
            recommendations=ways(answer, inputs),
        )
    for sub in run.sub_models:
        if sub.flash:
            yield _ran(run, sub, name, answer, inputs, again)
    itself = run.asked.predicted and name in FLASH_NAMES
    if not itself and (doubts := _doubts(run)):
        yield Finding(
            code=code_of("flash-not-proven"),
            slug="flash-not-proven",
            severity=Severity.WARNING,
            message=f"Under {name} it is not proven that no flash kernel runs: {doubts[0]}",
            basis=run.basis,
            implementation=None if unmeasured else name,
            evidence=Evidence(declared="no flash kernel", effective="; ".join(doubts)),
            reproduction=again,
            recommendations=ways(answer, inputs),
        )


def _ran(run: AskedRun, sub: SubModelRun, name: str, answer: WithoutFlash, inputs: Inputs, again: str) -> Finding:
    phases = list(dict.fromkeys(phase for phase, _ in sub.flash))
    kernels = list(dict.fromkeys(kernel for _, kernel in sub.flash))
    owners = " and ".join(dict.fromkeys(owner(kernel) for kernel in kernels))
    said = run.asked.argument
    how = f"attn_implementation={said}" if said else "nothing asked for"
    return Finding(
        code=code_of("flash-not-off"),
        slug="flash-not-off",
        severity=Severity.ERROR,
        message=f"{owners} runs in the {sub.title} under {sub.effective} ({how}), in {', '.join(phases)}",
        headline=f"{owners} runs in the {sub.title}",
        basis=run.basis,
        implementation=name,
        kernel=shortened(kernels[0]),
        part=sub.part,
        evidence=Evidence(
            declared="no flash kernel",
            requested=how,
            effective=", ".join(shortened(kernel) for kernel in kernels),
            figures={"calls": ", ".join(phases), "profiler": "; ".join(kernels), "device": answer.device},
        ),
        reproduction=again,
        recommendations=ways(answer, inputs, sub),
    )


def _doubts(run: AskedRun) -> list[str]:
    if run.failure:
        return [run.failure]
    found = [f"{sub.title}: {reason}" for sub in run.sub_models for reason in sub.unproven]
    return found or ([] if run.sub_models else ["nothing was run"])


def _implementation(asked: Asked, inputs: Inputs) -> str:
    """The name, as transformers has it, of what the user runs."""
    return asked.implementation if isinstance(asked.implementation, str) else inputs.default or asked.name


def ways(answer: WithoutFlash, inputs: Inputs, sub: SubModelRun | None = None) -> tuple[Recommendation, ...]:
    """Every way that was measured free of flash kernels, ready to paste; those of one sub-model alone stand last."""
    partly = [run for run in answer.ways if not run.proven and sub is not None and _free(run, sub)]
    return tuple(recommendation(run, inputs) for run in (*(run for run in answer.ways if run.proven), *partly))


def _free(run: AskedRun, sub: SubModelRun) -> bool:
    """True when the sub-model is proven free of flash kernels there, by what was asked for it."""
    same = next((other for other in run.sub_models if (other.key, other.title) == (sub.key, sub.title)), None)
    return same is not None and not same.flash and not same.unproven


def recommendation(run: AskedRun, inputs: Inputs) -> Recommendation:
    """One way to do without flash, in the words of whoever loads the model and of torch."""
    given = run.asked.implementation
    if run.asked.switches:
        other = inputs.settings(given) if isinstance(given, str) and _named(inputs) != {given} else None
        settings: tuple[Setting, ...] = (_switched(run.asked, other),)
    elif isinstance(given, tuple):
        name, argument = given[0][1], run.asked.argument
        settings = tuple(
            replace(entry, value=argument, paste=entry.paste.replace(f'"{name}"', argument))
            for entry in inputs.settings(name).settings
            if f'"{name}"' in entry.paste  # a framework's settings may have no word for one part alone
        )
    else:
        settings = inputs.settings(given or "").settings
    return Recommendation(f"{run.asked.name}: {_where(run)}", settings)


def _named(inputs: Inputs) -> set[str]:
    """The implementations that the user runs: where a way keeps them, switches are all that is missing."""
    asked = inputs.without.asked if inputs.without is not None else ()
    return {_implementation(run.asked, inputs) for run in asked}


def _where(run: AskedRun) -> str:
    """Where no flash kernel was seen, and where one still was."""
    several = len(run.sub_models) > 1
    if run.proven:
        return f"measured, no flash kernel{' in any sub-model' if several else ''}"
    free = [sub.title for sub in run.sub_models if not sub.flash and not sub.unproven]
    left = [sub.title for sub in run.sub_models if sub.flash]
    doubtful = [sub.title for sub in run.sub_models if sub.unproven and not sub.flash]
    said = [f"none in the {' and '.join(free)}"]
    said += [f"the {' and '.join(left)} still runs one"] if left else []
    said += [f"not proven for the {' and '.join(doubtful)}"] if doubtful else []
    return f"measured, {'; '.join(said)}"


def recommended(inputs: Inputs, findings: Sequence[Finding], usual: Recommended | None) -> Recommended | None:
    """The usual advice; with `--without flash`, what was measured free of it.

    The implementation that the user runs comes first, then the one with the fewest changes; sdpa before eager.
    """
    answer = inputs.without
    if answer is None:
        return usual
    kept = {_implementation(run.asked, inputs) for run in answer.asked if run.proven}
    if usual is not None and usual.implementation in kept:
        return usual
    wrong = {f.implementation for f in findings if f.severity is Severity.ERROR and f.slug != "flash-not-off"}
    free = [run for run in answer.ways if run.proven and isinstance(run.asked.implementation, str)]
    free = [run for run in free if run.asked.implementation not in wrong]
    running = _named(inputs)
    best = min(
        free,
        key=lambda run: (run.asked.implementation not in running, not run.asked.switches, len(run.asked.switches)),
        default=None,
    )
    if best is None or not isinstance(best.asked.implementation, str):
        return None
    return Recommended(best.asked.implementation, f"{best.asked.name}: {_where(best)}", recommendation(best, inputs))


def _switched(asked: Asked, load: Recommendation | None) -> Setting:
    """All of torch's switches in one line to paste, and how the model is loaded beside them where that changes too."""
    statements = [SWITCHES[name] for name in asked.switches]
    keys, values = zip(*(statement.rstrip(")").split("(", 1) for statement in statements))
    pastes = [f"with {one}: ..." if "sdpa_kernel" in one else one for one in statements]
    if load is not None and load.settings:
        pastes.insert(0, load.settings[0].paste)
    between = "\n" if "\n" in pastes[0] else "; "  # a diff of a settings file keeps its lines
    return Setting("torch", ", ".join(keys), ", ".join(values), between.join(pastes))


GROUP = RuleGroup("without", RULES, order=73, conclude=conclude)
