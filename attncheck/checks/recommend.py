"""What to use instead: ranks implementations by what was seen, and gives each finding its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attncheck.checks import timed
from attncheck.checks.interface import Inputs
from attncheck.checks.registry import rule
from attncheck.checks.shape_results import wrong as wrong_sizes
from attncheck.checks.shapes import VARIANT, leads
from attncheck.findings import Finding, Recommendation, Severity
from attncheck.semantics.observation import Basis, Observed, ScenarioRun
from attncheck.semantics.shape import EXPLICIT_MASK
from attncheck.semantics.speeds import Speeds
from attncheck.verdicts import IS_REFERENCE, Cell, Implementation, Recommended, Status, Verdict

#: Between implementations that are equally right: the one that needs the least memory and time on common hardware.
_PREFERENCE = ("flash_attention_4", "flash_attention_3", "flash_attention_2", "sdpa", "flex_attention", "eager")
#: Verdicts that say something about a scenario.
_JUDGED = (Verdict.OK, Verdict.MISMATCH, Verdict.NOT_APPLICABLE)
#: What a wrong backward is called.
_BACKWARD = "gradient-mismatch"
#: Variants of packing that pass an all-ones mask beside the position_ids.
_WITH_MASK = {"ones-mask"}
#: Scenarios of training besides those that were asked for; generation needs every core scenario.
_TRAINING = ("plain", "left-pad", "right-pad", "gradients")


@dataclass(frozen=True, slots=True)
class Rank:
    """How an implementation does for the user's purpose. right: no error, and all of every needed scenario was seen right.

    wrong: some error. backward_wrong: at the model's true sizes, where that is no error because nobody trains.
    """

    name: str
    right: bool
    missing: tuple[str, ...]
    basis: Basis
    default: bool
    wrong: bool = False
    backward_wrong: bool = False


def ranked(
    inputs: Inputs, findings: Sequence[Finding], statuses: Sequence[Implementation], matrix: Sequence[Cell]
) -> tuple[Rank, ...]:
    """The usable implementations, best first: right in all scenarios of the use, measured, the framework's own choice.

    With a stored bench, the fastest of those that are equally right comes before the framework's own choice. One that
    was run but never judged (nothing is known of what the config declares) is none of them.
    """
    needed = _needed(inputs)
    refusing = {f.implementation for f in findings if f.slug == "shape-unsupported" and "refuses" in f.evidence.figures}
    ranks = []
    for entry in statuses:
        if entry.status not in (Status.OK, Status.MISMATCH) or entry.basis is None or entry.name in inputs.refused:
            continue
        if entry.name in refusing:  # the tiny model's sizes are not the checkpoint's
            continue
        if inputs.framework is not None and entry.name not in (*inputs.framework.offers, inputs.framework.runs):
            continue  # it cannot be told to use it
        wrong = any(f.implementation == entry.name and f.severity is Severity.ERROR for f in findings)
        cells = [cell for cell in matrix if cell.implementation == entry.name and cell.verdict in _JUDGED]
        if all(cell.verdict is Verdict.NOT_APPLICABLE for cell in cells):
            continue
        seen = {cell.scenario for cell in cells}
        missing = tuple(name for name in needed if name not in seen)
        partly = any(_silent(cell) and cell.implementation == entry.name and cell.scenario in needed for cell in matrix)
        right = not (wrong or missing or partly)
        backward = _backward_wrong(inputs, entry.name)
        ranks.append(Rank(entry.name, right, missing, entry.basis, entry.default, wrong, backward))
    calls = timed.deciding(inputs, [rank.name for rank in ranks if not rank.wrong])
    # Beforehand: a list is empty while it is sorted.
    equals = {rank: [calls.get(other.name) for other in ranks if _equally(other, rank)] for rank in ranks}
    ranks.sort(
        key=lambda rank: (
            rank.wrong,
            rank.basis is not Basis.MEASURED,
            len(rank.missing),
            bool(calls) and not rank.right,
            timed.place(calls.get(rank.name), equals[rank]),
            rank.backward_wrong,
            not rank.default,
            _PREFERENCE.index(rank.name) if rank.name in _PREFERENCE else len(_PREFERENCE),
        )
    )
    return tuple(ranks)


def _backward_wrong(inputs: Inputs, name: str) -> bool:
    """True when a kernel that the implementation takes by itself, without a mask, has wrong gradients at true sizes."""
    taken = (
        reading
        for reading in inputs.shapes
        if reading.implementation == name and leads(reading) and reading.variant != EXPLICIT_MASK
    )
    return any(fault.slug == _BACKWARD for reading in taken for fault in wrong_sizes(reading, training=True))


def _equally(one: Rank, other: Rank) -> bool:
    """True when nothing but speed and habit decides between them."""
    return all(getattr(one, name) == getattr(other, name) for name in ("wrong", "right", "basis", "missing"))


def speeds(
    inputs: Inputs, findings: Sequence[Finding], statuses: Sequence[Implementation], ranking: Sequence[Rank]
) -> Speeds | None:
    """What a stored bench says of the implementations, with what is to be held of each; None without a bench."""
    standings = {entry.name: (False, _unusable(entry)) for entry in statuses}
    for rank in ranking:
        wrong = ", ".join(_scenarios_with(Severity.ERROR, rank.name, findings))
        said = f"wrong{f' in {wrong}' if wrong else ''}" if rank.wrong else standing(rank)
        standings[rank.name] = (not rank.wrong, said)
    return timed.table(inputs, timed.deciding(inputs, [rank.name for rank in ranking if not rank.wrong]), standings)


def standing(rank: Rank) -> str:
    """What was seen of one without an error: `measured right`, `predicted right only`."""
    if not rank.right:
        return f"no error in what was {rank.basis.value}"
    return f"{rank.basis.value} right" + ("" if rank.basis is Basis.MEASURED else " only")


def _unusable(entry: Implementation) -> str:
    """Why one is not ranked."""
    return entry.reasons[0].text if entry.reasons else f"not to be used here ({entry.status.value.replace('_', ' ')})"


def recommended(
    inputs: Inputs, findings: Sequence[Finding], ranking: Sequence[Rank], measured: Speeds | None = None
) -> Recommended | None:
    """The implementation to use and why. measured: of `speeds`.

    When each has an error somewhere, the first one without an error in a core scenario or at the model's true sizes;
    None when there is none either.
    """
    core = {*(run.scenario for run in inputs.runs if run.core), VARIANT}
    wrong = {name: _scenarios_with(Severity.ERROR, name, findings) for name in (rank.name for rank in ranking)}
    for finding in findings:
        if finding.severity is Severity.ERROR and finding.variant == VARIANT and finding.implementation in wrong:
            wrong[finding.implementation].append(VARIANT)
    best = next((rank for rank in ranking if not wrong[rank.name]), None)
    if best is None:
        bearable = [rank for rank in ranking if not core & set(wrong[rank.name])]
        best = min(bearable, key=lambda rank: (rank.basis is not Basis.MEASURED, len(wrong[rank.name])), default=None)
    if best is None:
        return None
    use = "training" if inputs.options.use == "train" else "generation"
    if wrong[best.name]:
        words = [
            f"wrong in the fewest scenarios, but wrong in {', '.join(wrong[best.name])}: follow the findings' advice there"
        ]
    elif best.right:
        where = (
            "the scenarios asked for"
            if inputs.options.scenarios and inputs.framework is None
            else f"all scenarios of {use}"
        )
        words = [f"{best.basis.value} right in {where}"]
    else:
        words = [f"no error in what was {best.basis.value}"]
    words += timed.reasons(best.name, measured, inputs.bench, inputs.default)
    if best.missing:
        words.append(f"not seen in {', '.join(best.missing)}")
    if best.default:
        words.append("what the framework picks by itself")
    if traps := _scenarios_with(Severity.WARNING, best.name, findings):
        words.append(f"mind {', '.join(traps)} if you use that")
    if best.backward_wrong:
        words.append("not for training: its gradients are wrong at the model's true sizes")
    return Recommended(best.name, "; ".join(words), inputs.settings(best.name))


def _silent(cell: Cell) -> bool:
    """True for a cell without a verdict where one is wanted."""
    return cell.verdict in (Verdict.UNKNOWN, Verdict.NOT_RUN) and cell.reason != IS_REFERENCE


def _scenarios_with(severity: Severity, name: str, findings: Sequence[Finding]) -> list[str]:
    found = (f.scenario for f in findings if f.implementation == name and f.severity is severity and f.scenario)
    return list(dict.fromkeys(found))


def for_finding(
    finding: Finding, inputs: Inputs, findings: Sequence[Finding], ranking: Sequence[Rank]
) -> tuple[Recommendation, ...]:
    """A way around with the same implementation where one was seen to work, then another implementation, else the rule's own."""
    if finding.severity is Severity.NOTE or finding.implementation is None:
        return ()
    found = list(inputs.framework.remedies.get(finding.scenario, ())) if inputs.framework is not None else []
    if (around := _around(finding, findings, inputs)) is not None:
        found.append(around)
    for rank in ranking:
        if rank.name != finding.implementation and _right_there(rank.name, finding, inputs, findings):
            settings = inputs.settings(rank.name)
            found.append(
                Recommendation(
                    f"use {rank.name}: {rank.basis.value} right in {finding.scenario or 'these scenarios'}",
                    settings.settings,
                )
            )
            break
    if not found and (known := rule(finding.slug)) is not None:
        found.append(Recommendation(known.fix))
    return tuple(found)


