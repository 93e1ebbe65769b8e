"""Turns a scenario variant into tensors and runs its forward calls on a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from attncheck.probe.caches import NotFeedable, cache_argument, generation_cache, static_cache
from attncheck.probe.generation import Generated, generate
from attncheck.probe.scenario import CacheInput, MaskInput, Stack, Subject, Variant
from attncheck.semantics.layout import PAD, Layout

#: Token ids are drawn from here (exclusive end): tiny vocabularies hold 128 ids, the special ones below 64.
TOKEN_IDS = (64, 120)


class Feeder:
    """Feeds variants to the models of one subject: same tokens for every implementation, drawn from `seed`.

    device, dtype: those of the model; dtype is that of additive masks.
    """

    def __init__(self, subject: Subject, *, device: str, dtype: torch.dtype, seed: int) -> None:
        self._subject = subject
        self._device = device
        self._dtype = dtype
        self._seed = seed
        self._drawn: dict[tuple[str, Layout], torch.Tensor] = {}
        prefix = "decoder_" if subject.stack is Stack.ENCODER_DECODER else ""
        self._sliced = (f"{prefix}input_ids", f"{prefix}attention_mask", f"{prefix}position_ids")

    def run(self, model: Any, variant: Variant, begin: Callable[[int], None]) -> None:
        """Every forward call of the variant, in order; `begin` gets the step number before each.

        A cache that `generate()` would make comes with `cache_position`, as it does there. Raises NotFeedable when the
        model gives nothing to go on with, and what the model raises.
        """
        layout = variant.main
        first = self.inputs(variant)
        state = {name: value for name, value in first.items() if name not in self._sliced}
        cache = self._cache(model, variant)
        if cache is not None:
            state[cache_argument(self._subject.forward_args)] = cache
        # A hybrid cache counts its tokens in a sliding layer: without positions, the next one lands in the wrong slot.
        told = variant.cache is CacheInput.DEFAULT and cache is not None
        for step, (start, stop) in enumerate(layout.steps):
            begin(step)
            if told and "cache_position" in self._subject.forward_args:
                state["cache_position"] = torch.arange(start, stop, device=self._device)
            with self._encoder_heard(model, state) as heard:
                output = model(**state, **self._step(first, start, stop))
            if stop < layout.length:
                state = self._continued(state, output, heard)

    def generate(self, model: Any, variant: Variant, begin: Callable[[int], None]) -> Generated:
        """The variant by the model's own `generate()`; `begin` gets the step number before each forward call.

        Raises NotFeedable where it has none, or where rounding would move what is compared.
        """
        if self._dtype not in (torch.float32, torch.float64):
            raise NotFeedable("outputs with and without a cache are compared in float32 only: --dtype float32")
        if not callable(getattr(model, "generate", None)):
            raise NotFeedable(f"{type(model).__name__} has no generate()")
        layout = variant.main
        prompt = self._tokens("main", layout)[:, : layout.steps[0][1]]
        return generate(model, prompt, layout, variant.generate, begin)

    def spill(self, model: Any, variant: Variant) -> float | None:
        """How far other padding tokens move the outputs of real ones, relative to the largest output.

        Two fillings of ordinary tokens are compared, since some types read positions off the padding id. None where no
        output runs along the tokens.
        """
        layout = variant.main
        inputs = self.inputs(variant)
        tokens, real = inputs[self._sliced[0]], real_tokens(layout, self._device).bool()
        outputs = []
        for filling in TOKEN_IDS[0], TOKEN_IDS[0] + 1:
            inputs[self._sliced[0]] = torch.where(real, tokens, min(filling, self._subject.info.vocab_size - 2))
            with torch.no_grad():
                outputs.append(_along(model(**inputs), len(layout.rows), layout.length))
        one, other = outputs
        if one is None or other is None:
            return None
        difference = (one - other)[real].abs().max()
        return float(difference / one[real].abs().max().clamp_min(torch.finfo(one.dtype).tiny))

    def inputs(self, variant: Variant) -> dict[str, Any]:
        """The arguments of one forward call over all tokens, without a cache object."""
        layout = variant.main
        tokens, mask, positions = self._sliced
        inputs = {**self._encoder_inputs(variant), **dict(variant.forward), tokens: self._tokens("main", layout)}
        if variant.mask is not MaskInput.NONE:
            inputs[mask] = self._mask(variant, layout)
        if variant.positions is not None:
            inputs[positions] = torch.tensor(variant.positions, device=self._device)
        wanted = variant.cache is not CacheInput.OFF
        if "use_cache" in self._subject.forward_args or self._hands_on(wanted):
            inputs["use_cache"] = wanted
        return inputs

    def _hands_on(self, wanted: bool) -> bool:
        """True where `use_cache` goes to a model inside; encoders that get it too refuse True (switch_transformers)."""
        return self._subject.hands_on_use_cache and not (wanted and self._subject.stack is Stack.ENCODER_DECODER)

    def _step(self, inputs: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
        """Those of `inputs` that run along the tokens, for the tokens start..stop (exclusive).

        Contiguous, as `generate()` feeds them: some models take views of them.
        """
        tokens, mask, positions = self._sliced
        step = {tokens: inputs[tokens][:, start:stop].contiguous()}
        if (given := inputs.get(mask)) is not None:
            step[mask] = (given[:, :stop] if given.dim() == 2 else given[:, :, start:stop, :stop]).contiguous()
        if (given := inputs.get(positions)) is not None:
            step[positions] = given[:, start:stop].contiguous()
        return step

    def _cache(self, model: Any, variant: Variant) -> Any | None:
        """The cache to begin with; None where the model makes its own or none is wanted."""
        arguments = (model, len(variant.main.rows), self._device, self._dtype)
        if variant.cache is CacheInput.STATIC:
            return static_cache(*arguments)
        if variant.cache is CacheInput.DEFAULT and len(variant.main.steps) > 1:
            return generation_cache(*arguments)
        return None

    @contextmanager
    def _encoder_heard(self, model: Any, state: dict[str, Any]) -> Iterator[list[Any]]:
        """What the encoder of an encoder-decoder returns while it lasts; some decoders want all of it back."""
        heard: list[Any] = []
        encoder = model.get_encoder() if self._subject.stack is Stack.ENCODER_DECODER and "input_ids" in state else None
        if encoder is None:
            yield heard
            return
        handle = encoder.register_forward_hook(lambda module, inputs, output: heard.append(output))
        try:
            yield heard
        finally:
            handle.remove()

    def _continued(self, state: dict[str, Any], output: Any, heard: list[Any]) -> dict[str, Any]:
        """The arguments of the next forward call: the cache, and the encoder's output instead of its input."""
        name = cache_argument(self._subject.forward_args)
        cache = getattr(output, name, None)
        if cache is None and name not in state:
            raise NotFeedable(f"the model returned no {name} although use_cache was set")
        state = dict(state) if cache is None else {**state, name: cache}
        if heard:
            del state["input_ids"]
            state["encoder_outputs"] = heard[-1]
        return state

    def _encoder_inputs(self, variant: Variant) -> dict[str, Any]:
        """The encoder's tokens and its padding mask, for encoder-decoders; nothing for the others."""
        if self._subject.stack is not Stack.ENCODER_DECODER:
            return {}
        layout = variant.encoder
        if layout is None:
            raise ValueError(f"variant {variant.name} has no encoder layout")
        inputs: dict[str, Any] = {"input_ids": self._tokens("encoder", layout)}
        if variant.mask in (MaskInput.ONES, MaskInput.PADDING):
            inputs["attention_mask"] = real_tokens(layout, self._device)
        return inputs

    def _tokens(self, role: str, layout: Layout) -> torch.Tensor:
        """Token ids of a layout, shape (rows, length), padding as the pad id."""
        if (role, layout) not in self._drawn:
            generator = torch.Generator().manual_seed(self._seed + len(role))
            high = min(TOKEN_IDS[1], self._subject.info.vocab_size)
            low = min(TOKEN_IDS[0], high // 2)
            drawn = torch.randint(low, high, (len(layout.rows), layout.length), generator=generator)
            real = real_tokens(layout, "cpu").bool()
            pad = self._subject.info.pad_token_id or 0
            self._drawn[role, layout] = drawn.masked_fill(~real, pad).to(self._device)
        return self._drawn[role, layout]

    def _mask(self, variant: Variant, layout: Layout) -> torch.Tensor:
        """`attention_mask` over the whole sequence: (rows, length), or (rows, 1, length, length)."""
        if variant.mask in (MaskInput.ONES, MaskInput.PADDING):
            return real_tokens(layout, self._device)
        if variant.mask is MaskInput.INDEX:
            return torch.tensor(
                [[document + 1 for document in row.document] for row in layout.rows], device=self._device
            )
        if variant.mask is MaskInput.BLOCKS:
            return self._additive(same_document(layout, self._device))
        keep = torch.tensor(
            [
                [[row.custom.keeps(i, j) for j in range(layout.length)] for i in range(layout.length)]
                for row in layout.rows
                if row.custom is not None
            ],
            device=self._device,
        )[:, None]
        if variant.mask is MaskInput.BOOLEAN:
            return keep
        return self._additive(keep)

    def _additive(self, keep: torch.Tensor) -> torch.Tensor:
        """0 where a key is kept and the dtype's smallest number elsewhere."""
        return torch.zeros(keep.shape, dtype=self._dtype, device=self._device).masked_fill(
            ~keep, torch.finfo(self._dtype).min
        )


def same_document(layout: Layout, device: str) -> torch.Tensor:
    """True for keys of the query's own document up to the query itself; bool of shape (rows, 1, length, length)."""
    document = torch.tensor([row.document for row in layout.rows], device=device)
    causal = torch.ones(layout.length, layout.length, dtype=torch.bool, device=device).tril()
    return ((document[:, None] == document[:, :, None]) & (document != PAD)[:, None] & causal)[:, None]


def _along(output: Any, rows: int, length: int) -> torch.Tensor | None:
    """The first output that has one vector a token."""
    found = (v for v in output.values() if isinstance(v, torch.Tensor) and v.is_floating_point() and v.dim() == 3)
    return next((value for value in found if tuple(value.shape[:2]) == (rows, length)), None)


def real_tokens(layout: Layout, device: str) -> torch.Tensor:
    """1 for real tokens, 0 for padding; int64 of shape (rows, length)."""
    return torch.tensor([[int(document != PAD) for document in row.document] for row in layout.rows], device=device)
