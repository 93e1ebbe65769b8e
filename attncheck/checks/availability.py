"""Rules about implementations that break, or that are quietly replaced by another one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attncheck.backends import interface as backends
from attncheck.checks.interface import REFERENCE, Case, RuleGroup
from attncheck.checks.registry import code_of
from attncheck.findings import Evidence, Finding, Rule, Severity
from attncheck.semantics.observation import Basis, Crashed, Observed, ScenarioRun

RULES = (
    Rule(
        "ATC601",
        "backend-unusable",
        "The implementation breaks when it runs",
        "A forward pass that eager survives raises an unannounced exception, kills or hangs the process, or runs out of memory.",
        "What crashes on a tiny input will crash in training or serving, often later and with less to see.",
        "The scenario runs in a process of its own; its death, silence or exception is recorded.",
        "Use another implementation; the reason names the exception or signal.",
        ("transformers#31953", "flash-attention#854"),
    ),
    Rule(
        "ATC602",
        "silent-fallback",
        "Another implementation runs than the one requested",
        "The framework replaces the requested implementation without an error.",
        "What was measured or chosen for its speed is not what runs.",
        "The function that the live call really reaches is compared with the one requested; on a GPU also the kernel that the profiler saw.",
        "Ask for the implementation that really runs, or install what the requested one needs.",
        ("LLaMA-Factory#7096", "OpenTau#214"),
    ),
)


def conclude(case: Case) -> Iterator[Finding]:
    """Crashes that eager does not share, and replacements."""
    yield from _crashes(case)
    yield from _fallbacks(case)


def _crashes(case: Case) -> Iterator[Finding]:
    eager = {(run.scenario, run.variant): run.outcome for run in case.inputs.runs if run.implementation == REFERENCE}
    told: set[tuple[str, str]] = set()
    for run in case.inputs.runs:
        outcome = run.outcome
        if not isinstance(outcome, Crashed) or (run.implementation, run.scenario) in told:
            continue
        told.add((run.implementation, run.scenario))
        shared = isinstance(eager.get((run.scenario, run.variant)), Crashed)
        wanted = run.core or case.inputs.options.asked(run.scenario)
        certain = run.basis is Basis.MEASURED and wanted and not shared
        # A crash that eager shares is the tiny model's or the scenario's, not the implementation's.
        yield Finding(
            code=code_of("backend-unusable"),
            slug="backend-unusable",
            severity=Severity.ERROR if certain else Severity.NOTE if shared else Severity.WARNING,
            message=f"It broke ({outcome.kind}): {outcome.reason}" + (" (eager breaks too)" if shared else ""),
            headline=f"It broke ({outcome.kind})" + ("; eager breaks too" if shared else ""),
            basis=run.basis,
            implementation=run.implementation,
            scenario=run.scenario,
            variant=run.variant,
            evidence=Evidence(declared="a result", effective=f"{outcome.kind}: {outcome.reason}"),
        )


def _fallbacks(case: Case) -> Iterator[Finding]:
    for name, (other, why) in case.inputs.replaced.items():
        if name in case.inputs.implementations or not case.inputs.implementations:
            yield _fallback(name, other, why, None, Basis.STATIC)
    told: set[tuple[str, str]] = set()
    for run in case.inputs.runs:
        if run.implementation in case.inputs.replaced:
            continue  # told above; what ran here is only the contract that stands for the replacement
        used = run.outcome.used_implementation if isinstance(run.outcome, Observed) else ""
        if used not in ("", run.implementation) and (run.implementation, run.scenario) not in told:
            told.add((run.implementation, run.scenario))
            yield _fallback(run.implementation, used, "", run, run.basis)
    yield from _foreign_kernels(case)


def _foreign_kernels(case: Case) -> Iterator[Finding]:
    """Implementations whose function ran, but launched none of the kernels that its library is known to launch."""
    told: set[str] = set()
    for run in case.inputs.runs:
        name = run.implementation
        if not isinstance(run.outcome, Observed) or run.basis is not Basis.MEASURED or name in told:
            continue
        seen = [launched for kernel, launched in run.outcome.launched if not kernel]
        known = kernel_names(name)
        if seen and known and not any(re.search(pattern, launched) for pattern in known for launched in seen):
            told.add(name)
            owner = next((api for api, pattern in launching() if any(re.search(pattern, one) for one in seen)), "")
            other = f"a kernel of {owner}" if owner else "another kernel"
            yield _fallback(name, other, f"the GPU ran {seen[0]}", run, run.basis)


def kernel_names(implementation: str) -> tuple[str, ...]:
    """Patterns of the CUDA kernels that an implementation launches; empty where it chooses freely or nobody knows."""
    patterns = tuple(api.launches for _, api in backends.apis().values() if api.serves == implementation)
    return patterns if all(patterns) else ()


def launching() -> Iterator[tuple[str, str]]:
    """(API, pattern of its kernels) of every API whose kernels are known by name; those behind transformers first."""
    known = [(api.name, api.launches, api.serves) for _, api in backends.apis().values() if api.launches]
    return ((name, pattern) for name, pattern, _ in sorted(known, key=lambda entry: not entry[2]))


def _fallback(name: str, other: str, why: str, run: ScenarioRun | None, basis: Basis) -> Finding:
    return Finding(
        code=code_of("silent-fallback"),
        slug="silent-fallback",
        severity=Severity.WARNING,
        message=f"{name} was requested, {other} runs instead" + (f": {why}" if why else ""),
        basis=basis,
        implementation=name,
        scenario=run.scenario if run is not None else "",
        variant=run.variant if run is not None else "",
        evidence=Evidence(requested=name, effective=other),
    )


GROUP = RuleGroup("availability", RULES, order=70, conclude=conclude)
