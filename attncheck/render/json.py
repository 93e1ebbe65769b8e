"""The report as one JSON object (schema 1): domain types in, the wire types of `wire.py` out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from attncheck.environment import Environment
from attncheck.findings import Evidence, Finding, Recommendation, Setting, Severity
from attncheck.render import (
    json_bench,
    json_doctor,
    json_framework,
    json_shapes,
    json_sub_models,
    json_watch,
    wire,
    wire_baseline,
    wire_speeds,
)
from attncheck.render.interface import Renderer, Style
from attncheck.render.json_doctor import figures, finite
from attncheck.report import Report
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import Reason
from attncheck.semantics.spec import AttentionSpec, Bias
from attncheck.verdicts import Cell, Implementation, LayerGroup, Model, Recommended


def render(report: Report, style: Style) -> str:
    """One JSON object, strict (no NaN), UTF-8 characters only where the output can hold them."""
    return json.dumps(to_wire(report), indent=1, allow_nan=False, ensure_ascii=not style.unicode) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of schema 1, as shipped in the package."""
    text = resources.files("attncheck.render").joinpath("report.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def to_wire(report: Report) -> wire.ReportEntry:
    """The whole report; parts that the command does not produce are left out."""
    entry: wire.ReportEntry = {
        "schema": wire.SCHEMA,
        "tool": {"name": "attncheck", "version": report.version},
        "command": report.command,
        "environment": _environment(report.environment),
        "findings": [_finding(finding) for finding in report.findings],
        "summary": {
            "errors": report.count(Severity.ERROR),
            "warnings": report.count(Severity.WARNING),
            "notes": report.count(Severity.NOTE),
            "exit_code": report.exit_code,
        },
    }
    if report.arguments:
        entry["arguments"] = dict(report.arguments)
    if report.model is not None:
        entry["model"] = _model(report.model)
        entry["scenarios"] = {
            "core": list(report.core_scenarios),
            "opt_in": [name for name in report.scenarios if name not in report.core_scenarios],
        }
        entry["matrix"] = [_cell(cell) for cell in report.matrix]
        entry["recommended"] = None if report.recommended is None else _recommended(report.recommended)
    if report.speeds is not None:
        entry["speeds"] = wire_speeds.entry(report.speeds)
    if report.implementations or report.model is not None:
        entry["implementations"] = [_implementation(implementation) for implementation in report.implementations]
    if report.conventions:
        entry["conventions"] = [json_doctor.convention(convention) for convention in report.conventions]
    if report.abilities:
        entry["abilities"] = [json_doctor.ability(ability) for ability in report.abilities]
    if report.inventory is not None:
        entry["inventory"] = json_doctor.inventory(report.inventory)
    if report.torch is not None:
        entry["torch"] = json_doctor.torch(report.torch)
    if report.incident is not None:
        entry["incident"] = json_doctor.incident(report.incident)
    if report.shapes:
        entry["shapes"] = [json_shapes.reading(reading) for reading in report.shapes]
    if report.bench is not None:
        entry["bench"] = json_bench.bench(report.bench)
    if report.changes is not None:
        entry["bench_changes"] = json_bench.changes(report.changes)
    if report.framework is not None:
        entry["framework"] = json_framework.framework(report.framework)
    if report.sub_models:
        entry["sub_models"] = [json_sub_models.run(one) for one in report.sub_models]
    if report.without is not None:
        entry["without"] = json_sub_models.without(report.without)
    if report.watch is not None:
        entry["watch"] = json_watch.watch(report.watch)
    if report.baseline is not None:
        entry["baseline"] = wire_baseline.entry(report.baseline)
    if report.missing:
        entry["missing"] = dict(report.missing)
    if report.checks:
        entry["checks"] = [{"code": c.code, "status": c.status, "reason": c.reason} for c in report.checks]
    return entry


def _environment(environment: Environment) -> wire.EnvironmentEntry:
    return {
        "python": environment.python,
        "platform": environment.platform,
        "driver": environment.driver,
        "gpu_note": environment.gpu_note,
        "torch_cuda": environment.torch_cuda,
        "torch_hip": environment.torch_hip,
        "gpus": [
            {
                "index": gpu.index,
                "name": gpu.name,
                "capability": f"{gpu.capability[0]}.{gpu.capability[1]}",
                "memory_bytes": gpu.memory,
                "driver": gpu.driver,
            }
            for gpu in environment.gpus
        ],
        "libraries": [{"name": lib.name, "version": lib.version, "note": lib.note} for lib in environment.libraries],
        "variables": dict(environment.variables),
        "inert": dict(environment.inert),
        "sources": dict(environment.sources),
    }


def _model(model: Model) -> wire.ModelEntry:
    return {
        "id": model.id,
        "source": model.source,
        "source_detail": model.source_detail,
        "model_type": model.model_type,
        "num_layers": model.num_layers,
        "groups": [_group(group) for group in model.groups],
        "notes": [{"code": note.code, "text": note.text, "key": note.key} for note in model.notes],
        "sources": dict(model.sources),
        "file": model.file,
        "lines": dict(model.lines),
    }


def _group(group: LayerGroup) -> wire.Group:
    return {
        "part": group.part.value,
        "layers": list(group.layers),
        "declared": _declared(group.spec),
        "probed": None if group.probed is None else _declared(group.probed),
    }


def _declared(spec: AttentionSpec) -> wire.Declared:
    window, softmax, unknown = spec.mask.window, spec.softmax, spec.unknown

    def known(field: str, value: Any) -> Any:
        return None if field in unknown else value

    return {
        "kind": spec.kind,
        "attends": spec.attends,
        "direction": known("direction", "causal" if window.causal else "bidirectional"),
        "window": known("window", [window.left, window.right]),
        "alignment": spec.mask.alignment.value,
        "chunk": known("chunk", spec.mask.chunk),
        "scale": known("scale", finite(softmax.scale)),
        "softcap": known("softcap", finite(softmax.softcap)),
        "sinks": known("sinks", softmax.sinks),
        "alibi": known("bias", softmax.bias is Bias.ALIBI),
        "bias": known("bias", softmax.bias.value),
        "num_heads": spec.num_heads,
        "num_kv_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "head_dim_v": spec.head_dim_v,
        "head_map": known("head_map", spec.head_map.value),
        "unknown": sorted(unknown),
    }


def _implementation(entry: Implementation) -> wire.ImplementationEntry:
    wired: wire.ImplementationEntry = {
        "name": entry.name,
        "default": entry.default,
        "basis": None if entry.basis is None else entry.basis.value,
        "status": entry.status.value,
        "reasons": [_reason(reason) for reason in entry.reasons],
        "kernels": list(entry.kernels),
    }
    if entry.launched:
        wired["launched"] = [{"kernel": seen.kernel, "name": seen.name} for seen in entry.launched]
    if entry.refusals:
        wired["refusals"] = [
            {"kernel": refusal.kernel, "reason": refusal.reason, "scenarios": list(refusal.scenarios)}
            for refusal in entry.refusals
        ]
    return wired


def _reason(reason: Reason) -> wire.ReasonEntry:
    return {"text": reason.text, "limit": reason.limit, "actual": reason.actual, "source": reason.source}


def _cell(cell: Cell) -> wire.CellEntry:
    wired: wire.CellEntry = {
        "implementation": cell.implementation,
        "kernel": cell.kernel,
        "scenario": cell.scenario,
        "variant": cell.variant,
        "part": None if cell.part is None else cell.part.value,
        "layers": list(cell.layers),
        "verdict": cell.verdict.value,
        "basis": None if cell.basis is None else cell.basis.value,
        "difference": cell.difference,
        "reason": cell.reason,
    }
    if cell.reach is not None:
        wired["reach"] = [cell.reach.left, cell.reach.right]
    return wired


def _finding(finding: Finding) -> wire.FindingEntry:
    return {
        "code": finding.code,
        "slug": finding.slug,
        "severity": finding.severity.value,
        "message": finding.message,
        "headline": finding.headline or finding.message,
        "implementation": finding.implementation,
        "kernel": finding.kernel,
        "part": None if finding.part is None else finding.part.value,
        "layers": list(finding.layers),
        "scenario": finding.scenario,
        "variant": finding.variant,
        "basis": None if finding.basis is None else finding.basis.value,
        "evidence": _evidence(finding.evidence),
        "reproduction": finding.reproduction,
        "recommendations": [_recommendation(advice) for advice in finding.recommendations],
        "fingerprint": finding.fingerprint,
        "known": finding.known,
    }


def _evidence(evidence: Evidence) -> wire.EvidenceEntry:
    first = evidence.first_difference
    return {
        "declared": evidence.declared,
        "requested": evidence.requested,
        "effective": evidence.effective,
        "first_difference": None if first is None else {"row": first[0], "query": first[1], "key": first[2]},
        "leaked": evidence.leaked,
        "missed": evidence.missed,
        "heads": list(evidence.heads),
        "figures": figures(evidence.figures),
        "masks": _masks(evidence),
    }


def _masks(evidence: Evidence) -> wire.Masks | None:
    declared, effective, requested = evidence.declared_mask, evidence.effective_mask, evidence.requested_mask
    if declared is None or effective is None:
        return None
    masks: wire.Masks = {"declared": _rows(declared), "effective": _rows(effective)}
    if requested is not None:
        masks["requested"] = _rows(requested)
    return masks


def _rows(mask: KeepMask) -> list[str]:
    return ["".join("1" if row >> key & 1 else "0" for key in range(mask.kv_len)) for row in mask.rows]


def _recommendation(advice: Recommendation) -> wire.RecommendationEntry:
    return {"text": advice.text, "settings": _settings(advice.settings), "paste": _paste(advice.settings)}


def _recommended(recommended: Recommended) -> wire.RecommendedEntry:
    return {
        "implementation": recommended.implementation,
        "why": recommended.why,
        "text": recommended.recommendation.text,
        "settings": _settings(recommended.recommendation.settings),
        "paste": _paste(recommended.recommendation.settings),
    }


def _settings(settings: Sequence[Setting]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for setting in settings:
        found.setdefault(setting.framework, {}).setdefault(setting.key, setting.value)
    return found


def _paste(settings: Sequence[Setting]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for setting in settings:
        found.setdefault(setting.framework, []).append(setting.paste)
    return found


RENDERER = Renderer("json", "one JSON object, schema 1", render)
