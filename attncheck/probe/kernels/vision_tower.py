"""The attention of a vision tower inside the model that holds it, read as `plain` reads the text model's."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from attncheck.probe.flash import virtual as virtual_flash
from attncheck.probe.forward_only import forward_only
from attncheck.probe.kernels.interface import KernelJob
from attncheck.probe.protocol import Probe
from attncheck.probe.randomness import random_state_kept
from attncheck.probe.reading import sdpa_kernels
from attncheck.probe.reading.live import attention_probe
from attncheck.probe.refusal import outcome_of
from attncheck.probe.runner import CPU_KERNELS, observed, predicted, refusal_at_build
from attncheck.probe.tiny.whole import Member, Whole, whole
from attncheck.semantics.layout import Layout, sequence
from attncheck.semantics.observation import Basis, NotRun, Observed, Outcome, ScenarioRun
from attncheck.semantics.sub_models import Asked

SCENARIO = "plain"
VARIANT = "image"
#: Images in the batch.
IMAGES = 2


def run(step: str, arguments: Mapping[str, Any]) -> ScenarioRun:
    """The tower under one implementation: `step` names it as the framework knows it.

    arguments: config: raw keys; probe: the `Probe` that asks; contracts: step -> name under which it is really run.
    """
    request: Probe = arguments["probe"]
    name = arguments["contracts"].get(step, step)
    request = replace(request, implementation=name, device=arguments["devices"].get(step, request.device))
    for plugin in request.plugins:
        importlib.import_module(plugin)
    foretold = predicted(request)
    layout, outcome = _read(arguments["config"], request, foretold)
    basis = Basis.PREDICTED if foretold else Basis.MEASURED
    return ScenarioRun(step, SCENARIO, VARIANT, basis, outcome, core=True, vision=layout)


def _read(config: Mapping[str, Any], request: Probe, foretold: bool) -> tuple[Layout, Outcome]:
    unknown = Layout((sequence(1),), ((0, 1),))
    with random_state_kept(torch.device(request.device)):
        try:
            made = whole(config)
            asked = Asked("", request.implementation, predicted=foretold)
            model = made.build(asked, request.dtype, request.device)
        except Exception as error:
            return unknown, refusal_at_build(error)
        tower = next((member for member in made.members(model) if member.plain), None)
        if tower is None:
            return unknown, NotRun("the model has no vision tower that attncheck knows how to feed")
        try:
            return _observed(made, model, tower, request, foretold)
        except virtual_flash.VirtualFlashUnsupported as error:
            return unknown, NotRun(str(error))
        except Exception as error:  # whatever the library raises is an answer
            return unknown, outcome_of(error)


def _observed(made: Whole, model: Any, tower: Member, request: Probe, foretold: bool) -> tuple[Layout, Outcome]:
    parameter = next(tower.module.parameters())
    size = int(tower.config.image_size)
    generator = torch.Generator().manual_seed(request.seed)
    pixels = torch.randn(IMAGES, 3, size, size, generator=generator).to(parameter)
    kernels: tuple[str, ...] = ("",)
    if request.implementation == "sdpa":
        kernels = ("", *(sdpa_kernels.NAMES if request.device == "cuda" else CPU_KERNELS))
    flash = virtual_flash.installed(request.implementation, model) if foretold else nullcontext()
    probe = attention_probe(model, request.implementation, fit=True, kernels=kernels, seed=request.seed)
    with flash, torch.no_grad(), forward_only(), probe as recorder:
        recorder.step = 0
        tower.module(pixel_values=pixels)
    if not recorder.reached:
        unknown = Layout((sequence(1),), ((0, 1),))
        return unknown, NotRun(f"{recorder.failures[-1]}; a tower is read through the interface only")
    outcome = observed(recorder, request.implementation)
    patches = next((call.q_len for call in outcome.calls), 1) if isinstance(outcome, Observed) else 1
    return Layout((sequence(patches),) * IMAGES, ((0, patches),)), outcome


JOB = KernelJob("vision-tower", run)
