"""Reading the attention of a live model: every call of its attention function is repeated with identity values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from attncheck.probe.randomness import random_state_kept
from attncheck.probe.reading import flex_masks, kernel, logits, operations, sdpa_kernels, seam
from attncheck.probe.reading.computation import Found
from attncheck.probe.reading.place import Places
from attncheck.probe.reading.replay import Replay
from attncheck.probe.reading.requested import MaskReader, requested
from attncheck.semantics.observation import CallObservation, Method, Requested
from attncheck.semantics.spec import Part

_ABSENT: Any = object()


@dataclass
class Recorder:
    """What a probe saw.

    calls: one observation per attention call and kernel, in order. step: forward call inside the scenario; set it
    before each. failures: what could not be read, and why, as text without repetition. used: implementations whose
    function really ran ("sdpa" falls to "eager" here and there). kernels: kernels below sdpa that it picked by itself
    (read in fitting probes only). launched, refusals: as in `Observed`. reached: attention calls seen, read or not; 0
    means that the model does not go through the attention interface.
    """

    calls: list[CallObservation] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    kernels: set[str] = field(default_factory=set)
    launched: dict[tuple[str, str], None] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    reached: int = 0
    _step: int = 0
    _begin: Callable[[], None] = lambda: None

    @property
    def step(self) -> int:
        """Number of the forward call inside the scenario."""
        return self._step

    @step.setter
    def step(self, number: int) -> None:
        self._step = number
        self._begin()

    def fail(self, reason: str) -> None:
        """Note once why something could not be read."""
        if reason not in self.failures:
            self.failures.append(reason)


@contextmanager
def attention_probe(
    model: Any,
    implementation: str,
    *,
    fit: bool = False,
    gradients: bool = False,
    kernels: tuple[str, ...] = ("",),
    seed: int = 0,
    single: Part | None = None,
    below: bool = False,
    named: bool = True,
) -> Iterator[Recorder]:
    """Read every attention call that `model` makes inside the context; the model's own results stay untouched.

    implementation: the one set on the model, for messages; every registered function is watched, so that a quiet
    replacement shows in `Recorder.used`. fit: also read scale, softcap, sinks, bias and head map. gradients: also check
    the backward (implies the fit). kernels: kernels below sdpa to read besides the one it picks itself (""), out of
    `sdpa_kernels.NAMES`; one that refuses is noted in `refusals`. single: the part of a model with one stack, see
    `Places`. below: watch the operations below the attention modules instead of functions, for models that call none.
    named: say which kernels ran, in fitting probes; a prediction runs none of those that it stands for.
    Attention functions and random state are put back at the end. A call that cannot be repeated is noted in
    `failures` and never breaks the forward pass.
    """
    recorder = Recorder()
    places = Places(model, single)
    recorder._begin = places.begin_step
    session = _Session(recorder, places, fit or gradients, gradients, named and (fit or gradients), kernels, seed)
    way = operations.watched(model, session.found, recorder.fail) if below else seam.replaced(model, session.stand_in)
    with places.watching(model), way:
        yield recorder
    if recorder.reached == 0:
        recorder.fail(f"no attention call of {type(model).__name__} under {implementation} went through the interface")


@dataclass
class _Session:
    recorder: Recorder
    places: Places
    fit: bool
    gradients: bool
    naming: bool
    kernels: tuple[str, ...]
    seed: int
    reader: MaskReader = field(default_factory=MaskReader)
    made: dict[Any, Any] = field(default_factory=dict)
    named: set[Any] = field(default_factory=set)
    busy: bool = False

    def stand_in(self, name: str, function: seam.Function) -> seam.Function:
        """A function that does what `function` does and reads the call on the side."""

        @functools.wraps(function)
        def watched(
            module: Any, query: Any, key: Any, value: Any, attention_mask: Any = _ABSENT, *rest: Any, **kwargs: Any
        ) -> Any:
            mask = () if attention_mask is _ABSENT else (attention_mask,)
            if self.busy:  # one function calling another: the outer call is the model's
                return function(module, query, key, value, *mask, *rest, **kwargs)
            self.busy = True
            self.recorder.reached += 1
            self.recorder.used.add(name)
            try:
                with flex_masks.evaluated_once(name):
                    output = function(module, query, key, value, *mask, *rest, **kwargs)
                    given = query, key, value, mask, rest, loud(kwargs), self.seed, self.made
                    wide = flex_masks.any_value_width(name)
                    replay = Replay(function, module, *given, any_width=wide, tiled=seam.is_flash(name))
                    self._read(name, replay, output)
            finally:
                self.busy = False
            return output

        return watched

    def found(self, call: Found) -> None:
        """Read a computation that was seen among the operations of a module."""
        self.recorder.reached += 1
        self.recorder.used.add(call.name)
        replay = Replay(
            call.function,
            call.module,
            call.query,
            call.key,
            call.value,
            given_mask=() if call.mask is None else (call.mask,),
            rest=(),
            kwargs=call.arguments,
            seed=self.seed,
            made=self.made,
            any_width=call.wide,
            tiled=seam.is_flash(call.name),
        )
        self._read(call.name, replay, call.output)

    def _read(self, name: str, replay: Replay, output: Any) -> None:
        module = type(replay.module).__name__
        part, layer = self.places.of(replay.module)
        try:
            with random_state_kept(replay.query.device), torch.no_grad():
                asked = requested(replay.module, replay.query, replay.key, replay.mask, replay.kwargs, self.reader)
                broken = rows_broken(replay, output)
                for chosen in self.kernels if name == "sdpa" else ("",):
                    try:
                        with sdpa_kernels.forced(chosen):
                            self._observe(chosen, replay, asked, broken if not chosen else (), part, layer)
                            if self.naming:
                                self._name_kernel(name, chosen, replay)
                    except RuntimeError as error:
                        if not chosen:
                            raise
                        self.recorder.refusals.setdefault(chosen, _first_line(error))
        except Exception as error:  # a probe must not break the model's own forward pass
            self.recorder.fail(f"{module} under {name} could not be read: {type(error).__name__}: {_first_line(error)}")

    def _observe(
        self, chosen: str, replay: Replay, asked: Requested, broken: tuple[tuple[int, int], ...], part: Part, layer: int
    ) -> None:
        matrix = replay.spread_matrix() if self.fit else replay.flat_matrix()
        softmax, gradient, unstable = None, None, 0.0
        if self.fit:
            empty = self.reader.empty_rows(replay.mask, replay.query, replay.key)
            try:
                softmax, unstable = replay.fit(matrix, empty)
                if self.gradients and softmax is not None:
                    gradient = replay.gradient(matrix, softmax, empty)
            except Exception as error:  # the mask stands even where the rest cannot be read
                what = "backward" if softmax is not None else "softmax terms"
                self.recorder.fail(f"{what} not read: {type(error).__name__}: {_first_line(error)}")
        self.recorder.calls.append(
            CallObservation(
                part=part,
                layer=layer,
                step=self.recorder.step,
                module=type(replay.module).__name__,
                method=Method.IDENTITY,
                q_len=replay.query.shape[2],
                masks=kernel.head_masks(matrix),
                kernel=chosen,
                num_heads=replay.query.shape[1],
                num_kv_heads=replay.key.shape[1],
                head_dim=replay.query.shape[-1],
                head_dim_v=replay.value.shape[-1],
                requested=asked,
                softmax=softmax,
                gradient=gradient,
                nan_rows=tuple(sorted({*broken, *kernel.broken_rows(matrix)})),
                unstable=unstable,
            )
        )

    def _name_kernel(self, name: str, chosen: str, replay: Replay) -> None:
        alike = name, chosen, type(replay.mask), replay.query.shape, replay.key.shape, replay.value.shape
        if alike in self.named:
            return
        self.named.add(alike)
        if not chosen:
            with suppress(
                Exception
            ):  # some operators (flex) cannot run under a dispatch mode: the kernel stays unnamed
                self.recorder.kernels |= {replay.kernel_used(name)} - {""}
        with suppress(Exception):  # a profiler that cannot start says nothing about the kernel
            self.recorder.launched |= dict.fromkeys((chosen, kernel_name) for kernel_name in replay.launched())


def loud(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments for repeated calls: as passed, but for a learned bias too faint to be seen."""
    bias = kwargs.get("position_bias")
    return {**kwargs, "position_bias": logits.widened(bias)} if isinstance(bias, torch.Tensor) else kwargs


def rows_broken(replay: Replay, output: Any) -> tuple[tuple[int, int], ...]:
    """Rows that the model's own call broke, its inputs being sound."""
    result = output[0] if isinstance(output, tuple) else output
    if bool(result.isfinite().all()) or not all(
        bool(given.isfinite().all()) for given in (replay.query, replay.key, replay.value)
    ):
        return ()
    batch, heads, queries = replay.query.shape[:3]
    return kernel.broken_rows(result.reshape(batch, queries, heads, -1).transpose(1, 2))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
