"""One forward pass of a live model: every attention call is seen, those that differ are read, the rest is alike."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.inside import choice, modules, perturb, reader, state
from attncheck.probe.inside.plan import FEWEST, Place, Plan, Recording, affordable
from attncheck.probe.reading import flex_masks, live, seam
from attncheck.probe.reading.place import Places
from attncheck.probe.reading.replay import Replay
from attncheck.probe.reading.requested import MaskReader, kind, requested
from attncheck.semantics.observation import CallObservation, GradientObservation, Method, Requested, SoftmaxObservation
from attncheck.semantics.spec import Part

_ABSENT: Any = object()


@contextmanager
def recording(model: Any, plan: Plan) -> Iterator[tuple[Recording, Callable[[int], None]]]:
    """Watch the forward passes inside; yields the recording and what must be called with each pass's step number.

    The results of the model's own calls stay untouched, and a call that cannot be read never breaks the pass. To be
    used inside `state.undisturbed`.
    """
    found = Recording()
    places = Places(model, plan.single)
    session = _Session(found, places, plan, {id(module) for module in model.modules()})

    def begin(step: int) -> None:
        found.step = step
        places.begin_step()

    with ExitStack() as stack:
        stack.enter_context(places.watching(model))
        stack.enter_context(seam.replaced(model, session.stand_in))
        for module in modules.attention_modules(model):
            stack.callback(module.register_forward_pre_hook(session.enter, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(session.leave, with_kwargs=True).remove)
        yield found, begin


@dataclass
class _Session:
    found: Recording
    places: Places
    plan: Plan
    own: set[int]
    reader: MaskReader = field(default_factory=MaskReader)
    made: dict[Any, Any] = field(default_factory=dict)
    known: dict[tuple[Part, Any], tuple[Place, CallObservation | None]] = field(default_factory=dict)
    signatures: modules.Signatures = field(default_factory=modules.Signatures)
    reaching: set[type] = field(default_factory=set)
    open: list[tuple[Any, perturb.Module | None, list[bool]]] = field(default_factory=list)
    busy: bool = False

    # Through the interface ------------------------------------------------------------------------

    def stand_in(self, name: str, function: seam.Function) -> seam.Function:
        """A function that does what `function` does and reads the call on the side."""

        @functools.wraps(function)
        def watched(
            module: Any, query: Any, key: Any, value: Any, attention_mask: Any = _ABSENT, *rest: Any, **kwargs: Any
        ) -> Any:
            mask = () if attention_mask is _ABSENT else (attention_mask,)
            with _as_compiled(name, query):
                if self.busy or id(module) not in self.own or self.plan.method == "perturbation":
                    return function(module, query, key, value, *mask, *rest, **kwargs)
                self.busy = True
                try:
                    with flex_masks.evaluated_once(name):
                        output = function(module, query, key, value, *mask, *rest, **kwargs)
                        for entry in self.open:
                            entry[2].append(True)
                        wide = flex_masks.any_value_width(name)
                        given = query, key, value, mask, rest, live.loud(kwargs), self.plan.seed, self.made
                        replay = Replay(function, module, *given, any_width=wide, dtype=_coarsest(query, output))
                        self._call(name, replay, output)
                finally:
                    self.busy = False
            return output

        return watched

    def _call(self, name: str, replay: Replay, output: Any) -> None:
        try:
            place = self.places.of(replay.module)
            self.found.used.add(name)
            self.found.dtypes.add(str(replay.dtype).removeprefix("torch."))
            self.found.dropout = max(self.found.dropout, float(replay.kwargs.get("dropout") or 0.0))
            shape = (replay.query.shape, replay.key.shape, replay.value.shape, replay.query.dtype, replay.query.device)
            same = (name, shape, self.signatures.of(replay.module, (replay.function, replay.mask), replay.kwargs))
            if self._wanted(place, same):
                self._keep(place, same, self._read(name, replay, output, place), Method.IDENTITY)
        except Exception as error:  # a probe must not break the model's own forward pass
            self._failed(replay.module, error)
        finally:
            self.made.clear()

    def _read(self, name: str, replay: Replay, output: Any, place: Place) -> CallObservation:
        asked = self._requested(replay)
        chosen = self._chosen(place, replay)
        channels = 1 + max(max(entry.channel) for entry in chosen)
        self._afford(reader.need(replay, channels))
        self.found.singly += sum(len(entry.channel) - sum(g.bit_count() for g in entry.coarse) for entry in chosen)
        self.found.keys += sum(len(entry.channel) for entry in chosen)
        seen = reader.read(replay, chosen)
        softmax, gradient, unstable = self._terms(replay)
        if replay.module.training:  # dropout that a function adds by itself, not because it was asked to
            unstable = max(unstable, reader.unsteady(replay, chosen))
        with suppress(Exception):  # some operators cannot run under a dispatch mode: the kernel stays unnamed
            self.found.kernels |= {replay.kernel_used(name)} - {""}
        if not torch.autograd.profiler._is_profiler_enabled:  # a profile of the user's own is not ours to end
            with suppress(Exception):
                self.found.launched |= dict.fromkeys(("", kernel_name) for kernel_name in replay.launched())
        return CallObservation(
            part=place[0],
            layer=place[1],
            step=self.found.step,
            module=type(replay.module).__name__,
            method=Method.IDENTITY,
            q_len=replay.query.shape[2],
            masks=seen.masks,
            num_heads=replay.query.shape[1],
            num_kv_heads=replay.key.shape[1],
            head_dim=replay.query.shape[-1],
            head_dim_v=replay.value.shape[-1],
            requested=asked,
            softmax=softmax,
            gradient=gradient,
            nan_rows=tuple(sorted({*live.rows_broken(replay, output), *seen.broken})),
            unstable=unstable,
        )

    def _terms(self, replay: Replay) -> tuple[SoftmaxObservation | None, GradientObservation | None, float]:
        """The softmax terms where the whole matrix in float64, several times over, fits into the memory allowed."""
        cells = replay.query.shape[0] * replay.query.shape[1] * replay.query.shape[2] * replay.key.shape[2]
        if not self.plan.fit or cells * 8 * 12 > self.plan.memory:
            return None, None, 0.0
        empty = self.reader.empty_rows(replay.mask, replay.query, replay.key)
        gradient = None
        try:
            matrix = replay.spread_matrix()
            softmax, unstable = replay.fit(matrix, empty)
            if self.plan.gradients and softmax is not None:
                gradient = replay.gradient(matrix, softmax, empty)
        except Exception as error:  # the mask stands even where the rest cannot be read
            self.found.fail(f"softmax terms not read: {type(error).__name__}: {_first_line(error)}")
            return None, None, 0.0
        return softmax, gradient, unstable

    def _requested(self, replay: Replay) -> Requested:
        """What was asked; without the mask cell by cell where that would take much memory."""
        mask = replay.mask
        rows = replay.query.shape[0] * replay.query.shape[2] * replay.key.shape[2]
        cells = rows * (1 if isinstance(mask, Tensor) else replay.query.shape[1])
        dense = mask if cells * 2 <= self.plan.memory else None
        asked = requested(replay.module, replay.query, replay.key, dense, replay.kwargs, self.reader)
        return replace(asked, mask_kind=kind(mask))

    # Around single modules ------------------------------------------------------------------------

    def enter(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before an attention module runs."""
        if self.busy:
            return
        call = None
        if self.plan.method == "perturbation" or (self.plan.method == "auto" and type(module) not in self.reaching):
            with suppress(Exception):
                call = perturb.Module.before_call(module, args, kwargs)
        self.open.append((module, call, []))

    def leave(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """After it: where nothing inside it went through the interface, it is read from outside."""
        if self.busy or not self.open or self.open[-1][0] is not module:
            return
        _, call, reached = self.open.pop()
        if reached:
            self.reaching.add(type(module))  # its cache need not be copied the next time
        if reached or call is None:
            return
        for entry in self.open:
            entry[2].append(True)
        self.busy = True
        try:
            place = self.places.of(module)
            shape = tuple(call.hidden.shape), call.hidden.dtype, call.hidden.device
            self.found.dtypes.add(str(call.hidden.dtype).removeprefix("torch."))
            same = (shape, self.signatures.of(module, args[1:], kwargs))
            if place[0] is Part.CROSS:
                raise perturb.NotMeasurable("keys of cross-attention do not come from the module's own input")
            if self._wanted(place, same):
                self._keep(place, same, self._around(call, place, output), Method.PERTURBATION)
        except Exception as error:  # as above
            self._failed(module, error)
        finally:
            self.busy = False

    def _around(self, call: perturb.Module, place: Place, output: Any) -> CallObservation:
        hidden = call.hidden
        rows, length = hidden.shape[:2]
        layout = self.plan.layouts.get(place[0])
        start = 0 if layout is None else layout.steps[self.found.step][0]
        if layout is not None and (len(layout.rows), layout.steps[self.found.step][1] - start) != (rows, length):
            raise perturb.NotMeasurable(f"the module's input is {rows} x {length} tokens, not that of the batch")
        if start:
            raise perturb.NotMeasurable("keys that a cache holds do not come from the module's own input")
        module = type(call.module).__name__
        observation = CallObservation(
            place[0], place[1], self.found.step, module, Method.PERTURBATION, q_len=length, masks=()
        )
        if broken := perturb.broken(call, output):
            return replace(observation, nan_rows=broken)
        self._afford(perturb.need(call))
        work = hidden.numel() * (8.0 * hidden.shape[-1] + 4.0 * length) * len(perturb.SIZES)
        runs = min(self.plan.reruns, max(FEWEST, affordable(work, hidden)))
        chosen = [
            choice.choose(None if layout is None else layout.rows[row], length, start, runs, self.plan.marks)
            for row in range(rows)
        ]
        masks = perturb.read(call, chosen, self.plan.seed)
        self.found.singly += sum(len(entry.channel) - sum(g.bit_count() for g in entry.coarse) for entry in chosen)
        self.found.keys += sum(len(entry.channel) for entry in chosen)
        return replace(observation, masks=masks)

    # What to read ---------------------------------------------------------------------------------

    def _wanted(self, place: Place, same: Any) -> bool:
        """True for a call to be read; one that repeats a call read before is noted as alike."""
        part, layer = place
        key = (part, (self.found.step, self.plan.kinds.get(place), same))
        asked = self.plan.layers is None or layer in self.plan.layers
        if key in self.known and (self.plan.layers is None or not asked):
            other, observation = self.known[key]
            if observation is not None:
                self.found.alike[place] = other
                self.found.calls.append(replace(observation, layer=layer))
            return False
        if not asked or part is Part.VISION:
            return False
        kinds = sum(1 for of, (step, *_) in self.known if of is part and step == self.found.step)
        if self.plan.layers is None and kinds >= self.plan.most:
            self.found.fail(f"more than {self.plan.most} different attention calls: the others were not read")
            return False
        self.known[key] = place, None
        return True

    def _keep(self, place: Place, same: Any, observation: CallObservation, method: Method) -> None:
        self.known[place[0], (self.found.step, self.plan.kinds.get(place), same)] = place, observation
        self.found.read[place] = method
        self.found.calls.append(observation)

    def _chosen(self, place: Place, replay: Replay) -> list[choice.Chosen]:
        """The keys and queries to read, for each batch row."""
        rows, keys, length = replay.query.shape[0], replay.key.shape[2], replay.query.shape[2]
        layout = self.plan.layouts.get(place[0])
        stop = keys if layout is None else layout.steps[min(self.found.step, len(layout.steps) - 1)][1]
        times = affordable(2.0 * replay.query.numel() // replay.query.shape[-1] * keys * _widths(replay), replay.query)
        first, channels = max(0, stop - keys), min(self.plan.repetitions, times) * reader.width(replay)
        while channels > reader.width(replay) and reader.need(replay, channels) > self.plan.memory:
            channels //= 2
        # Bitsets of all queries, as read, as declared and while they are compared, for every row.
        most = max(64, self.plan.memory // max(1, 4 * rows * keys // 8))
        found = []
        for row in range(rows):
            tokens = layout.rows[row] if layout is not None and row < len(layout.rows) else None
            entry = choice.choose(tokens, keys, first, channels, self.plan.marks)
            kept = choice.queries(length, most, tokens, stop - length, self.plan.marks)
            found.append(choice.Chosen(entry.channel, entry.coarse, kept))
        return found

    def _afford(self, need: int) -> None:
        if need > self.plan.memory:
            size, limit = (f"{count / 2**20:.0f} MiB" for count in (need, self.plan.memory))
            raise MemoryError(f"reading it takes up to {size}, allowed are {limit}: raise memory=, or pass fewer rows")
        self.found.need = max(self.found.need, need)

    def _failed(self, module: Any, error: Exception) -> None:
        kind = (
            "" if isinstance(error, perturb.NotMeasurable | reader.Unreadable | MemoryError) else type(error).__name__
        )
        said = f"{kind}: {_first_line(error)}" if kind else _first_line(error)
        self.found.fail(f"{type(module).__name__} could not be read: {said}")


def _coarsest(query: Tensor, output: Any) -> torch.dtype:
    """The number format of a call: under autocast it computes in that of its output, whatever its inputs have."""
    result = output[0] if isinstance(output, tuple) else output
    return min((query.dtype, result.dtype), key=lambda dtype: -torch.finfo(dtype).eps)


def _widths(replay: Replay) -> int:
    return int(replay.query.shape[-1] + replay.value.shape[-1])


def _as_compiled(name: str, query: Any) -> Any:
    """flex_attention on a GPU exists in compiled form; uncompiled it would need memory for every score."""
    compiled = name == flex_masks.FLEX and isinstance(query, Tensor) and query.device.type == "cuda"
    return state.compiled() if compiled else nullcontext()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