def _around(finding: Finding, findings: Sequence[Finding], inputs: Inputs) -> Recommendation | None:
    """What the same implementation was seen to do right when it is fed in another form."""
    name = finding.implementation
    if finding.scenario == "custom-mask":
        return _another_mask(finding, inputs)
    if finding.slug != "packing-leak" or not finding.scenario.startswith("packed"):
        return None
    if _variants(finding) <= _WITH_MASK:
        return Recommendation(f"pass no attention_mask beside packed position_ids: {name} then keeps documents apart")
    leaks = {
        variant
        for other in findings
        if (other.slug, other.implementation, other.scenario) == (finding.slug, name, "packed")
        for variant in _variants(other)
    }
    ran = any(_observed(run, name, "packed") for run in inputs.runs)
    if finding.scenario == "packed" or not ran or not leaks <= _WITH_MASK:
        return None
    form = "pass use_cache=False" if finding.scenario == "packed-cache" else "feed one packed row a batch"
    return Recommendation(f"{form} and no attention_mask with packed position_ids: {name} then keeps documents apart")


def _another_mask(finding: Finding, inputs: Inputs) -> Recommendation | None:
    if finding.slug in ("mask-dropped", "prefix-dropped"):
        for form in ("boolean", "additive"):
            other = "additive" if form == "boolean" else "boolean"
            ran = any(_observed(r, finding.implementation, "custom-mask") and other in r.variant for r in inputs.runs)
            if ran and all(form in variant for variant in _variants(finding)):
                return Recommendation(f"pass the 4D mask in {other} form: {finding.implementation} then applies it")
    if finding.slug == "window-ignored":
        return Recommendation(
            "put the window into the 4D mask that you pass: it takes the place of the model's own mask"
        )
    return None


def _observed(run: ScenarioRun, name: str | None, scenario: str) -> bool:
    return run.implementation == name and run.scenario == scenario and isinstance(run.outcome, Observed)


def _variants(finding: Finding) -> set[str]:
    """The variants of the scenario that show the finding."""
    return set(str(finding.evidence.figures.get("variants", finding.variant)).split(", "))


def _right_there(name: str, finding: Finding, inputs: Inputs, findings: Sequence[Finding]) -> bool:
    """True when an implementation was observed in the finding's scenario without the same fault, or an error."""
    place = finding.scenario
    runs = [run for run in inputs.runs if run.implementation == name and (not place or run.scenario == place)]
    same = any(
        other.implementation == name
        and (not place or other.scenario == place)
        and (other.slug == finding.slug or other.severity is Severity.ERROR)
        for other in findings
    )
    return any(isinstance(run.outcome, Observed) for run in runs) and not same


def _needed(inputs: Inputs) -> tuple[str, ...]:
    """The scenarios of the use, among those that any implementation was put to."""
    training = inputs.options.use == "train"
    return tuple(
        dict.fromkeys(
            run.scenario
            for run in inputs.runs
            if inputs.options.asked(run.scenario) or (run.scenario in _TRAINING if training else run.core)
        )
    )
