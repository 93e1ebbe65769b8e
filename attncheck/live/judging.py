"""From what was measured inside a live model to a report: the checks of `compare`, told for the user's own model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attncheck import __version__, checks
from attncheck.checks.registry import code_of
from attncheck.environment import read_environment
from attncheck.findings import Evidence, Finding, Recommendation, Severity
from attncheck.frameworks import transformers as framework
from attncheck.frameworks.plugin import Resolution
from attncheck.live import patched
from attncheck.live.settings import YOURS, Measured, Settings
from attncheck.live.snippet import snippet
from attncheck.report import Report
from attncheck.semantics.observation import Basis, Method, Observed
from attncheck.semantics.spec import FULL, MaskSpec, ModelSpec, Note, Part, Window
from attncheck.verdicts import Cell, LayerGroup, Model

if TYPE_CHECKING:
    from attncheck.probe.inside.facts import LiveFacts

#: Tokens up to which masks go into the report cell by cell.
LARGEST_PICTURE = 512


def report(
    facts: LiveFacts,
    measured: Sequence[Measured],
    settings: Settings,
    *,
    title: str,
    detail: str,
    training: bool,
    own: Resolution | None = None,
    remarks: Sequence[str] = (),
) -> Report:
    """The report. title: name of the model. detail: how it is loaded, in words. training: it is in train mode.

    own: what a framework that patched the model is known to do. remarks: what the reader must know of how it was
    looked at.
    """
    environment = read_environment()
    runs = [run for one in measured for run in one.runs]
    dtype = _dtype(measured, facts)
    spec = _as_switched(facts)
    use = settings.use or ("train" if training else "generate")
    packed = settings.packing if settings.packing is not None else False
    notes = (*spec.notes, *(Note("how-read", text) for text in remarks), *_notes(measured, facts, training))
    spec = replace(spec, notes=notes)
    inputs = checks.Inputs(
        target=title,
        real=spec,
        tiny=spec,
        declare=lambda _: spec,
        runs=runs,
        implementations=tuple(dict.fromkeys(run.implementation for run in runs)),
        settings=lambda name: framework.settings(name, kind=facts.subject.info.kind),
        framework=own,
        options=checks.Options(settings.seq_len, use, packed, frozenset({YOURS}), dtype),
        versions={name: environment.version(name) for name in ("transformers", "torch")},
        live=True,
    )
    conclusion = checks.evaluate(inputs)
    findings = [finding for finding in conclusion.findings if not _beside_the_point(finding, training)]
    findings += _not_honoured(facts, findings)
    findings = patched.told(findings, own)
    order = dict.fromkeys(run.scenario for run in runs)
    return Report(
        command="verify",
        version=__version__,
        environment=environment,
        arguments=_arguments(measured, facts, settings, dtype, training),
        model=Model(
            id=title,
            source="live",
            source_detail=detail,
            model_type=spec.model_type,
            num_layers=facts.subject.info.num_layers or None,
            groups=_groups(spec),
            notes=notes,
            sources=spec.sources,
        ),
        implementations=conclusion.implementations,
        core_scenarios=tuple(dict.fromkeys(run.scenario for run in runs if run.core)),
        scenarios=tuple(order),
        matrix=tuple(_merged(conclusion.cells)),
        findings=tuple(_told(finding, facts, settings) for finding in findings),
        framework=patched.framework_section(own),
        fail_on=settings.fail_on,
    )


def _beside_the_point(finding: Finding, training: bool) -> bool:
    """Dropout that is meant, and what is said of several implementations: here only one runs."""
    several = finding.slug == "config-not-honoured" and finding.implementation is None
    return several or (training and finding.slug == "dropout-active")


def _groups(spec: ModelSpec) -> tuple[LayerGroup, ...]:
    return checks.layer_groups(spec, spec)


def _dtype(measured: Sequence[Measured], facts: LiveFacts) -> str:
    """The number format to judge by: the coarsest that an attention call used."""
    found = {name for one in measured for name in one.dtypes} or {str(facts.dtype).removeprefix("torch.")}
    return next((name for name in ("bfloat16", "float16", "float32", "float64") if name in found), sorted(found)[0])


def _as_switched(facts: LiveFacts) -> ModelSpec:
    """What is declared, with the direction of modules whose own `is_causal` somebody changed."""
    changed = {(part, layer): value for part, layer, value in facts.switched.values()}
    if not changed:
        return facts.spec
    layers = []
    for spec in facts.spec.layers:
        value = changed.get((spec.part, spec.layer))
        if value is not None and spec.attends:
            window = spec.mask.window
            right = 0 if value else window.left
            mask = replace(spec.mask, window=Window(window.left, right) if window.left is not None else _side(value))
            spec = replace(spec, mask=mask, unknown=spec.unknown - {"direction"})
        layers.append(spec)
    return replace(facts.spec, layers=tuple(layers))


def _side(causal: bool) -> Window:
    return MaskSpec().window if causal else FULL


def _not_honoured(facts: LiveFacts, findings: Sequence[Finding]) -> list[Finding]:
    """A switch on the modules that what runs does not follow, or not everywhere."""
    changed = {(part, layer) for part, layer, _ in facts.switched.values()}
    wrong = [
        finding
        for finding in findings
        if finding.slug in ("causal-unexpected", "causal-ignored")
        and any((finding.part, layer) in changed for layer in finding.layers)
    ]
    if not wrong:
        return []
    value = next(iter(facts.switched.values()))[2]
    where = ", ".join(dict.fromkeys(f"{f.scenario} ({f.variant})" if f.variant else f.scenario for f in wrong))
    first = wrong[0]
    layers = tuple(sorted(layer for part, layer in changed if part is first.part))
    message = (
        f"is_causal={value} was set on {len(facts.switched)} attention modules and is not honoured in {where}: "
        f"{first.message}"
    )
    return [
        Finding(
            code=code_of("config-not-honoured"),
            slug="config-not-honoured",
            severity=Severity.ERROR,
            message=message,
            headline=f"is_causal={value} set on the modules is not honoured in {where}",
            basis=Basis.MEASURED,
            implementation=first.implementation,
            part=first.part,
            layers=layers,
            scenario=first.scenario,
            variant=first.variant,
            evidence=Evidence(
                declared=f"{next(iter(facts.switched))}.is_causal = {value}", effective=first.evidence.effective
            ),
            recommendations=(
                Recommendation(
                    "Whether the attribute counts depends on the implementation and on whether a mask is made; pass a "
                    "4D attention_mask that says what you want instead."
                ),
            ),
        )
    ]


def _told(finding: Finding, facts: LiveFacts, settings: Settings) -> Finding:
    """The finding for the user's own model: a snippet on `model` and `batch`, masks only where they can be shown."""
    evidence = finding.evidence
    shown = evidence.declared_mask
    text = finding.reproduction and snippet(finding, facts.subject.info.num_layers)
    if shown is not None and max(shown.q_len, shown.kv_len) > LARGEST_PICTURE:
        evidence = replace(evidence, declared_mask=None, effective_mask=None, requested_mask=None)
    return replace(finding, evidence=evidence, reproduction=text)


