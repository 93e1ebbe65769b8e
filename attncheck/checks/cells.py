"""The matrix: one verdict for each implementation, scenario variant, kernel and group of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attncheck.checks import gradients
from attncheck.checks.interface import REFERENCE, Inputs, Issue, View
from attncheck.checks.views import fed, is_measure, real_layers, uncovered, unseen
from attncheck.semantics.hypotheses import reach
from attncheck.semantics.layer_masks import comparable
from attncheck.semantics.observation import (
    Basis,
    Crashed,
    Method,
    NotApplicable,
    NotRun,
    Observed,
    Rejected,
    ScenarioRun,
)
from attncheck.semantics.spec import AttentionSpec, Part, Window
from attncheck.verdicts import IS_REFERENCE, Cell, Verdict

_Place = tuple[Part, tuple[int, ...], str]

#: Worst first: what stands for layers of one group whose verdicts differ.
_ORDER = (Verdict.MISMATCH, Verdict.ERROR, Verdict.NOT_RUN, Verdict.UNKNOWN, Verdict.OK)


def cells(inputs: Inputs, seen: Sequence[View], issues: Mapping[int, Sequence[Issue]]) -> list[Cell]:
    """Every verdict, in the order of the runs. What could not be read is NOT_RUN or UNKNOWN with its reason, never OK."""
    of_run: dict[int, list[View]] = {}
    for view in seen:
        of_run.setdefault(id(view.run), []).append(view)
    missing: dict[Part, tuple[int, ...]] = {}
    for spec in uncovered(inputs):
        missing[spec.part] = (*missing.get(spec.part, ()), spec.layer)
    alone = "no layer of the tiny model stands for these"
    found: list[Cell] = []
    for run in inputs.runs:
        if isinstance(run.outcome, Observed):
            found += _observed(run, of_run.get(id(run), []), issues, inputs)
            found += [
                Cell(run.implementation, run.scenario, run.variant, part, layers, Verdict.NOT_RUN, None, reason=alone)
                for part, layers in missing.items()
                if fed(run, part)
            ]
        else:
            verdict, reason = _without_observation(run)
            basis = run.basis if verdict is Verdict.ERROR else None
            found.append(Cell(run.implementation, run.scenario, run.variant, None, (), verdict, basis, reason=reason))
    return found


def _observed(
    run: ScenarioRun, seen: Sequence[View], issues: Mapping[int, Sequence[Issue]], inputs: Inputs
) -> list[Cell]:
    together: dict[_Place, list[tuple[Verdict, str | None, str]]] = {}
    there: dict[_Place, list[View]] = {}
    for view in seen:
        place = (view.part, view.real or (view.layer,), view.kernel)
        together.setdefault(place, []).append(_judge(view, issues[id(view)]))
        there.setdefault(place, []).append(view)
    for spec in unseen(run, seen, inputs):
        base = next((s for s in inputs.tiny.layers if (s.part, s.layer) == (spec.part, spec.layer)), spec)
        real = tuple(entry.layer for entry in real_layers(inputs, base)) or (spec.layer,)
        reason = _why_unseen(spec, run, seen, inputs)
        together.setdefault((spec.part, real, ""), []).append((Verdict.NOT_RUN, None, reason))
    if not together:
        nothing = "no attention call could be read"
        return [Cell(run.implementation, run.scenario, run.variant, None, (), Verdict.NOT_RUN, None, reason=nothing)]
    found = []
    for (part, layers, kernel), verdicts in together.items():
        verdict, slug, reason = min(verdicts, key=lambda entry: _ORDER.index(entry[0]))
        basis: Basis | None = None if verdict is Verdict.NOT_RUN else run.basis
        far = _reach(there.get((part, layers, kernel), ()))
        found.append(
            Cell(run.implementation, run.scenario, run.variant, part, layers, verdict, basis, kernel, slug, reason, far)
        )
    return found


def _reach(seen: Sequence[View]) -> Window | None:
    """How far the queries see in layers that do not declare it; None where they do, or where it was not read exactly."""
    for view in seen:
        exact = all(call.method is Method.IDENTITY for call in view.calls)
        if view.spec.mask_known or "kind" in view.spec.unknown or view.broken or view.masks.behind or not exact:
            return None
    samples = [sample for view in seen for group in view.masks.groups.values() for sample in group]
    return reach(tuple(samples)) if samples else None


def _why_unseen(spec: AttentionSpec, run: ScenarioRun, seen: Sequence[View], inputs: Inputs) -> str:
    if run.encoder is None and run.decoder is not None and spec.part in (Part.ENCODER, Part.CROSS):
        return f"{inputs.model_class or 'the probed class'} has no {spec.part.value} attention"
    failures = run.outcome.failures if isinstance(run.outcome, Observed) else ()
    why = f": {failures[0]}" if failures else ""
    if all(view.part is not spec.part for view in seen):
        return f"no attention call of the {spec.part.value} could be read{why}"
    if inputs.live:
        return f"no attention call of these layers was read{why}"
    return f"{spec.part.value} layer {spec.layer} of the tiny model made no attention call that could be read{why}"


def _judge(view: View, issues: Sequence[Issue]) -> tuple[Verdict, str | None, str]:
    if issues:
        worst = max(issues, key=lambda issue: issue.weight)
        return Verdict.MISMATCH, worst.slug, ""
    if view.masks.unreadable:
        return Verdict.UNKNOWN, None, view.masks.unreadable
    if not any(rows for samples in view.masks.groups.values() for _, rows in samples):
        return Verdict.NOT_RUN, None, "no query of a real token was read"
    if unread := _unread(view):
        return Verdict.NOT_RUN, None, unread
    if not view.run.truth:
        return _beside_eager(view)
    if not view.spec.mask_known:
        fields = ", ".join(sorted(view.spec.unknown & {"direction", "window", "chunk", "kind"}))
        return Verdict.UNKNOWN, None, f"declared {fields}: unknown{_words_on_eager(view)}"
    if _terms_unread(view):
        return (
            Verdict.UNKNOWN,
            None,
            f"the mask is as declared; scale and other softmax terms could not be read{_why(view)}",
        )
    return Verdict.OK, None, ""


def _unread(view: View) -> str:
    """Why what was read is not enough to call the layer right; "" when it is."""
    steps = len(view.layout.steps)
    if missing := [str(step) for step in range(view.layout.before, steps) if step not in view.masks.steps]:
        return f"forward call {', '.join(missing)} of {steps} (from 0) could not be read{_why(view)}"
    if view.run.scenario == "gradients":
        if any(call.gradient is None for call in view.calls):
            return f"the backward of the call could not be read{_why(view)}"
        if any(gradients.lacks_terms(view, call) for call in view.calls):
            return "the backward cannot be judged: a term of the softmax is not known"
    return ""


def _terms_unread(view: View) -> bool:
    """True where the probe of other layers or kernels of the run gave the softmax terms, or said that it failed."""
    outcome = view.run.outcome
    if not isinstance(outcome, Observed) or any(call.softmax is not None for call in view.calls):
        return False
    inside = all(call.method is Method.IDENTITY for call in view.calls)
    tried = any(call.softmax is not None for call in outcome.calls) or any(
        text.startswith("softmax terms") for text in outcome.failures
    )
    return inside and tried


def _why(view: View) -> str:
    failures = view.run.outcome.failures if isinstance(view.run.outcome, Observed) else ()
    return f": {failures[0]}" if failures else ""


def _beside_eager(view: View) -> tuple[Verdict, str | None, str]:
    """The verdict where nothing declares what should happen: right is what eager does too."""
    if view.reference is None:
        beside = view.run.implementation == REFERENCE
        what = IS_REFERENCE if beside else "nothing declares what should happen here, and eager was not probed"
        return Verdict.UNKNOWN, None, what
    if not view.spec.mask_known or not comparable(view.reference.masks, view.masks):
        return Verdict.UNKNOWN, None, "nothing declares what should happen here, and eager cannot be compared"
    return Verdict.OK, None, ""


def _words_on_eager(view: View) -> str:
    if view.reference is None:
        return ""
    if not comparable(view.reference.masks, view.masks):
        return "; eager cannot be compared"
    return "; the same as eager" if is_measure(view.reference) else "; eager is no measure here"


def _without_observation(run: ScenarioRun) -> tuple[Verdict, str]:
    outcome = run.outcome
    if isinstance(outcome, Rejected):
        return Verdict.NOT_RUN, "refused: " + "; ".join(reason.text for reason in outcome.reasons)
    if isinstance(outcome, Crashed):
        return Verdict.ERROR, outcome.reason
    if isinstance(outcome, NotApplicable):
        return Verdict.NOT_APPLICABLE, outcome.reason
    assert isinstance(outcome, NotRun)
    return Verdict.NOT_RUN, outcome.reason
