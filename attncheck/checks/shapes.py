"""Rules about the model's true sizes: kernels that refuse them, are left behind by them, or compute something else."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from attncheck.checks.interface import REFERENCE, Case, Inputs, RuleGroup
from attncheck.checks.registry import code_of
from attncheck.checks.shape_results import Fault, words, wrong
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Severity
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis, Reason
from attncheck.semantics.shape import EXPLICIT_MASK, REPEATED, ShapeReading
from attncheck.semantics.spec import Part

SHAPE_UNSUPPORTED = Rule(
    "ATC610",
    "shape-unsupported",
    "The kernel does not take the model's true sizes",
    "At the checkpoint's own head_dim, value width, head counts or window the kernel refuses the call, or every fused kernel does and the math kernel is left.",
    "A tiny model runs, the real one raises at its first long or full-size call; or it runs with memory and time that grow with the square of the length.",
    "Each kernel behind the implementation is called once at the model's true sizes, forward and backward, on the GPU; without a GPU the library's documented limits are compared with the sizes.",
    "Use what the report shows right at these sizes; where only the math kernel is left, a mask handed over as a tensor may open a fused one, because transformers then repeats grouped kv heads.",
    ("flash-attention#277", "flash-attention#579", "verl#7131", "TransformerEngine#2354"),
)

#: Written into `Finding.variant`: the scenario's own variants are those of the tiny model.
VARIANT = "real shape"
#: What is left of SDPA where every fused kernel refuses.
MATH = "sdpa-math"


def conclude(case: Case) -> Iterator[Finding]:
    """One finding for each slug, implementation and part; the worst reading leads."""
    inputs = case.inputs
    training = inputs.options.asked("gradients")
    faults = [*_refusals(inputs), *(fault for reading in inputs.shapes for fault in wrong(reading, training))]
    refusing = {fault.reading.implementation for fault in faults if "refuses" in fault.evidence.figures}
    together: dict[tuple[str, str, Part | None], list[Fault]] = {}
    for fault in faults:
        reading = fault.reading
        together.setdefault((fault.slug, reading.implementation, reading.part), []).append(fault)
    for same in together.values():
        yield _finding(same, inputs, refusing)


def _finding(faults: Sequence[Fault], inputs: Inputs, refusing: Collection[str]) -> Finding:
    lead = max(faults, key=lambda fault: (fault.severity.rank, fault.weight))
    reading = lead.reading
    alike = [fault.reading for fault in faults if fault.severity is lead.severity]
    kernels = tuple(dict.fromkeys(entry.api for entry in alike))
    figures: dict[str, float | int | str] = {
        **lead.evidence.figures,
        "kernels": ", ".join(kernels),
        "tokens": reading.kv_len,
    }
    measured = reading.basis is Basis.MEASURED
    return Finding(
        code=code_of(lead.slug),
        slug=lead.slug,
        severity=lead.severity,
        message=f"{lead.headline}, at the model's true sizes ({words(reading.shape)})",
        headline=lead.headline,
        basis=reading.basis,
        implementation=reading.implementation,
        kernel=reading.api if reading.api != reading.implementation else "",
        part=reading.part,
        layers=tuple(sorted({layer for entry in alike for layer in entry.layers})),
        variant=VARIANT,
        evidence=Evidence(
            declared=lead.evidence.declared,
            requested=lead.evidence.requested,
            effective=lead.evidence.effective,
            first_difference=lead.evidence.first_difference,
            leaked=lead.evidence.leaked,
            missed=lead.evidence.missed,
            heads=lead.evidence.heads,
            figures=figures,
        ),
        reproduction=f"attncheck compare {inputs.target} --impl {reading.implementation}"
        + (f" --device cuda --dtype {reading.shape.dtype}" if measured else ""),
        recommendations=_instead(lead, inputs, refusing) if lead.slug == SHAPE_UNSUPPORTED.slug else (),
    )


def _instead(lead: Fault, inputs: Inputs, refusing: Collection[str]) -> tuple[Recommendation, ...]:
    """An implementation that was seen right at these sizes, else one that nothing documented speaks against.

    Where only the math kernel is left to an implementation, a form of the call that a fused one was seen to take.
    """
    if lead.severity is Severity.NOTE:
        return ()
    if lead.reading.api == MATH and (beside := _beside_a_mask(lead.reading, inputs)) is not None:
        return (beside,)
    same = [entry for entry in inputs.shapes if entry.shape.head_dim == lead.reading.shape.head_dim]
    right = {entry.implementation for entry in same if leads(entry) and not any(wrong(entry, training=True))}
    names = [name for name in inputs.implementations if name not in refusing and name != lead.reading.implementation]
    if lead.reading.api == MATH:
        names = [name for name in names if name != REFERENCE]  # it holds every logit, too
    best = min(names, key=lambda name: (name not in right, name != inputs.default, name == REFERENCE), default=None)
    if best is None:
        return (Recommendation("nothing that was looked at here was found to take these sizes"),)
    seen = "measured right at these sizes" if best in right else "no documented limit of it excludes these sizes"
    return (Recommendation(f"use {best}: {seen}", inputs.settings(best).settings),)


def _beside_a_mask(reading: ShapeReading, inputs: Inputs) -> Recommendation | None:
    """What takes these sizes with the mask as a tensor, right in its backward pass, too."""
    found = [
        entry
        for entry in inputs.shapes
        if (entry.implementation, entry.part, entry.shape) == (reading.implementation, reading.part, reading.shape)
        and entry.variant == EXPLICIT_MASK
        and entry.api != MATH
        and entry.outcome is Outcome.READ
        and entry.backward is not Outcome.REFUSED
        and not any(wrong(entry, training=True))
    ]
    if not found:
        return None
    repeated = f", {REPEATED}" if any(REPEATED in entry.detail for entry in found) else ""
    names, tokens = " and ".join(entry.api for entry in found), max(entry.kv_len for entry in found)
    basis = "measured " if all(entry.basis is Basis.MEASURED for entry in found) else ""
    takes = "takes" if len(found) == 1 else "take"
    return Recommendation(
        f"hand over the mask as a tensor (4D attention_mask): {names} {takes} these sizes then, {basis}right at {tokens} "
        f"tokens{repeated}"
    )


def leads(reading: ShapeReading) -> bool:
    """True for what was read of a kernel that is taken for the call, or that nothing picks among."""
    return reading.outcome is Outcome.READ and reading.picked is not False


def concerns(inputs: Inputs, implementation: str) -> bool:
    """True for an implementation that the framework picks by itself, or that the user named."""
    return implementation == inputs.default or implementation in inputs.options.implementations


# Refusals and switches -----------------------------------------------------------------------------


def _refusals(inputs: Inputs) -> Iterator[Fault]:
    """Shapes that no kernel of an implementation takes, or of which only the math kernel is left, and crashes."""
    by_shape: dict[tuple[str, Part | None, str], list[ShapeReading]] = {}
    for reading in inputs.shapes:
        if reading.outcome is Outcome.CRASHED:
            yield _crash(reading, inputs)
        if reading.variant != EXPLICIT_MASK:  # a kernel without a mask argument is no news
            key = (reading.implementation, reading.part, reading.shape.key)
            by_shape.setdefault(key, []).append(reading)
    for same in by_shape.values():
        if all(reading.outcome is Outcome.NOT_RUN for reading in same):
            yield from _widened(same[0])
        elif same[0].implementation == "sdpa":
            yield from _dispatched(same, inputs)
        else:
            yield from (_refused(reading, inputs) for reading in same if reading.outcome is Outcome.REFUSED)
            yield from _widened(same[0])
            yield from (_no_backward(reading, inputs) for reading in same if _lacks_backward(reading))


def _crash(reading: ShapeReading, inputs: Inputs) -> Fault:
    certain = concerns(inputs, reading.implementation) and reading.picked is not False
    return Fault(
        "backend-unusable",
        reading,
        Severity.ERROR if certain and reading.implementation != "sdpa" else Severity.WARNING,
        f"{reading.api} broke: {reading.detail}",
        Evidence(declared="a result", effective=reading.detail),
    )


def _refused(reading: ShapeReading, inputs: Inputs) -> Fault:
    # Who did not ask for it and would not get it by itself only loses a choice; and what nobody ran is no certainty.
    certain = reading.basis is Basis.MEASURED and concerns(inputs, reading.implementation)
    why = _reasons(reading.reasons)
    told = "" if reading.basis is Basis.MEASURED else " by its documented limits (not measured)"
    return Fault(
        "shape-unsupported",
        reading,
        Severity.ERROR if certain else Severity.WARNING,
        f"{reading.api} does not take the model's attention{told}: {why}",
        Evidence(
            declared=words(reading.shape),
            requested=_limits(reading),
            effective=f"refused: {why}",
            figures={"refuses": "forward"},
        ),
        1.0,
    )


def _dispatched(same: Sequence[ShapeReading], inputs: Inputs) -> Iterator[Fault]:
    """sdpa: torch falls from one kernel to the next, so only what is left over counts."""
    read = [reading for reading in same if reading.outcome is Outcome.READ]
    refused = [reading for reading in same if reading.outcome is Outcome.REFUSED]
    if not refused:
        return
    if not read:
        yield _refused(refused[-1], inputs)
        return
    fused = [reading for reading in same if reading.api != MATH]
    if fused and all(reading.outcome is Outcome.REFUSED for reading in fused):
        why = "; ".join(f"{reading.api}: {_reasons(reading.reasons)}" for reading in fused)
        yield Fault(
            "shape-unsupported",
            read[0],
            Severity.WARNING,
            "Every fused kernel refuses the model's attention, so the math kernel runs: it holds every logit in memory",
            Evidence(declared=words(read[0].shape), effective=MATH, requested=why),
            0.5,
        )
    elif read and all(_lacks_backward(reading) for reading in read):
        yield _no_backward(read[0], inputs)


def _lacks_backward(reading: ShapeReading) -> bool:
    return reading.outcome is Outcome.READ and reading.backward is Outcome.REFUSED


def _no_backward(reading: ShapeReading, inputs: Inputs) -> Fault:
    wanted = concerns(inputs, reading.implementation) and inputs.options.asked("gradients")
    return Fault(
        "shape-unsupported",
        reading,
        Severity.ERROR if wanted else Severity.WARNING,
        f"{reading.api} has no backward pass for the model's attention: {reading.backward_detail}",
        Evidence(declared=words(reading.shape), effective=f"backward refused: {reading.backward_detail}"),
        0.4,
    )


def _widened(reading: ShapeReading) -> Iterator[Fault]:
    """Values that the framework widens because the library wants one head size."""
    if reading.declared_v is None or reading.outcome is Outcome.REFUSED or not reading.documented:
        return
    shape, declared = reading.shape, reading.declared_v
    yield Fault(
        "shape-unsupported",
        reading,
        Severity.NOTE,
        f"{reading.api} does not take head_dim {shape.head_dim} with values of {declared}: transformers pads the "
        f"values to {shape.head_dim_v} and cuts the output; a direct call is refused",
        Evidence(
            declared=f"head_dim {shape.head_dim}, values {declared}",
            requested=_limits(reading),
            effective=f"values padded to {shape.head_dim_v}",
        ),
    )


def _limits(reading: ShapeReading) -> str:
    return "; ".join(f"{reason.limit} ({reason.source})" for reason in reading.documented if reason.limit)


def _reasons(reasons: Sequence[Reason]) -> str:
    said = (f"{reason.text} ({reason.actual}; {reason.limit})" if reason.actual else reason.text for reason in reasons)
    return "; ".join(said) or "no reason given"


GROUP = RuleGroup("shapes", (SHAPE_UNSUPPORTED,), order=72, conclude=conclude)
