"""Sorts what the probes saw into views: one layer, variant, implementation and kernel, beside what it declares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from attncheck.checks.interface import REFERENCE, Inputs, View
from attncheck.semantics.difference import Difference, beyond_inputs, compare, compare_with, one_sided
from attncheck.semantics.layer_masks import LayerMasks, gather
from attncheck.semantics.layout import Layout
from attncheck.semantics.observation import CallObservation, Observed, ScenarioRun
from attncheck.semantics.spec import AttentionSpec, ModelSpec, Part
from attncheck.verdicts import LayerGroup

_Key = tuple[str, str, Part, int]


def layer_groups(model: ModelSpec, tiny: ModelSpec | None = None) -> tuple[LayerGroup, ...]:
    """The layers of a model, equal declarations together, in order of part and first layer; tiny: the model probed."""
    probed = {_signature(spec): spec for spec in reversed(tiny.layers)} if tiny is not None else {}
    together: dict[AttentionSpec, list[int]] = {}
    for spec in model.layers:
        together.setdefault(replace(spec, layer=0), []).append(spec.layer)
    first = {(spec.part, spec.layer): spec for spec in model.layers}
    return tuple(
        LayerGroup(spec.part, tuple(layers), first[spec.part, layers[0]], probed.get(_signature(spec)))
        for spec, layers in together.items()
    )


def views(inputs: Inputs) -> list[View]:
    """Every view of every run that was observed, in the order of the runs; eager's own views serve as reference."""
    observed = [run for run in inputs.runs if isinstance(run.outcome, Observed)]
    eager = [run for run in observed if run.implementation == REFERENCE]
    by_run = {id(run): _views_of(run, inputs, {}) for run in eager}
    references = {
        (view.run.scenario, view.run.variant, view.part, view.layer): view
        for run in eager
        for view in by_run[id(run)]
        if not view.kernel
    }
    return [view for run in observed for view in by_run.get(id(run)) or _views_of(run, inputs, references)]


def is_measure(reference: View) -> bool:
    """False for an eager that breaks what is known all the same, so that nothing can be compared with it.

    Known are its inputs (padding, other documents and keys that the caller hides are not seen) and, where only the
    window is not, whether the layer looks ahead. Keys behind the last token (another stack's, in one call with
    the tokens') make the places of all of them uncertain: then only a mask of the caller's makes eager doubtful.
    """
    masks, spec = reference.masks, reference.spec
    if masks.behind:
        return all(row.custom is None for row in reference.layout.rows)
    return not (beyond_inputs(masks) if "kind" in spec.unknown else _against_what_is_known(spec, masks))


def unseen(run: ScenarioRun, seen: Sequence[View], inputs: Inputs) -> list[AttentionSpec]:
    """The tiny model's attention layers that made no call which could be read."""
    known = {(view.part, view.layer) for view in seen}
    specs = inputs.declare(run.overrides) if run.overrides else inputs.tiny
    return [
        spec for spec in specs.layers if spec.attends and (spec.part, spec.layer) not in known and fed(run, spec.part)
    ]


def fed(run: ScenarioRun, part: Part) -> bool:
    """True for the parts that a run feeds: the vision tower gets runs of its own."""
    return (part is Part.VISION) == (run.vision is not None)


def layout_of(run: ScenarioRun, part: Part) -> Layout | None:
    """The layout of the queries of a part; a model with one stack has its layout under one of the two names."""
    if part is Part.VISION:
        return run.vision
    if part is Part.ENCODER:
        return run.encoder or run.decoder
    if part is Part.CROSS:
        return run.decoder if run.encoder is not None else None
    return (run.decoder or run.encoder) if part is Part.DECODER else None


def real_layers(inputs: Inputs, tiny: AttentionSpec) -> tuple[AttentionSpec, ...]:
    """The layers of the checkpoint that a tiny layer stands for: same part and the same kind of declaration.

    Where no layer matches in everything, those with the same kind of mask stand in.
    """
    if inputs.live:
        return tuple(spec for spec in inputs.real.layers if (spec.part, spec.layer) == (tiny.part, tiny.layer))
    by_signature = _by_signature(inputs.real.layers)
    wanted = _signature(tiny)
    return by_signature.get(wanted) or by_signature.get(wanted[:_MASK_FIELDS], ())


def uncovered(inputs: Inputs) -> list[AttentionSpec]:
    """The attention layers of the checkpoint that no layer of the tiny model stands for."""
    covered = {(entry.part, entry.layer) for spec in inputs.tiny.layers for entry in real_layers(inputs, spec)}
    return [spec for spec in inputs.real.layers if spec.attends and (spec.part, spec.layer) not in covered]


