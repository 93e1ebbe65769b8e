"""The report as JUnit XML, which every CI can show: one test case a cell of the matrix, a check, or a timed call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from attncheck.findings import Finding, Severity
from attncheck.render.interface import Renderer, Style
from attncheck.render.matrix import BROKEN
from attncheck.render.places import logical
from attncheck.render.sides import sides
from attncheck.render.wording import layer_ranges
from attncheck.report import Report
from attncheck.semantics.timing import BenchCase
from attncheck.semantics.watched import Site
from attncheck.verdicts import Cell, Verdict

#: Characters that XML 1.0 has no way to write.
_NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class _Case:
    """A test case. outcome: "passed", "failed" or "skipped"; what was not judged, and what is wrong but does not make
    the command fail, is skipped: JUnit knows no warning, and neither of them may look passed.
    """

    group: str
    name: str
    outcome: str
    message: str = ""
    text: str = ""


def render(report: Report, style: Style) -> str:
    """One test suite. Failed is what makes the command fail (`--fail-on`, `--baseline`)."""
    import junitparser

    suite = junitparser.TestSuite(_clean(f"attncheck {report.command}{f' {report.model.id}' if report.model else ''}"))
    for name, value in {"attncheck": report.version, **report.arguments}.items():
        suite.add_property(_clean(name), _clean(value))
    for case in cases(report):
        suite.add_testcase(_element(case, junitparser))
    page = junitparser.JUnitXml(name="attncheck")
    page.add_testsuite(suite)
    page.update_statistics()
    text: str = page.tostring().decode("utf-8")
    return text if style.unicode else text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _element(case: _Case, library: Any) -> Any:
    element = library.TestCase(_clean(case.name), _clean(case.group))
    if case.outcome != "passed":
        kind = library.Failure if case.outcome == "failed" else library.Skipped
        result = kind(_clean(case.message))
        if case.text:
            result.text = _clean(case.text)
        element.result = [result]
    return element


def cases(report: Report) -> Iterator[_Case]:
    """Every cell, check, call of a script and timed call, then the findings that belong to none of them."""
    told: set[int] = set()

    def about(found: Iterable[Finding]) -> list[Finding]:
        findings = list(found)
        told.update(map(id, findings))
        return findings

    for cell in report.matrix:
        yield _of_cell(report, cell, about(f for f in report.findings if _concerns(f, cell)))
    for check in report.checks:
        found = about(f for f in report.findings if f.code == check.code)
        name = f"{check.code} {found[0].slug}" if found else check.code
        if check.status == "not_run":
            yield _Case("attncheck.doctor", name, "skipped", f"NOT RUN: {check.reason}")
        else:
            yield _judged(report, "attncheck.doctor", name, found)
    if report.bench is not None:
        for timed in report.bench.cells:
            name = _timed(timed.case)
            reason = "" if timed.median is not None else f"{timed.outcome.value}: {timed.detail or timed.excluded}"
            yield _Case(
                f"attncheck.bench.{timed.case.level}.{timed.case.subject}",
                name,
                "skipped" if reason else "passed",
                reason,
            )
        if not report.bench.complete:
            yield _Case("attncheck.bench", "what was left", "skipped", "NOT RUN: the bench was interrupted")
    if report.watch is not None:
        for site in report.watch.sites:
            layers = f" layers {layer_ranges(site.layers)}" if site.layers else ""
            found = about(f for f in report.findings if site.difference == f.slug and _same_place(f, site))
            name = f"{site.where or site.function} {site.phase}{layers} {site.shape}".strip()
            group = "attncheck.run"
            if found or site.verdict == "ok":
                yield _judged(report, group, name, found)
            else:
                yield _Case(group, name, "skipped", f"{site.verdict}: {site.reason or site.difference or 'no verdict'}")
    group = f"attncheck.{report.command}"
    for finding in report.findings:
        if id(finding) not in told:
            yield _judged(report, group, f"{finding.slug} {logical(report, finding)}", [finding])
    if not (report.matrix or report.checks or report.bench or report.watch or report.findings):
        yield _Case(group, report.command, "skipped", "this report judges nothing")


def _timed(case: BenchCase) -> str:
    size = f"{case.batch} x {case.q_len} queries, {case.kv_len} keys, {case.num_heads} heads of {case.head_dim}"
    return f"{case.phase}{' backward' if case.backward else ''}, {case.inputs}, {case.mask}, {size}, {case.dtype}"


def _same_place(finding: Finding, site: Site) -> bool:
    return (finding.implementation, finding.part) == (site.implementation or site.function, site.part) and (
        not site.layers or not finding.layers or bool(set(site.layers) & set(finding.layers))
    )


def _concerns(finding: Finding, cell: Cell) -> bool:
    """Whether a finding tells what this cell says. It stands for all variants, kernels and layers of its place."""
    if (cell.implementation, cell.scenario) != (finding.implementation, finding.scenario):
        return False
    if cell.difference == finding.slug:
        return finding.part in (None, cell.part)
    return cell.verdict is Verdict.ERROR and finding.slug == BROKEN


def _of_cell(report: Report, cell: Cell, found: list[Finding]) -> _Case:
    group = f"attncheck.{report.command}.{cell.implementation}{f'.{cell.kernel}' if cell.kernel else ''}"
    layers = f"layers {layer_ranges(cell.layers)}" if cell.layers else ""
    part = "" if cell.part is None else cell.part.value
    name = " ".join(filter(None, (cell.scenario, cell.variant, part, layers)))
    if found:
        return _judged(report, group, name, found)
    if cell.verdict is Verdict.OK:
        return _Case(group, name, "passed")
    words = cell.verdict.value.replace("_", " ").upper()
    return _Case(group, name, "skipped", f"{words}: {cell.difference or cell.reason or 'no finding'}")


def _judged(report: Report, group: str, name: str, found: list[Finding]) -> _Case:
    """Failed by a finding that makes the command fail; skipped by one that does not; passed without any."""
    if not found:
        return _Case(group, name, "passed")
    worst = max(found, key=lambda finding: (_fails(report, finding), finding.severity.rank))
    state = "known" if worst.known else worst.severity.value
    basis = f", {worst.basis.value}" if worst.basis else ""
    message = f"{worst.slug} ({state}{basis}): {worst.headline or worst.message}"
    return _Case(group, name, "failed" if _fails(report, worst) else "skipped", message, "\n\n".join(map(_text, found)))


def _fails(report: Report, finding: Finding) -> bool:
    if report.fail_on == "never" or finding.known:
        return False
    return finding.severity.rank >= Severity(report.fail_on).rank


def _text(finding: Finding) -> str:
    evidence = finding.evidence
    declared, effective = sides(finding)
    rows = [
        (declared, evidence.declared),
        ("requested", evidence.requested),
        (effective, evidence.effective),
        *(("fix", f"{advice.text}\n{advice.paste}".strip()) for advice in finding.recommendations),
        ("reproduce", finding.reproduction),
        ("more", f"attncheck explain {finding.slug}"),
    ]
    return "\n".join([f"{finding.code} {finding.message}", *(f"{name}: {text}" for name, text in rows if text)])


def _clean(text: str) -> str:
    return _NO_XML.sub("?", text)


RENDERER = Renderer("junit", "JUnit XML, for CI", render, package="junitparser", extra="junit", changes=False)
