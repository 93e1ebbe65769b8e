"""Puts all checks together: judges every view, groups issues into findings, fills the matrix, ranks implementations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attncheck.checks import own_calls, recommend, reproduction, severity, status, timed, without
from attncheck.checks.cells import cells
from attncheck.checks.framework import of_what_runs
from attncheck.checks.interface import Case, Conclusion, Inputs, Issue, View
from attncheck.checks.registry import code_of, groups
from attncheck.checks.views import views
from attncheck.findings import Finding, Severity
from attncheck.semantics.spec import Part

_Key = tuple[str, str, Part, str]


def evaluate(inputs: Inputs) -> Conclusion:
    """Everything the checks can say about the runs. Runs no kernel and imports no torch."""
    seen = views(inputs)
    issues: dict[int, list[Issue]] = {id(view): judged(view, inputs) for view in seen}
    matrix = [*cells(inputs, seen, issues), *own_calls.cells(inputs)]
    findings = grouped([issue for view in seen for issue in issues[id(view)]], inputs)
    for group in groups():
        if group.conclude is not None:
            findings += group.conclude(Case(inputs, seen, tuple(findings)))
    statuses = (*status.implementations(inputs, findings, matrix), *own_calls.implementations(inputs, findings))
    ranking = recommend.ranked(inputs, findings, statuses, matrix)
    findings = [
        replace(
            finding,
            recommendations=finding.recommendations or recommend.for_finding(finding, inputs, findings, ranking),
            reproduction=finding.reproduction or reproduction.for_finding(finding, inputs),
        )
        for finding in findings
    ]
    findings = of_what_runs(findings, inputs)
    speeds = recommend.speeds(inputs, findings, statuses, ranking)
    best = without.recommended(inputs, findings, recommend.recommended(inputs, findings, ranking, speeds))
    best = best if inputs.own is None else own_calls.recommended(inputs, findings)
    runs = inputs.default if inputs.framework is None else inputs.framework.runs
    concerned = [name for name in (runs, best and best.implementation) if name]
    usable = {rank.name: recommend.standing(rank) for rank in ranking if not rank.wrong}
    findings += timed.slow_paths(inputs, usable, concerned)
    findings.sort(key=lambda finding: -finding.severity.rank)
    return Conclusion(statuses, tuple(matrix), tuple(findings), best, speeds)


def judged(view: View, inputs: Inputs) -> list[Issue]:
    """Every issue of a view, over all rule groups."""
    return [issue for group in groups() if group.judge is not None for issue in group.judge(view, inputs)]


def grouped(issues: Sequence[Issue], inputs: Inputs) -> list[Finding]:
    """One finding for each slug, implementation, part and scenario; the worst issue of the kernel picked by default leads."""
    together: dict[_Key, list[Issue]] = {}
    for issue in issues:
        run = issue.view.run
        together.setdefault((issue.slug, run.implementation, issue.view.part, run.scenario), []).append(issue)
    return [_finding(same, inputs) for same in together.values()]


def _finding(issues: Sequence[Issue], inputs: Inputs) -> Finding:
    by_default = [issue for issue in issues if not issue.view.kernel]
    rated = [(severity.severity(issue, inputs, not by_default), issue) for issue in by_default or issues]
    worst = max(level.rank for level, _ in rated)
    level, lead = max(
        ((level, issue) for level, issue in rated if level.rank == worst), key=lambda entry: entry[1].weight
    )
    concerned = [issue for rank, issue in rated if rank is level]
    real = {layer for issue in concerned for layer in severity.layers(issue, inputs)}
    variants = tuple(dict.fromkeys(issue.view.run.variant for issue in issues))
    kernels = tuple(dict.fromkeys(issue.view.kernel for issue in issues if issue.view.kernel))
    figures = dict(lead.evidence.figures)
    if len(variants) > 1:
        figures["variants"] = ", ".join(variants)
    if by_default and kernels:
        figures["kernels"] = ", ".join(kernels)
    message, headline = lead.message, lead.headline
    if level is Severity.NOTE and inputs.seq_len is not None and lead.slug in severity.SIZE_ONLY:
        never_met = f"; never met by sequences of at most {inputs.seq_len} tokens"
        message += never_met
        headline += never_met if headline else ""
    view = lead.view
    return Finding(
        code=code_of(lead.slug),
        slug=lead.slug,
        severity=level,
        message=message,
        basis=view.run.basis,
        implementation=view.run.implementation,
        kernel=view.kernel,
        part=view.part,
        layers=tuple(sorted(real)),
        scenario=view.run.scenario,
        variant=view.run.variant,
        evidence=replace(lead.evidence, figures=figures),
        reproduction=reproduction.for_issue(lead, inputs),
        headline=headline,
    )
