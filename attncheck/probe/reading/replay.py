"""One live attention call, repeated with inputs of our own and everything else as the framework passed it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.kernels import launched
from attncheck.probe.reading import gradients, kernel, logits, scalars, sdpa_kernels
from attncheck.probe.reading.reference import Terms, interleaved
from attncheck.probe.reading.requested import additive_bias, given_sinks
from attncheck.semantics.observation import GradientObservation, SoftmaxObservation
from attncheck.semantics.tolerances import RAISED, tolerances

#: Head size of gradient checks of flash kernels in tiny models, one that all of them have tiles for. The 16 of a tiny
#: model takes paths that no larger size takes: on an H100 flash-attn 4.0.0b36 gives wrong gradients there, as it does
#: wherever rounding up to 16 and to 32 differ (flash-attention PR #2896). True head sizes have probes of their own.
TILED = 64
#: Arguments that the repeated call must not see: a paged cache would be updated twice, and weights are not wanted.
_DROPPED = ("cache", "output_attentions")


@dataclass(slots=True)
class Replay:
    """A live call that can be repeated.

    function: the real attention function. query, key, value: as passed (batch x heads x tokens x width); they give
    shapes, layout, dtype and device. given_mask: the mask argument, or
    nothing. rest, kwargs: the other arguments. seed: of synthetic inputs. made: those made so far, shared by the calls
    of a probe. any_width: values may be wider than the call's own, so that one repetition reads all keys. dtype: in
    which the function really computes, where that is not the one of its inputs (autocast). tiled: check the backward
    with heads of `TILED`, whatever the call has.
    """

    function: Callable[..., Any]
    module: Any
    query: Tensor
    key: Tensor
    value: Tensor
    given_mask: tuple[Any, ...]
    rest: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    seed: int
    made: dict[Any, Any] = field(default_factory=dict)
    any_width: bool = False
    dtype: torch.dtype | None = None
    tiled: bool = False

    @property
    def mask(self) -> Any:
        """The mask argument; None too where the call names none."""
        return self.given_mask[0] if self.given_mask else None

    @property
    def scale(self) -> float:
        """The requested factor on q.k; the usual `head_dim ** -0.5` where the call names none."""
        for given in (self.kwargs.get("scaling"), getattr(self.module, "scaling", None)):
            if isinstance(given, int | float) and given:
                return float(given)
        width: int = self.query.shape[-1]
        return 1 / math.sqrt(width)

    def call(self, query: Tensor, key: Tensor, value: Tensor, *, silent: bool = False) -> Tensor:
        """The real function on these inputs, output with heads before queries.

        silent: without dropout. Otherwise dropout is as passed, except in train mode, where it is meant and left out.
        """
        kwargs = {name: given for name, given in self.kwargs.items() if name not in _DROPPED}
        if kwargs.get("dropout") and (silent or self.module.training):
            kwargs["dropout"] = 0.0
        output = self.function(self.module, query, key, value, *self.given_mask, *self.rest, **kwargs)
        heads_last = output[0] if isinstance(output, tuple) else output
        batch, heads, queries = query.shape[:3]
        return torch.as_tensor(heads_last).reshape(batch, queries, heads, -1).transpose(1, 2)

    def silent(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As `call`, without dropout."""
        return self.call(query, key, value, silent=True)

    def flat_matrix(self) -> Tensor:
        """P with all logits equal before the mask."""
        return self._probability(*self.flat_inputs())

    def spread_matrix(self) -> Tensor:
        """P with scaled logits of about N(0, 1)."""
        return self._probability(*self.spread_inputs())

    def flat_inputs(self) -> tuple[Tensor, Tensor]:
        """Synthetic query and key, see `logits.flat`."""
        return self._inputs("flat", lambda: logits.flat(self.query, self.key))

    def spread_inputs(self, base: float = 0.0, scale: float | None = None) -> tuple[Tensor, Tensor]:
        """Synthetic query and key, see `logits.spread`; scale: the requested one by default."""
        factor = self.scale if scale is None else scale
        return self._inputs((base, factor), lambda: logits.spread(self.query, self.key, factor, self.seed, base))

    def judged(self, matrix: Tensor, empty: Tensor | None) -> Tensor:
        """Batch x queries of booleans: rows with visible keys and without NaN.

        empty: rows to which the requested mask leaves no key (batch x queries), where implementations differ freely.
        """
        seen = matrix.isfinite().all(-1).all(1) & (matrix > 0).any(-1).any(1)
        if empty is not None:
            seen = seen & ~empty
        return seen

    def fit(self, plain: Tensor, empty: Tensor | None) -> tuple[SoftmaxObservation | None, float]:
        """The softmax terms, `plain` being `spread_matrix()`, and the share of cells that differ between readings."""
        dtype = self.dtype or self._coarsest()
        found = kernel.head_map(self.silent, *self.flat_inputs(), self.value)
        kv_heads = found or interleaved(self.query.shape[1], self.key.shape[1])
        first = scalars.Reading(_dots(*self.spread_inputs(), kv_heads), plain.double())
        known = scalars.Known(
            lift=RAISED / self.scale,
            bias=additive_bias(self.mask, self.kwargs, self.key),
            sinks=given_sinks(self.module, self.kwargs),
            rows=self.judged(plain, empty),
            smallest=torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps,
        )
        begun = scalars.start(first, known)
        scale = self._near(begun.scale)
        lifted = self.spread_inputs(RAISED, scale)
        raised = self._probability(*lifted)
        known = replace(known, lift=RAISED / scale, rows=known.rows & self.judged(raised, empty))
        second = scalars.Reading(_dots(*lifted, kv_heads), raised.double())
        limits = tolerances(str(dtype).removeprefix("torch."))
        return scalars.fit(first, second, begun, known, limits, found), _unstable(plain, raised, known.rows)

    def gradient(self, matrix: Tensor, terms: SoftmaxObservation, empty: Tensor | None) -> GradientObservation:
        """The backward of the call; matrix: `spread_matrix()`, terms: what `fit` found."""
        if self.tiled:
            return self._widened(TILED).gradient(matrix, terms, empty)
        query, key = self.spread_inputs()
        bias = additive_bias(self.mask, self.kwargs, self.key)
        if bias is not None and terms.bias is not None:
            factor = torch.tensor(terms.bias, dtype=torch.float64, device=bias.device).nan_to_num(1.0)
            bias = bias * factor.view(1, -1, 1, 1)
        elif bias is None and terms.alibi is not None:
            slopes = torch.tensor(terms.alibi, dtype=torch.float64, device=key.device)
            bias = slopes.view(1, -1, 1, 1) * torch.arange(key.shape[2], dtype=torch.float64, device=key.device)
        measured = Terms(
            scale=torch.tensor(terms.scale, dtype=torch.float64, device=key.device),
            softcap=terms.softcap,
            bias=bias,
            sinks=self._sinks(terms),
            head_map=terms.head_map,
        )
        rows = self.judged(matrix, empty)
        return gradients.compare(self.silent, query, key, self.value, matrix > 0, rows, measured, self.seed + 1)

    def _widened(self, width: int) -> Replay:
        """The same call with heads of another size and the factor on q.k that it has now."""
        query, key, value = (
            tensor.new_zeros((*tensor.shape[:-1], width)) for tensor in (self.query, self.key, self.value)
        )
        scale = self.kwargs.get("scaling") or self.query.shape[-1] ** -0.5
        kwargs = {**self.kwargs, "scaling": scale}
        return replace(self, query=query, key=key, value=value, kwargs=kwargs, tiled=False)

    def kernel_used(self, implementation: str) -> str:
        """Name of the kernel below sdpa that the implementation picks by itself, "" where there is none."""
        query, key = self.flat_inputs()
        return sdpa_kernels.ran(lambda: self.silent(query, key, torch.zeros_like(self.value)), implementation)

    def launched(self) -> tuple[str, ...]:
        """Name of the CUDA kernel that does most of the call's work, as the profiler saw it; nothing on a CPU."""
        if self.query.device.type != "cuda":
            return ()
        query, key = self.flat_inputs()
        names = launched.launched(lambda: self.silent(query, key, torch.zeros_like(self.value)))
        return (launched.attention_kernel(names),) if names else ()

    def _coarsest(self) -> torch.dtype:
        """The dtype that rounds P: models that take the softmax in float32 hand it on in the dtype of the values."""
        return max((self.query.dtype, self.value.dtype), key=lambda dtype: torch.finfo(dtype).eps)

    def _probability(self, query: Tensor, key: Tensor) -> Tensor:
        if self.any_width and self.value.shape[2] > self.value.shape[3]:
            with suppress(Exception):  # a function that insists on its own width gets it below
                return kernel.probability(self.call, query, key, self.value, self.value.shape[2])
        return kernel.probability(self.call, query, key, self.value)

    def _near(self, measured: float) -> float:
        """The scale to design the raised reading with, so that it lifts by the full base even where the scale is wrong.

        The requested one if the measured one is close, else the measured one in two digits: few designs are made twice.
        """
        if not math.isfinite(measured) or measured <= 0 or abs(measured / self.scale - 1) < 0.1:
            return self.scale
        return float(f"{measured:.1e}")

    def _sinks(self, terms: SoftmaxObservation) -> Tensor | None:
        if terms.sinks is None:
            return None
        found = torch.tensor(terms.sinks, dtype=torch.float64, device=self.key.device)
        given = given_sinks(self.module, self.kwargs)
        if given is None or given.dim() == 1 or terms.expected_sinks is None:
            return found
        expected = torch.tensor(terms.expected_sinks, dtype=torch.float64, device=self.key.device)
        return given + (found - expected).view(1, -1, 1)

    def _inputs(self, what: Any, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Synthetic inputs; calls of equal shape share them."""
        key = (
            what, self.scale, self.seed, self.query.dtype, self.query.device,
            self.query.shape, self.query.stride(), self.key.shape, self.key.stride(),
        )  # fmt: skip
        if key not in self.made:
            self.made[key] = make()
        made: tuple[Tensor, Tensor] = self.made[key]
        return made


def _dots(query: Tensor, key: Tensor, kv_heads: tuple[int, ...]) -> Tensor:
    return query.double() @ key.double()[:, list(kv_heads)].transpose(-1, -2)


def _unstable(one: Tensor, other: Tensor, rows: Tensor) -> float:
    """Share of clearly visible cells of judged rows that are zero in one of two readings."""
    judged = rows[:, None, :, None]
    clear = (torch.maximum(one, other) > 1e-3) & judged
    lost = clear & ((one == 0) | (other == 0))
    count = int(clear.sum())
    return int(lost.sum()) / count if count else 0.0
