"""The rule about layers that declare nothing knowable where eager is no measure: implementations that disagree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from attncheck.checks.evidence import of_difference
from attncheck.checks.interface import Case, Inputs, RuleGroup, View
from attncheck.checks.registry import code_of
from attncheck.checks.views import is_measure
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Severity
from attncheck.semantics.difference import compare_with
from attncheck.semantics.layer_masks import comparable
from attncheck.semantics.observation import Basis, Method
from attncheck.semantics.spec import Part

SLUG = "implementations-disagree"
RULES = (
    Rule(
        "ATC113",
        SLUG,
        "Implementations compute different masks, and nothing says which one is right",
        "For layers whose mask cannot be read from the config, and where eager cannot serve as a measure, one implementation lets other keys be seen than another.",
        "At least one of them is not what the model was trained with. Outputs change with the implementation, and with the machine that picks it.",
        "The masks that were read of each implementation are laid beside each other, cell by cell, for every query that is a real token.",
        "Use the implementation that the checkpoint was trained with, and name it explicitly; report the difference to the library.",
        ("transformers: gemma2 with use_bidirectional_attention",),
    ),
)


@dataclass(slots=True)
class Camp:
    """Implementations that see the same keys; the first view stands for all."""

    views: list[View] = field(default_factory=list)

    @property
    def names(self) -> str:
        """The implementations."""
        return ", ".join(dict.fromkeys(view.run.implementation for view in self.views))


def conclude(case: Case) -> Iterator[Finding]:
    """One warning for each part and scenario; the place with the most wrong cells leads."""
    places: dict[tuple[str, str, Part, int], list[View]] = {}
    for view in case.views:
        if _open(view):
            places.setdefault((view.run.scenario, view.run.variant, view.part, view.layer), []).append(view)
    together: dict[tuple[str, Part], list[list[Camp]]] = {}
    for (scenario, _, part, _), seen in places.items():
        if len(camps := _camps(seen)) > 1:
            together.setdefault((scenario, part), []).append(camps)
    yield from (_finding(split, case.inputs) for split in together.values())


def _open(view: View) -> bool:
    """Nothing says what the layer should see, and what was read is exact: no kernel forced, no union over heads.

    Of an unknown kind it is not even known what its keys stand for; keys behind the last token have no certain place.
    """
    known = view.spec.mask_known or "kind" in view.spec.unknown or not view.run.truth
    read = not (view.broken or view.dropout or view.masks.unreadable or view.masks.behind)
    exact = all(call.method is Method.IDENTITY for call in view.calls)
    judged = bool(view.differences) or (view.reference is not None and is_measure(view.reference))
    return not known and read and exact and not judged and not view.kernel


def _camps(views: Sequence[View]) -> list[Camp]:
    """The views by what they see. One that cannot be laid beside the first of any camp is passed over."""
    camps: list[Camp] = []
    for view in views:
        beside = [camp for camp in camps if comparable(camp.views[0].masks, view.masks)]
        same = next((camp for camp in beside if not compare_with(camp.views[0].masks, view.masks)), None)
        if same is not None:
            same.views.append(view)
        elif len(beside) == len(camps):
            camps.append(Camp([view]))
    return camps


def _finding(places: Sequence[Sequence[Camp]], inputs: Inputs) -> Finding:
    def wrong(camps: Sequence[Camp]) -> int:
        found = compare_with(camps[0].views[0].masks, camps[1].views[0].masks)
        return sum(difference.leaked + difference.missed for difference in found)

    lead = max(places, key=wrong)
    first, second = lead[0].views[0], lead[1].views[0]
    difference = compare_with(first.masks, second.masks)[0]
    shown = of_difference(second, difference)
    unknown = ", ".join(sorted(first.spec.unknown & {"direction", "window", "chunk"}))
    seen = [(lead[0].names, difference.declared_short), (lead[1].names, difference.effective_short)]
    for camp in lead[2:]:
        other = compare_with(first.masks, camp.views[0].masks)
        seen.append((camp.names, other[0].effective_short if other else ""))
    told = "; ".join(f"{names}: {words or 'other keys'}" for names, words in seen)
    views = [view for camps in places for camp in camps for view in camp.views]
    predicted = any(view.run.basis is Basis.PREDICTED for view in views)
    layers = tuple(sorted({layer for view in views for layer in view.real}))
    names = tuple(dict.fromkeys(view.run.implementation for view in views))
    scenario = first.run.scenario
    return Finding(
        code=code_of(SLUG),
        slug=SLUG,
        severity=Severity.WARNING,
        message=f"Implementations disagree where the config does not say what is right ({unknown} unknown): {told}",
        headline="Implementations disagree where the config does not say what is right",
        basis=Basis.PREDICTED if predicted else Basis.MEASURED,
        part=first.part,
        layers=layers,
        scenario=scenario,
        variant=first.run.variant,
        evidence=Evidence(
            declared=f"{unknown}: unknown",
            effective=told,
            first_difference=shown.first_difference,
            leaked=shown.leaked,
            missed=shown.missed,
            heads=shown.heads,
            declared_mask=shown.declared_mask,
            effective_mask=shown.effective_mask,
            figures={
                "camps": len(lead),
                "variants": ", ".join(dict.fromkeys(view.run.variant for view in views)),
            },
        ),
        reproduction=f"attncheck compare {inputs.target} --impl {','.join(names)} --scenario {scenario}",
        recommendations=tuple(_choices(lead, inputs)),
    )


def _choices(camps: Sequence[Camp], inputs: Inputs) -> Iterator[Recommendation]:
    """Each camp's way, the framework's own choice first: which one is right is for who trained the model to say."""
    ordered = sorted(camps, key=lambda camp: all(view.run.implementation != inputs.default for view in camp.views))
    for camp in ordered:
        names = [view.run.implementation for view in camp.views]
        name = inputs.default if inputs.default in names else names[0]
        yield Recommendation(
            f"name {name} if the checkpoint was trained with {camp.names}", inputs.settings(str(name)).settings
        )


GROUP = RuleGroup("disagreement", RULES, order=15, conclude=conclude)
