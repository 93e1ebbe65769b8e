"""Findings and verdicts about kernel calls that a framework makes itself, as its user wrote them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from attncheck.checks.interface import Case, Inputs, RuleGroup
from attncheck.checks.own_advice import advice, reproduction
from attncheck.checks.registry import code_of
from attncheck.checks.severity import SIZE_ONLY, binds
from attncheck.checks.shape_results import far, mask_slug, words, wrong
from attncheck.findings import Evidence, Finding, Severity
from attncheck.semantics import describe
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis, Reason
from attncheck.semantics.shape import WrongCells
from attncheck.semantics.spec import Alignment, MaskSpec, Part
from attncheck.semantics.written import PLAIN, CallReading, OwnCalls
from attncheck.verdicts import Cell, Implementation, Launched, Recommended, Status, Verdict

_TERMS = {
    "softcap-dropped": "The declared softcap is not asked for",
    "softcap-unexpected": "A softcap is asked for that nothing declares",
    "sinks-dropped": "The declared sinks are not asked for",
    "sinks-unexpected": "A sink is asked for that nothing declares",
    "scale-wrong": "softmax_scale is not the declared factor",
}


_MISALIGNED = "causal-misaligned"
_TOP_LEFT = "a diagonal that starts at the first key (top-left)"
_BOTTOM_RIGHT = "one that ends at the last key (bottom-right)"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one reading."""

    slug: str
    reading: CallReading
    severity: Severity
    headline: str
    evidence: Evidence


def conclude(case: Case) -> Iterator[Finding]:
    """One finding for each slug, part and scenario; the kernel that the framework selects leads."""
    own = case.inputs.own
    if own is None:
        return
    together: dict[tuple[str, Part, str], list[Fault]] = {}
    for reading in own.readings:
        if not reading.mended and (fault := _fault(reading, case.inputs)) is not None:
            together.setdefault((fault.slug, reading.part, reading.call.scenario), []).append(fault)
    yield from (_finding(same, own, case.inputs) for same in together.values())


# Faults ---------------------------------------------------------------------------------------------


def _fault(reading: CallReading, inputs: Inputs) -> Fault | None:
    """The first thing wrong: NaN, the mask, the softmax terms, then numbers and gradients."""
    seen, call = reading.reading, reading.call
    if seen.outcome is Outcome.CRASHED:
        evidence = Evidence(declared="a result", requested=call.words, effective=seen.detail)
        headline = f"{call.kernel} broke: {seen.detail}"
        return Fault("backend-unusable", reading, _severity("backend-unusable", reading, inputs), headline, evidence)
    if seen.outcome is not Outcome.READ:
        return None
    if "output" not in seen.nan and seen.wrong is not None:
        return _mask_fault(reading, seen.wrong, inputs)
    measured = next(wrong(seen, inputs.options.asked("gradients")), None)
    if measured is not None and measured.slug != "numeric-drift":
        level = _severity(measured.slug, reading, inputs)
        level = min(level, measured.severity, key=lambda severity: severity.rank)
        return Fault(measured.slug, reading, level, measured.headline, measured.evidence)
    # A term that is asked for otherwise shows in the numbers; where they were measured right, it does not matter.
    if call.terms and (measured is not None or seen.basis is not Basis.MEASURED):
        slug = call.terms[0]
        evidence = Evidence(
            declared=words(seen.shape),
            requested=call.words,
            effective=_TERMS[slug]
            if measured is None
            else f"{_TERMS[slug]}: the output is {measured.evidence.effective}",
        )
        return Fault(slug, reading, _severity(slug, reading, inputs), _TERMS[slug], evidence)
    if measured is not None:
        level = _severity(measured.slug, reading, inputs)
        return Fault(measured.slug, reading, level, measured.headline, measured.evidence)
    return None


def _mask_fault(reading: CallReading, cells: WrongCells, inputs: Inputs) -> Fault:
    seen, call = reading.reading, reading.call
    slug = _slug(reading, cells)
    declared = _BOTTOM_RIGHT if slug == _MISALIGNED else describe.mask(MaskSpec(seen.shape.window, seen.shape.chunk))
    effective = _effective(reading, cells, slug)
    evidence = Evidence(
        declared=declared,
        requested=call.words,
        effective=effective,
        first_difference=(0, *cells.first),
        leaked=cells.ahead + cells.behind,
        missed=cells.missed,
        heads=cells.heads,
        figures={"queries": seen.q_len, "tokens": seen.kv_len, **cells.looked_at},
    )
    headline = f"{call.words} gives {effective}, not {declared}"
    return Fault(slug, reading, _severity(slug, reading, inputs), headline, evidence)


