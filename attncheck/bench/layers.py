"""The layer level: one attention layer inside transformers under each implementation that `compare` finds right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from attncheck.bench import gate, memory
from attncheck.bench.grid import Attention, cases
from attncheck.bench.plan import LayerPlan
from attncheck.bench.session import Session
from attncheck.findings import Finding
from attncheck.frameworks.interface import Usable
from attncheck.probe.protocol import Job
from attncheck.semantics.convention import Outcome
from attncheck.semantics.timing import BenchCase, BenchCell

#: Seconds of a first call after which longer cases of an implementation are left out, unless it was asked for by name.
LONG_FIRST_CALL = 10.0


def measure(session: Session, layer: LayerPlan, verdicts: gate.LayerVerdicts) -> None:
    """Time the layers under every implementation that transformers would run here."""
    session.progress("waiting for what compare says of the layers")
    errors, failure = verdicts.result()
    if failure:
        session.missing["compare"] = f"layers are timed without knowing whether they are right: {failure}"
    for name in layer.implementations:
        found = list(cases(layer.grid, "layer", name))
        decision = layer.declared.decisions.get(name)
        if decision is not None and not isinstance(decision, Usable):
            session.total -= len(found) - 1
            reason = "; ".join(entry.text for entry in decision.reasons)
            session.add(BenchCell(found[0][0], Outcome.NOT_RUN, detail=reason))
            continue
        patient = name in session.options.impl
        slow: BenchCell | None = None
        exhausted = memory.Exhausted()
        for _, same in groupby(found, key=lambda entry: entry[0].kv_len):
            timed = []
            for case, attention in same:
                if (cell := _untimed(session, case, attention, errors.get(name, ()))) is not None:
                    session.add(cell)
                elif reason := (
                    memory.too_large(case, session.plan.device)
                    or exhausted.reason(case)
                    or _compiles_too_long(slow, patient)
                ):
                    session.add(BenchCell(case, Outcome.NOT_RUN, detail=reason))
                else:
                    timed.append((case, attention.layer or 0))
            for cell in _timed(session, layer, timed):
                exhausted.note(cell)
                session.add(cell)
                if (cell.first_call or 0.0) > LONG_FIRST_CALL:
                    slow = cell


def _compiles_too_long(slow: BenchCell | None, patient: bool) -> str:
    """Why nothing longer is tried: compiling takes the longer (on an H100 13 s at 4k, beyond a minute at 16k)."""
    if slow is None or patient:
        return ""
    name, length = slow.case.subject, slow.case.kv_len
    return f"the first call at {length} tokens took {slow.first_call:.0f} s; --impl {name} times longer ones, too"


def _timed(session: Session, layer: LayerPlan, timed: Sequence[tuple[BenchCase, int]]) -> Iterator[BenchCell]:
    """The cells of cases with the index of their real layer."""
    steps = {str(number): entry for number, entry in enumerate(timed)}
    said = {step: case for step, (case, _) in steps.items()}
    arguments = {
        "device": session.plan.device,
        "seed": session.options.seed,
        "config": dict(layer.declared.config),
        "trust_remote_code": session.options.trust_remote_code,
        "plugins": session.options.plugins,
        "cases": steps,
    }
    for done in session.steps(Job("bench-layer", tuple(steps), arguments), None, said, dynamo=True):
        yield session.cell(said[done.step], done.outcome)


def _untimed(session: Session, case: BenchCase, attention: Attention, errors: tuple[Finding, ...]) -> BenchCell | None:
    """The cell of a layer that is wrong, or whose kernel is; None for one that is timed."""
    finding = gate.of_layer(errors, attention.layer)
    kernel = session.wrong.get((case.subject, attention, case.backward), "")
    if finding is None and not kernel:
        return None
    if finding is not None:
        session.note(finding)
    slug = finding.slug if finding is not None else kernel
    why = finding.message if finding is not None else f"a kernel behind {case.subject} is wrong: {kernel}"
    session.excluded[case] = slug
    return None if session.options.include_wrong else BenchCell(case, Outcome.NOT_RUN, excluded=slug, detail=why)
