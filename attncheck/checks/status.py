"""What became of each implementation as a whole: right, wrong, refused, broken or never run."""

from __future__ import annotations

from collections.abc import Sequence

from attncheck.checks.interface import Inputs
from attncheck.findings import Finding, Severity
from attncheck.semantics.observation import Basis, Crashed, NotRun, Observed, Reason, Rejected, ScenarioRun
from attncheck.verdicts import Cell, Implementation, KernelRefusal, Launched, Status, Verdict

#: Verdicts that say something about an implementation.
_JUDGED = (Verdict.OK, Verdict.MISMATCH)
#: Slugs that say that an implementation does not run, not that it computes something else.
UNUSABLE = ("backend-unusable", "shape-unsupported")
#: Slugs that say nothing against what an implementation computes.
_OTHER_MATTERS = (*UNUSABLE, "flash-not-off")


def implementations(inputs: Inputs, findings: Sequence[Finding], matrix: Sequence[Cell]) -> tuple[Implementation, ...]:
    """One entry an implementation. A mismatch is an error-level finding: traps in features nobody asked for, and windows
    that never bind, leave the status ok. One that ran without a verdict anywhere in `matrix` is not ok but not run."""
    names = dict.fromkeys((*inputs.implementations, *(run.implementation for run in inputs.runs), *inputs.refused))
    return tuple(_implementation(name, inputs, findings, matrix) for name in names)


def _implementation(name: str, inputs: Inputs, findings: Sequence[Finding], matrix: Sequence[Cell]) -> Implementation:
    runs = [run for run in inputs.runs if run.implementation == name]
    observed = [run for run in runs if isinstance(run.outcome, Observed)]
    status, reasons = _status(name, runs, observed, inputs, findings)
    cells = [cell for cell in matrix if cell.implementation == name]
    if status is Status.OK and all(cell.verdict not in _JUDGED for cell in cells):
        status = Status.NOT_RUN
        silent = (cell.reason for cell in cells if cell.verdict in (Verdict.NOT_RUN, Verdict.UNKNOWN))
        reasons = [*(Reason(text) for text in silent), *reasons]
    reasons = [*inputs.lacking.get(name, ()), *reasons]
    measured = any(run.basis is Basis.MEASURED for run in observed)
    basis = None if not observed else Basis.MEASURED if measured else Basis.PREDICTED
    outcomes = [run.outcome for run in observed if isinstance(run.outcome, Observed)]
    kernels = [kernel for outcome in outcomes for kernel in outcome.kernels]
    launched = [Launched(*seen) for outcome in outcomes for seen in outcome.launched]
    return Implementation(
        name=name,
        default=name == inputs.default,
        basis=basis,
        status=status,
        reasons=tuple(dict.fromkeys(reasons)),
        kernels=tuple(dict.fromkeys(kernels)),
        launched=tuple(dict.fromkeys(launched)),
        refusals=_refusals(observed),
    )


def _refusals(observed: Sequence[ScenarioRun]) -> tuple[KernelRefusal, ...]:
    """Kernels that were forced and refused, scenarios of one reason together."""
    where: dict[tuple[str, str], dict[str, None]] = {}
    for run in observed:
        for refusal in run.outcome.refusals if isinstance(run.outcome, Observed) else ():
            where.setdefault(refusal, {})[run.scenario] = None
    return tuple(KernelRefusal(kernel, reason, tuple(scenarios)) for (kernel, reason), scenarios in where.items())


def _status(
    name: str,
    runs: Sequence[ScenarioRun],
    observed: Sequence[ScenarioRun],
    inputs: Inputs,
    findings: Sequence[Finding],
) -> tuple[Status, list[Reason]]:
    if name in inputs.refused:
        return Status.REJECTED, list(inputs.refused[name].reasons)
    wrong = [
        finding
        for finding in findings
        if finding.implementation == name and finding.severity is Severity.ERROR and finding.slug not in _OTHER_MATTERS
    ]
    true_size = [
        Reason(finding.message, source=finding.kernel)
        for finding in findings
        if finding.implementation == name and finding.severity is Severity.ERROR and finding.slug == "shape-unsupported"
    ]
    crashes = [
        Reason(f"{run.scenario}: {run.outcome.reason}", limit="", source=run.outcome.kind)
        for run in runs
        if isinstance(run.outcome, Crashed)
    ]
    refusals = [reason for run in runs if isinstance(run.outcome, Rejected) for reason in run.outcome.reasons]
    core_crash = any(isinstance(run.outcome, Crashed) and run.core for run in runs)
    if wrong:
        return Status.MISMATCH, crashes + refusals
    if true_size:
        return Status.REJECTED, true_size
    if core_crash or (crashes and not observed):
        return Status.CRASHED, crashes
    if observed:
        return Status.OK, crashes + refusals
    if refusals:
        return Status.REJECTED, refusals
    silent = [Reason(run.outcome.reason) for run in runs if isinstance(run.outcome, NotRun)]
    return Status.NOT_RUN, silent or [Reason("no scenario was run")]