def _slug(reading: CallReading, cells: WrongCells) -> str:
    """The name of what is wrong with the mask."""
    seen, call = reading.reading, reading.call
    if cells.nothing:
        return "kernel-output-wrong"
    if reading.aligned is Alignment.TOP_LEFT:
        return _MISALIGNED
    if seen.shape.window.right != 0 and not cells.ahead and call.means is not None and call.means.right == 0:
        return "causal-unexpected"
    slug = mask_slug(cells, seen.shape)
    smaller = slug == "keys-missing" and call.means is not None and seen.shape.window.left is not None
    # What mask_slug cannot know: that the call asks for a window, which ends where the missing keys begin.
    if smaller and cells.missed_distances is not None and call.means is not None and call.means.left is not None:
        return "window-size-wrong" if cells.missed_distances[0] == call.means.left + 1 else slug
    return slug


def _effective(reading: CallReading, cells: WrongCells, slug: str) -> str:
    """What was seen, in words: the window where the call has one and shows it."""
    call = reading.call
    if slug == "kernel-output-wrong":
        return "nothing but zeros: no key is seen"
    if slug == _MISALIGNED:
        return _TOP_LEFT
    parts = (
        (cells.ahead_distances, "later keys too,"),
        (cells.behind_distances, "older keys too,"),
        (cells.missed_distances, "no keys"),
    )
    if slug in (*SIZE_ONLY, "window-unexpected", "causal-ignored", "causal-unexpected") and call.means is not None:
        return describe.band(call.means.left, call.means.right)
    return "; ".join(f"{what} {far(distances)} away" for distances, what in parts if distances is not None)


def _severity(slug: str, reading: CallReading, inputs: Inputs) -> Severity:
    """error: the framework selects this kernel, in a call that every user makes, and sequences meet it.

    note: a variable switched the kernel off, or no sequence of the user's meets it. warning: all else.
    """
    if reading.call.switched_off and not reading.call.selected:
        return Severity.NOTE
    if slug in SIZE_ONLY and not _binds(slug, reading, inputs):
        return Severity.NOTE
    if reading.call.scenario == PLAIN or inputs.options.asked(reading.call.scenario):
        return Severity.ERROR if reading.call.selected else Severity.WARNING
    # A cache is fed by who generates; InferenceParams moves the diagonal by itself.
    return Severity.NOTE if inputs.options.use == "train" else Severity.WARNING


def _binds(slug: str, reading: CallReading, inputs: Inputs) -> bool:
    length = inputs.seq_len
    if length is None:
        return True
    narrower = 1 if slug == "window-off-by-one" and reading.reading.wrong and reading.reading.wrong.missed else 0
    specs = [spec for spec in inputs.real.of_part(reading.part) if spec.layer in reading.layers]
    return any(binds(spec, length, narrower) for spec in specs)


# Findings -------------------------------------------------------------------------------------------


def _finding(faults: Sequence[Fault], own: OwnCalls, inputs: Inputs) -> Finding:
    lead = max(faults, key=lambda fault: (fault.severity.rank, fault.reading.call.selected))
    alike = [fault for fault in faults if fault.severity is lead.severity]
    reading = lead.reading
    off = {fault.reading.call.kernel for fault in faults if fault.reading.call.switched_off}
    kernels = tuple(dict.fromkeys(fault.reading.call.kernel for fault in faults))
    chosen = next((fault.reading.call.kernel for fault in faults if fault.reading.call.selected), "")
    also = [kernel for kernel in kernels if kernel != chosen and kernel not in off]
    runs = f"{chosen}, which is selected" if chosen else f"{', '.join(also or kernels)}: not what is selected"
    if reading.call.switched_off and not chosen:
        runs = f"{', '.join(kernels)}: switched off here"
    who = f"{runs}; likewise {', '.join(also)}" if chosen and also else runs
    known = f": {reading.call.known}" if reading.call.known and reading.reading.basis is not Basis.MEASURED else ""
    headline = f"{lead.headline} ({who}){known}"
    never = (
        f"; never met by sequences of at most {inputs.seq_len} tokens"
        if lead.severity is Severity.NOTE and lead.slug in SIZE_ONLY
        else ""
    )
    return Finding(
        code=code_of(lead.slug),
        slug=lead.slug,
        severity=lead.severity,
        message=f"{own.named}: {headline}{never}",
        headline=headline + never,
        basis=reading.reading.basis,
        implementation=own.framework,
        kernel="" if chosen else reading.call.kernel,
        part=reading.part,
        layers=tuple(sorted({layer for fault in alike for layer in fault.reading.layers})),
        scenario=reading.call.scenario,
        evidence=replace(lead.evidence, figures={**lead.evidence.figures, **_which(kernels, off)}),
        reproduction=reproduction(own, inputs.target),
        recommendations=tuple(advice(lead.slug, reading, own)),
    )


