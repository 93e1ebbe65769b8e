"""The sub-models of a multimodal target: its vision tower beside the text model, and what each one runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from attncheck.comparison.measuring import Measured, called_as, runs_here
from attncheck.comparison.options import CompareOptions
from attncheck.comparison.target import Target
from attncheck.declared.original import original
from attncheck.declared.vision import KEY, tower_type, vision_layers
from attncheck.frameworks.interface import Decision, Redirected
from attncheck.probe.client import Prober
from attncheck.probe.protocol import Job, Probe, TinyInfo
from attncheck.semantics.observation import Basis, Crashed, NotRun, Rejected, ScenarioRun
from attncheck.semantics.spec import AttentionSpec, Part
from attncheck.semantics.sub_models import Asked, AskedRun

Progress = Callable[[str], None]

#: The scenario in which a vision tower is read: it takes no padding and keeps no cache.
SCENARIO = "plain"
#: Heads' width and layers of the tower of a tiny model (`probe.tiny`): its scale follows from it.
_TINY_WIDTH, _TINY_LAYERS = 16, 2
#: What the original repositories load through transformers' own CLIP class (`multimodal_encoder/builder.py`).
_CLIP_OWNERS = ("openai", "laion")


def with_vision(
    prober: Prober, target: Target, measured: Measured, probe: Probe, progress: Progress
) -> tuple[Target, Measured]:
    """Target and runs with the vision tower's layers added; unchanged where there is none that attncheck knows."""
    layers = vision_layers(target.config, target.found.usable(target.facts.defaults))
    if not layers or SCENARIO not in probe.scenarios or measured.tiny is None or not measured.tiny.path:
        return target, measured
    tiny = tuple(
        replace(
            spec, softmax=replace(spec.softmax, scale=_TINY_WIDTH**-0.5), head_dim=_TINY_WIDTH, head_dim_v=_TINY_WIDTH
        )
        for spec in layers[:_TINY_LAYERS]
    )
    runs = _runs(prober, target, measured.decisions, probe, progress)
    spec = replace(target.spec, layers=(*target.spec.layers, *layers))
    return replace(target, spec=spec), replace(measured, runs=(*measured.runs, *runs), vision=tiny)


def _runs(
    prober: Prober, target: Target, decisions: Mapping[str, Decision], probe: Probe, progress: Progress
) -> list[ScenarioRun]:
    """One run of the tower under each implementation, as transformers would really run it."""
    contracts: dict[str, str] = {}
    devices: dict[str, str] = {}
    refused: list[ScenarioRun] = []
    for name, decision in decisions.items():
        called = called_as(name, decision)
        if isinstance(called, NotRun):
            refused.append(_without(name, called))
        elif called is not None:
            contracts[name] = called
            devices[name] = probe.device if runs_here(name, decision, probe.device) else "cpu"
    arguments = {"config": target.config, "probe": probe, "contracts": contracts, "devices": devices}
    progress("reading the vision tower")
    found = list(refused)
    for done in prober.job(Job("vision-tower", tuple(contracts), arguments), progress):
        outcome = done.outcome
        if isinstance(outcome, ScenarioRun):
            foretold = not runs_here(done.step, decisions[done.step], probe.device)
            found.append(replace(outcome, basis=Basis.PREDICTED) if foretold else outcome)
        else:
            found.append(_without(done.step, outcome))
    return found


def _without(name: str, outcome: Any) -> ScenarioRun:
    return ScenarioRun(name, SCENARIO, "image", Basis.MEASURED, outcome, core=True)


def rows(
    prober: Prober, target: Target, measured: Measured, options: CompareOptions, probe: Probe, progress: Progress
) -> tuple[AskedRun, ...]:
    """What each sub-model runs when nothing is asked for, and under each implementation; () without sub-models."""
    if not several(target, measured.tiny):
        return ()
    named = [
        Asked(name, name, predicted=not runs_here(name, decision, probe.device))
        for name, decision in measured.decisions.items()
        if not isinstance(decision, Rejected | Redirected)
    ]
    asked = (Asked("nothing"), *named) if not options.impl else tuple(named)
    widths = head_widths(target.spec.layers, target.config, target.found.usable(target.facts.defaults))
    return read(prober, target, asked, probe, progress, phases=("image", "prefill"), widths=widths)


def several(target: Target, tiny: TinyInfo | None) -> bool:
    """True when there is a tower beside the language model."""
    if own_tower(target.config) is not None:
        return True
    # Whether it is there, not what it is like: a value that the source does not know counts too.
    return tiny is not None and bool(tiny.path) and KEY in (*target.config, *target.facts.defaults)


def own_tower(config: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The config of the tower that the original repositories load beside the language model; None for others.

    Only CLIP is loaded through transformers' class; what they bring code of their own for is not measured.
    """
    found = original(config)
    if found is None or not found.tower.startswith(_CLIP_OWNERS):
        return None
    return {"model_type": "clip_vision_model"}


def read(
    prober: Prober,
    target: Target,
    asked: Sequence[Asked],
    probe: Probe,
    progress: Progress,
    *,
    phases: tuple[str, ...] = (),
    widths: Mapping[str, int] | None = None,
) -> tuple[AskedRun, ...]:
    """What came of each way to ask; the first that can run is the measure of the others. phases: empty for all."""
    steps = {str(number): way for number, way in enumerate(asked)}
    arguments = {
        "asked": steps,
        "reference": next((way for way in asked if not way.predicted), Asked("")),
        "config": target.config,
        "tower": own_tower(target.config),
        "widths": dict(widths or {}),
        "dtype": probe.dtype,
        "device": probe.device,
        "seed": probe.seed,
        "plugins": probe.plugins,
        "trust_remote_code": target.remote_code,
        "phases": phases,
    }
    found = []
    for done in prober.job(Job("sub-models", tuple(steps), arguments), lambda _: progress("looking at sub-models")):
        way, outcome = steps[done.step], done.outcome
        if isinstance(outcome, AskedRun):
            found.append(replace(outcome, basis=Basis.PREDICTED) if way.predicted else outcome)
        else:
            found.append(AskedRun(way, failure=words(outcome)))
    return tuple(found)


def words(outcome: object) -> str:
    """Why nothing was run."""
    if isinstance(outcome, Rejected):
        return outcome.said
    if isinstance(outcome, Crashed):
        return f"it broke ({outcome.kind}): {outcome.reason}"
    return outcome.reason if isinstance(outcome, NotRun) else f"unexpected answer: {outcome!r}"


def head_widths(
    spec_layers: Sequence[AttentionSpec], config: Mapping[str, Any], defaults: Mapping[str, Any] | None
) -> dict[str, int]:
    """Sub-config key -> width of its heads, as far as it is known; a model without sub-models is "text_config" too."""
    found: dict[str, int] = {}
    text = next((layer for layer in spec_layers if layer.part in (Part.DECODER, Part.ENCODER) and layer.head_dim), None)
    if text is not None and text.head_dim is not None:
        found["text_config"] = text.head_dim
    if tower_type(config, defaults):
        tower = next(iter(vision_layers(config, defaults)), None)
        if tower is not None and tower.head_dim is not None:
            found[KEY] = tower.head_dim
    return found
