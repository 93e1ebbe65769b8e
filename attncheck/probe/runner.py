"""Runs scenarios on a tiny model under one implementation and says what came of each variant."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from attncheck.declared import oracle
from attncheck.probe.caches import NotFeedable
from attncheck.probe.feeding import Feeder
from attncheck.probe.flash import virtual as virtual_flash
from attncheck.probe.flash.bounds_checked import bounds_checked
from attncheck.probe.flash.contract import ContractError
from attncheck.probe.flash.index_mask import index_masks_read
from attncheck.probe.forward_only import forward_only
from attncheck.probe.generation import drift
from attncheck.probe.indices_checked import IndicesChecked, tables_checked
from attncheck.probe.log_lines import warnings_heard
from attncheck.probe.protocol import Probe, Started
from attncheck.probe.randomness import random_state_kept, seed_library_generators
from attncheck.probe.reading import blackbox, sdpa_kernels, seam
from attncheck.probe.reading.live import Recorder, attention_probe
from attncheck.probe.refusal import first_sentence, outcome_of
from attncheck.probe.scenario import MaskInput, Scenario, Stack, Variant, every_scenario
from attncheck.probe.subject import subject_of
from attncheck.probe.tiny import switch
from attncheck.probe.tiny.build import TinyModel
from attncheck.semantics.observation import (
    Basis,
    Beside,
    CallObservation,
    Crashed,
    NotApplicable,
    NotRun,
    Observed,
    Outcome,
    Reason,
    Rejected,
    ScenarioRun,
)
from attncheck.semantics.spec import Part


def run(tiny: TinyModel, request: Probe) -> Iterator[Started | ScenarioRun]:
    """One `ScenarioRun` per variant of each requested scenario, each scenario announced by `Started`.

    A scenario that makes no sense for the model gives one run without a variant. Whatever the library raises becomes
    an outcome. Raises ValueError for a scenario name that does not exist.
    """
    known = {scenario.name: scenario for scenario in every_scenario()}
    if strange := [name for name in request.scenarios if name not in known]:
        raise ValueError(f"unknown scenarios {', '.join(strange)}; there are {', '.join(known)}")
    session = _Session(tiny, request)
    for name in request.scenarios:
        yield Started(request.implementation, name)
        yield from session.scenario(known[name])


class _Session:
    """One implementation of one tiny model; the modules it builds serve all scenarios."""

    def __init__(self, tiny: TinyModel, request: Probe) -> None:
        self._tiny = tiny
        self._request = request
        self._predicted = predicted(request)
        self._models: dict[tuple[tuple[str, Any], ...], Any] = {}
        declared = oracle.declare(tiny.info.config, tiny.defaults).layers
        self._attends = not declared or any(layer.attends for layer in declared)
        subject = subject_of(tiny.info, tiny.instantiate("eager"), {layer.part for layer in declared})
        self._subject = replace(subject, implementation=request.implementation)
        self._feeder = Feeder(
            self._subject, device=request.device, dtype=getattr(torch, request.dtype), seed=request.seed
        )

    def scenario(self, scenario: Scenario) -> Iterator[ScenarioRun]:
        """The runs of one scenario."""
        plan = scenario.plan(self._subject) if self._attends else NotApplicable("no layer of this model attends")
        if isinstance(plan, NotApplicable):
            yield self._said(scenario, Variant(""), plan)
            return
        for variant in plan:
            with warnings_heard() as lines:
                outcome = self._outcome(scenario, variant)
            yield self._said(scenario, variant, outcome, tuple(lines))

    def _said(
        self, scenario: Scenario, variant: Variant, outcome: Outcome, logged: tuple[str, ...] = ()
    ) -> ScenarioRun:
        return ScenarioRun(
            implementation=self._request.implementation,
            scenario=scenario.name,
            variant=variant.name,
            basis=Basis.PREDICTED if self._predicted else Basis.MEASURED,
            outcome=outcome,
            core=scenario.core,
            decoder=variant.decoder,
            encoder=variant.encoder,
            truth=variant.truth,
            overrides=variant.overrides,
            logged=logged,
        )

    def _outcome(self, scenario: Scenario, variant: Variant) -> Outcome:
        with random_state_kept(torch.device(self._request.device)):
            seed_library_generators(self._request.seed)  # the order of implementations must not matter
            try:
                model = self._model(variant.overrides)
            except Exception as error:
                return refusal_at_build(error)
            try:
                return self._observed(model, scenario, variant)
            except (virtual_flash.VirtualFlashUnsupported, NotFeedable) as error:
                return NotRun(str(error))
            except ContractError as error:
                return Crashed("exception", f"by flash attention's contract: {error}")
            except Exception as error:
                return outcome_of(error)

    def _model(self, overrides: tuple[tuple[str, Any], ...]) -> Any:
        if overrides not in self._models:
            request = self._request
            if seam.is_flash(request.implementation) and not self._predicted:
                switch.preload(request.implementation)
            self._models[overrides] = self._tiny.instantiate(
                request.implementation, request.dtype, request.device, dict(overrides) or None
            )
        return self._models[overrides]

    def _observed(self, model: Any, scenario: Scenario, variant: Variant) -> Outcome:
        """Through the library's attention functions where there are any, else through the operations below them."""
        ways = (False, True) if seam.exists() else (True,)
        for below in ways:
            recorder, called, beside = self._recorded(model, scenario, variant, below)
            if called is False:
                return NotRun(f"the model never called the flash kernel under {self._request.implementation}")
            if recorder.calls or (recorder.reached and not below):
                found = observed(recorder, self._request.implementation)
                return replace(found, beside=beside) if isinstance(found, Observed) else found
        with self._flash(model):
            return self._around(model, variant, recorder)

    def _recorded(
        self, model: Any, scenario: Scenario, variant: Variant, below: bool
    ) -> tuple[Recorder, bool | None, Beside]:
        """What was read in one run of the variant, whether the flash contract was called (None without one), and what
        its outputs say beside the readings.
        """
        request = self._request
        probe = attention_probe(
            model,
            request.implementation,
            fit=variant.fit,
            gradients=variant.gradients,
            kernels=("", *self._kernels()) if variant.kernels and scenario.core else ("",),
            seed=request.seed,
            single=SINGLE.get(self._subject.stack),
            below=below,
            named=not self._predicted,
        )
        quick = nullcontext() if variant.gradients else forward_only()
        index = index_masks_read() if variant.mask is MaskInput.INDEX else nullcontext()
        # The glue of flash attention takes any mask for one of padding, and a 4D one for indices far outside.
        checked = IndicesChecked() if request.device == "cuda" and self._misread(variant) else nullcontext()
        highest = max((max(row) for row in variant.positions or ()), default=0)
        tables = tables_checked(model, highest) if request.device == "cuda" else nullcontext()
        with self._flash(model) as flash, torch.set_grad_enabled(variant.gradients), quick, index, checked, tables:
            generated = None
            with probe as recorder:
                begin = functools.partial(setattr, recorder, "step")
                if variant.generate:
                    generated = self._feeder.generate(model, variant, begin)
                else:
                    self._feeder.run(model, variant, begin)
            called = None if flash is None else bool(flash.calls)
            beside = Beside(
                drift=None if generated is None else drift(model, generated),
                spill=self._feeder.spill(model, variant) if variant.spill and recorder.calls else None,
            )
            return recorder, called, beside

    def _around(self, model: Any, variant: Variant, recorder: Recorder) -> Outcome:
        """The black-box reading of a model whose attention cannot be reached."""
        if len(variant.main.steps) > 1:
            return NotRun(f"{recorder.failures[-1]}; without it, only single forward calls can be read")
        if variant.gradients:
            return NotRun(f"{recorder.failures[-1]}; without it, the backward of a call cannot be read")
        calls: list[CallObservation] = []
        failures: list[str] = []
        inputs = self._feeder.inputs(variant)
        for part in PARTS[self._subject.stack]:
            try:
                calls += blackbox.observe(model, inputs, part=part, seed=self._request.seed)
            except blackbox.NotMeasurable as error:
                failures.append(f"{part.value}: {error}")
        return Observed(tuple(calls), failures=tuple(failures)) if calls else NotRun("; ".join(failures))

    def _flash(self, model: Any) -> AbstractContextManager[virtual_flash.VirtualFlash | None]:
        implementation = self._request.implementation
        if self._predicted:
            return virtual_flash.installed(implementation, model)
        glue = virtual_flash.shared_file() if seam.is_flash(implementation) else None
        return nullcontext() if glue is None else bounds_checked(glue)

    def _misread(self, variant: Variant) -> bool:
        return seam.is_flash(self._request.implementation) and variant.mask in FOUR_DIMENSIONAL

    def _kernels(self) -> tuple[str, ...]:
        """The kernels below sdpa that may run on the device."""
        if self._request.implementation != "sdpa":
            return ()
        return sdpa_kernels.NAMES if self._request.device == "cuda" else CPU_KERNELS