@lru_cache(maxsize=64)
def _by_signature(layers: tuple[AttentionSpec, ...]) -> dict[tuple[Any, ...], tuple[AttentionSpec, ...]]:
    found: dict[tuple[Any, ...], tuple[AttentionSpec, ...]] = {}
    for spec in layers:
        signature = _signature(spec)
        for key in (signature, signature[:_MASK_FIELDS]):
            found[key] = (*found.get(key, ()), spec)
    return found


#: How many of the fields of a signature, from its beginning, are about the mask.
_MASK_FIELDS = 5


@lru_cache(maxsize=4096)
def _signature(spec: AttentionSpec) -> tuple[Any, ...]:
    """What a layer declares, apart from sizes that the tiny model shrinks."""
    window = spec.mask.window
    return (
        spec.part,
        spec.attends,
        window.left is None,
        window.right if window.right in (None, 0) else 1,
        spec.mask.chunk is None,
        spec.softmax.softcap is None,
        spec.softmax.sinks,
        spec.softmax.bias,
        spec.head_map,
        spec.unknown,
    )


def _views_of(run: ScenarioRun, inputs: Inputs, references: dict[_Key, View]) -> list[View]:
    assert isinstance(run.outcome, Observed)
    specs = inputs.declare(run.overrides) if run.overrides else inputs.tiny
    base = {(spec.part, spec.layer): spec for spec in inputs.tiny.layers}
    found = []
    for part in dict.fromkeys(call.part for call in run.outcome.calls):
        layout = layout_of(run, part)
        if layout is None:
            continue
        calls = [call for call in run.outcome.calls if call.part is part]
        declared = [spec for spec in specs.layers if spec.part is part]
        for layer, spec in _matched({call.layer for call in calls}, declared).items():
            real = real_layers(inputs, base.get((part, spec.layer), spec))
            of_layer = [call for call in calls if call.layer == layer]
            for kernel in dict.fromkeys(call.kernel for call in of_layer):
                key = (run.scenario, run.variant, part, spec.layer)
                found.append(
                    _view(
                        run,
                        spec,
                        real,
                        tuple(call for call in of_layer if call.kernel == kernel),
                        layout,
                        run.encoder if part is Part.CROSS else None,
                        references.get(key),
                    )
                )
    return found


def _view(
    run: ScenarioRun,
    spec: AttentionSpec,
    real: tuple[AttentionSpec, ...],
    calls: tuple[CallObservation, ...],
    layout: Layout,
    encoder: Layout | None,
    reference: View | None,
) -> View:
    masks = gather(calls, layout, encoder, spec.part)
    differences: tuple[Difference, ...]
    if not run.truth or masks.unreadable:
        differences = ()
    elif spec.mask_known:
        differences = compare(spec.mask, masks)
    else:
        differences = _against_what_is_known(spec, masks)
        if not differences and reference is not None and is_measure(reference):
            differences = compare_with(reference.masks, masks)
    return View(
        run=run,
        part=spec.part,
        layer=spec.layer,
        kernel=calls[0].kernel,
        spec=spec,
        real=tuple(entry.layer for entry in real),
        real_spec=real[0] if real else None,
        calls=calls,
        masks=masks,
        layout=layout,
        encoder=encoder,
        differences=differences,
        reference=reference,
    )


def _against_what_is_known(spec: AttentionSpec, masks: LayerMasks) -> tuple[Difference, ...]:
    """What is wrong whatever the layer declares: beyond its inputs and, where they are known, against its direction."""
    if "kind" in spec.unknown:  # of a kind that nobody can write down it is not even known what its keys stand for
        return ()
    if "direction" in spec.unknown:
        return beyond_inputs(masks)
    if spec.mask.window.right is None:
        return beyond_inputs(masks) or one_sided(masks)
    return beyond_inputs(masks, causal=spec.mask.window.right == 0)


def _matched(seen: set[int], declared: Sequence[AttentionSpec]) -> dict[int, AttentionSpec]:
    """Observed layer numbers -> declared layers. Modules without an index are numbered in call order, which skips
    layers without attention; then the n-th observed layer is the n-th that attends."""
    by_layer = {spec.layer: spec for spec in declared}
    attending = [spec for spec in declared if spec.attends]
    if all(number in by_layer and by_layer[number].attends for number in seen):
        return {number: by_layer[number] for number in sorted(seen)}
    if len(seen) == len(attending):
        return dict(zip(sorted(seen), attending))
    return {number: by_layer[number] for number in sorted(seen) if number in by_layer and by_layer[number].attends}