def _merged(cells: Sequence[Cell]) -> list[Cell]:
    """Layers with the same verdict for the same reason in one cell."""
    together: dict[Cell, list[int]] = {}
    for cell in cells:
        together.setdefault(replace(cell, layers=()), []).extend(cell.layers)
    return [replace(cell, layers=tuple(sorted(layers))) for cell, layers in together.items()]


def _notes(measured: Sequence[Measured], facts: LiveFacts, training: bool) -> list[Note]:
    """What was not looked at, and how what was looked at was read."""
    found = [Note("not-judged", remark) for one in measured for remark in one.remarks]
    longest = max(
        (layout.length for one in measured for run in one.runs if isinstance(run.outcome, Observed)
         for layout in (run.decoder, run.encoder) if layout is not None),
        default=0,
    )  # fmt: skip
    from attncheck.live.measuring import reaches

    unmet = sorted({size for size in reaches(facts) if size >= longest})
    if unmet and longest:
        sizes = ", ".join(map(str, unmet))
        text = f"a window or chunk of {sizes} tokens was not met by the {longest} tokens looked at: pass a longer batch"
        found.append(Note("window-not-met", f"{text} to see whether it is applied"))
    dropout = max((one.dropout for one in measured), default=0.0)
    if training and dropout:
        found.append(
            Note("dropout", f"attention dropout {dropout:g} is active in train mode; masks were read without it")
        )
    return found


def _arguments(
    measured: Sequence[Measured], facts: LiveFacts, settings: Settings, dtype: str, training: bool
) -> dict[str, str]:
    words = "; ".join(one.words for one in measured if one.words) or "small batches of our own"
    read = {place: method for one in measured for place, method in one.read.items()}
    alike = {place for one in measured for place in one.alike if place not in read}
    need, singly, keys = (max(one.need for one in measured), *_sums(measured)) if measured else (0, 0, 0)
    said = {
        "batch": words,
        "mode": "train" if training else "eval",
        "dtype": dtype,
        "device": str(facts.device),
        "layers read": _layers(read) + (f" ({len(alike)} others make the same calls)" if alike else ""),
        "read by": ", ".join(_METHODS[method] for method in dict.fromkeys(read.values())),
        "extra memory": f"up to {need / 2**20:.1f} MiB beside one forward pass without gradients "
        f"(limit {settings.memory / 2**20:.0f} MiB)",
        "keys": "" if singly == keys else f"{singly} of {keys} read one by one, the others in groups",
    }
    return {name: text for name, text in said.items() if text}


_METHODS = {
    Method.IDENTITY: "identity values in the live attention calls",
    Method.PERTURBATION: "replacing single tokens of one attention module's input",
    Method.JACOBIAN: "derivatives",
}


def _sums(measured: Sequence[Measured]) -> tuple[int, int]:
    return sum(one.singly for one in measured), sum(one.keys for one in measured)


def _layers(read: dict[tuple[Part, int], Any]) -> str:
    parts = dict.fromkeys(part for part, _ in read)
    words = []
    for part in parts:
        numbers = ", ".join(str(layer) for of, layer in sorted(read, key=lambda place: place[1]) if of is part)
        words.append(f"{part.value} {numbers}" if len(parts) > 1 else numbers)
    return "; ".join(words)