#: Masks with a row a query.
FOUR_DIMENSIONAL = (MaskInput.ADDITIVE, MaskInput.BOOLEAN, MaskInput.BLOCKS)
#: The kernels of scaled_dot_product_attention that torch has for CPUs.
CPU_KERNELS = ("math", "flash")
#: The part of the layers of a model with one stack.
SINGLE: Mapping[Stack, Part] = {Stack.DECODER: Part.DECODER, Stack.ENCODER: Part.ENCODER}
#: The parts that a black box can read, by stack.
PARTS: Mapping[Stack, tuple[Part, ...]] = {
    Stack.DECODER: (Part.DECODER,),
    Stack.ENCODER: (Part.ENCODER,),
    Stack.ENCODER_DECODER: (Part.ENCODER, Part.DECODER),
}


def predicted(request: Probe) -> bool:
    """True when the flash contract in plain torch shall answer, or nothing else can: no such kernel can run here.

    transformers' own test is asked whether the package is there. Where a version has no test for it, it is not.
    """
    implementation = request.implementation
    if not virtual_flash.supports(implementation):
        return False
    if request.predict or request.device != "cuda" or not torch.cuda.is_available():
        return True
    from transformers import utils

    number = implementation.rpartition("_")[2]
    available = getattr(utils, f"is_flash_attn_{number}_available", None)
    return available is None or not available()


def refusal_at_build(error: Exception) -> Rejected | Crashed:
    """What it means that no model can be made under an implementation: the class or the library refuses, or breaks."""
    if isinstance(error, ValueError | ImportError | NotImplementedError):
        return Rejected((Reason(first_sentence(error), source=type(error).__name__),))
    return outcome_of(error)


def observed(recorder: Recorder, implementation: str) -> Outcome:
    """A finished recording as an outcome; a call that was seen but could not be read is no success."""
    if not recorder.calls:
        return Crashed("exception", "; ".join(recorder.failures) or f"nothing was read under {implementation}")
    others = sorted(recorder.used - {implementation})
    used = implementation if implementation in recorder.used or not others else others[0]
    return Observed(
        calls=tuple(recorder.calls),
        kernels=tuple(sorted(recorder.kernels)),
        used_implementation=used,
        failures=tuple(recorder.failures),
        launched=tuple(recorder.launched),
        refusals=tuple(recorder.refusals.items()),
    )