def _which(kernels: Sequence[str], off: Collection[str]) -> dict[str, str]:
    """Figures: the kernels that can run here, and those that a variable switched off."""
    both = {
        "kernels": [name for name in kernels if name not in off],
        "switched_off": [name for name in kernels if name in off],
    }
    return {label: ", ".join(names) for label, names in both.items() if names}


# Verdicts -------------------------------------------------------------------------------------------


def cells(inputs: Inputs) -> list[Cell]:
    """One verdict for each kernel, call and group of layers; the selected kernel is the one without a name."""
    own = inputs.own
    if own is None:
        return []
    found = []
    for reading in own.readings:
        if reading.mended:
            continue
        seen, call = reading.reading, reading.call
        verdict, difference, reason = _verdict(reading, inputs)
        basis = None if verdict is Verdict.NOT_RUN else seen.basis
        kernel = "" if call.selected else call.kernel
        place = (own.framework, call.scenario, "", reading.part, reading.layers)
        found.append(Cell(*place, verdict, basis, kernel, difference, reason))
    return found


def _verdict(reading: CallReading, inputs: Inputs) -> tuple[Verdict, str | None, str]:
    seen = reading.reading
    if seen.outcome is Outcome.CRASHED:
        return Verdict.ERROR, None, seen.detail
    if seen.outcome is not Outcome.READ:
        said = "; ".join(reason.said for reason in seen.reasons) or seen.detail
        return Verdict.NOT_RUN, None, f"{reading.call.kernel} does not serve such a call: {said}"
    fault = _fault(reading, inputs)
    return (Verdict.OK, None, "") if fault is None else (Verdict.MISMATCH, fault.slug, "")


def implementations(inputs: Inputs, findings: Sequence[Finding]) -> tuple[Implementation, ...]:
    """The framework's own attention as one entry."""
    own = inputs.own
    if own is None:
        return ()
    mine = [reading for reading in own.readings if not reading.mended]
    read = [reading for reading in mine if reading.reading.outcome is Outcome.READ]
    wrong_here = any(f.implementation == own.framework and f.severity is Severity.ERROR for f in findings)
    reasons = tuple(
        dict.fromkeys(
            Reason(f"{reading.call.kernel}: {'; '.join(reason.said for reason in reading.reading.reasons)}")
            for reading in mine
            if reading.call.scenario == PLAIN and reading.reading.outcome is not Outcome.READ
        )
    )
    measured = any(reading.reading.basis is Basis.MEASURED for reading in read)
    launched = [Launched(one.call.kernel, one.reading.launched) for one in read if one.reading.launched]
    chosen = any(reading.call.selected and reading.call.scenario == PLAIN for reading in read)
    status = Status.MISMATCH if wrong_here else Status.OK if chosen else Status.NOT_RUN
    return (
        Implementation(
            name=own.framework,
            default=True,
            basis=None if not read else Basis.MEASURED if measured else read[0].reading.basis,
            status=status,
            reasons=reasons,
            kernels=tuple(dict.fromkeys(one.call.kernel for one in read if one.reading.basis is Basis.MEASURED)),
            launched=tuple(dict.fromkeys(launched)),
        ),
    )


def recommended(inputs: Inputs, findings: Sequence[Finding]) -> Recommended | None:
    """What to write, where something is wrong; the settings as they are, where nothing is."""
    own = inputs.own
    if own is None or not own.readings:
        return None
    bad = [f for f in findings if f.implementation == own.framework and f.severity is Severity.ERROR]
    if not bad:
        return None
    if sum(group.suggested is not None for group in own.groups) > 1:
        return Recommended(own.framework, "write for each layer what it declares", inputs.settings(own.framework))
    best = next((advice for finding in bad for advice in finding.recommendations if advice.settings), None)
    return None if best is None else Recommended(own.framework, best.text.rstrip("."), best)


GROUP = RuleGroup("own_calls", (), order=73, conclude=conclude)
