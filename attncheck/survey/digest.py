"""From the checks' conclusion to the cells and findings of a row: one cell an implementation and scenario."""

from __future__ import annotations

from collections.abc import Sequence

from attncheck.checks import Conclusion
from attncheck.findings import Finding
from attncheck.semantics.spec import ModelSpec, Part
from attncheck.surveyed import Plan, State, SurveyCell, SurveyFinding
from attncheck.verdicts import IS_REFERENCE, Cell, Status, Verdict

#: How the reason of a cell begins that the framework or kernel refused.
_REFUSED = "refused: "
#: Longest reason that a cell keeps, in characters.
_LONGEST = 240


def cells_of(conclusion: Conclusion, plan: Plan) -> tuple[SurveyCell, ...]:
    """Every cell of the plan, in its order."""
    together: dict[tuple[str, str], list[Cell]] = {}
    for cell in conclusion.cells:
        together.setdefault((cell.implementation, cell.scenario), []).append(cell)
    findings: dict[tuple[str, str], list[Finding]] = {}
    for finding in conclusion.findings:
        findings.setdefault((finding.implementation or "", finding.scenario), []).append(finding)
    refused = {
        entry.name: "; ".join(reason.said for reason in entry.reasons)
        for entry in conclusion.implementations
        if entry.status is Status.REJECTED
    }
    found = []
    for name in plan.implementations:
        for scenario in plan.scenarios:
            place = name, scenario
            if place in together:
                found.append(_cell(name, scenario, together[place], findings.get(place, ())))
            elif name in refused:
                found.append(SurveyCell(name, scenario, State.NOT_SUPPORTED, reason=_short(refused[name])))
    return tuple(found)


def _cell(name: str, scenario: str, cells: Sequence[Cell], findings: Sequence[Finding]) -> SurveyCell:
    wrong = [cell for cell in cells if cell.verdict is Verdict.MISMATCH]
    broken = [cell for cell in cells if cell.verdict is Verdict.ERROR]
    right = [cell for cell in cells if cell.verdict is Verdict.OK or cell.reason == IS_REFERENCE]
    refused = [cell for cell in cells if _refusal(cell)]
    silent = [cell for cell in cells if _silent(cell)]
    basis = next((cell.basis.value for cell in (*wrong, *right, *broken) if cell.basis is not None), "")
    severity = max((finding.severity for finding in findings), key=lambda level: level.rank, default=None)
    level = "" if severity is None else severity.value
    opened = _opened((*silent, *refused)) if wrong or right else ""
    if wrong:
        slugs = tuple(dict.fromkeys(cell.difference for cell in wrong if cell.difference))
        return SurveyCell(name, scenario, State.MISMATCH, basis, slugs, level, open=opened)
    if broken:
        return SurveyCell(name, scenario, State.BREAKS, basis, (), level, _reasons(broken))
    if right:
        state = State.PREDICTED if basis == "predicted" else State.MEASURED
        return SurveyCell(name, scenario, state, basis, (), level, open=opened)
    if silent:
        return SurveyCell(name, scenario, State.UNKNOWN, basis, (), level, _reasons(silent))
    return SurveyCell(name, scenario, State.NOT_SUPPORTED, "", (), level, _reasons(cells))


def _refusal(cell: Cell) -> bool:
    return cell.verdict is Verdict.NOT_RUN and cell.reason.startswith(_REFUSED)


def _silent(cell: Cell) -> bool:
    """Neither judged nor refused; parts that the probed class does not have are no matter of this cell."""
    if cell.reason == IS_REFERENCE or _refusal(cell) or _absent(cell):
        return False
    return cell.verdict in (Verdict.UNKNOWN, Verdict.NOT_RUN)


def _absent(cell: Cell) -> bool:
    return cell.verdict is Verdict.NOT_RUN and " has no " in cell.reason and cell.reason.endswith(" attention")


def _opened(cells: Sequence[Cell]) -> str:
    texts = [f"{cell.part.value}: {cell.reason}" if cell.part else f"{cell.variant}: {cell.reason}" for cell in cells]
    return _short("; ".join(dict.fromkeys(texts)))


def _reasons(cells: Sequence[Cell]) -> str:
    return _short("; ".join(dict.fromkeys(cell.reason.removeprefix(_REFUSED) for cell in cells if cell.reason)))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def findings_of(conclusion: Conclusion) -> tuple[SurveyFinding, ...]:
    """The findings, without their pictures."""
    return tuple(
        SurveyFinding(
            slug=finding.slug,
            code=finding.code,
            severity=finding.severity.value,
            implementation=finding.implementation or "",
            scenario=finding.scenario,
            part=finding.part.value if finding.part else "",
            layers=finding.layers,
            variants=_variants(finding),
            basis=finding.basis.value if finding.basis else "",
            message=finding.message,
            declared=finding.evidence.declared,
            requested=finding.evidence.requested,
            effective=finding.evidence.effective,
        )
        for finding in conclusion.findings
    )


def _variants(finding: Finding) -> tuple[str, ...]:
    written = finding.evidence.figures.get("variants")
    names = str(written).split(", ") if written else [finding.variant]
    return tuple(sorted(name for name in names if name))


def declared_of(spec: ModelSpec) -> dict[str, tuple[str, ...]]:
    """Part -> fields that the oracle leaves unknown in some attention layer of it, sorted; parts that attend only."""
    found: dict[str, set[str]] = {}
    for layer in spec.layers:
        if layer.attends:
            found.setdefault(layer.part.value, set()).update(layer.unknown)
    order = [part.value for part in Part]
    return {part: tuple(sorted(found[part])) for part in sorted(found, key=order.index)}
