"""Reading masks of models that bypass the attention interface, from how layer inputs influence layer outputs.

Only the union over heads shows, and nothing of the softmax terms. A query's own key always counts as visible, because
the block's residual connection carries it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.reading.blocks import Block, blocks
from attncheck.probe.reading.kernel import bitsets
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import CallObservation, HeadMask, Method
from attncheck.semantics.spec import Part

#: Influence relative to the size of the outputs. In fp32 forbidden cells stay below 4.8e-7 and visible ones begin at
#: 9.6e-5 (110 model types, default initialisation). A cell between the two bounds is undecided.
_SURELY_HIDDEN = 2e-6
_SURELY_SEEN = 2e-5

_CACHES = ("past_key_values", "cache_params", "past_key_value")


class NotMeasurable(Exception):
    """The black box cannot read this model or input; the message says why."""


def observe(
    model: Any, inputs: Mapping[str, Any], *, part: Part = Part.DECODER, step: int = 0, seed: int = 0
) -> list[CallObservation]:
    """One observation per layer of `part`, masks of all batch rows, with `Method.PERTURBATION` or `JACOBIAN`.

    inputs: the arguments of one whole forward call, batch first; any cache object makes it not measurable. Perturbation
    is tried first in float32; half precision, and influences too small to tell, go to the Jacobian. The model is left
    as it was. Raises NotMeasurable; what the model itself raises passes through.
    """
    if part is Part.CROSS:
        raise NotMeasurable("cross-attention shows in no layer boundary of its own")
    if any(inputs.get(name) is not None for name in _CACHES):
        raise NotMeasurable("with a cache, keys do not come from the layer's input")
    stack = blocks(model, part)
    if not stack:
        raise NotMeasurable(f"no repeated {part.value} layers were found in {type(model).__name__}")
    rows, _ = _batch(model, inputs, part)
    read = [_read_row(model, stack, _one_row(inputs, row, rows), part, seed) for row in range(rows)]
    observations = []
    for block in stack:
        masks = tuple(HeadMask(row, (), found[block.index][1]) for row, found in enumerate(read))
        methods = {found[block.index][0] for found in read}
        keep = masks[0].keep
        observations.append(
            CallObservation(
                part=part,
                layer=block.index,
                step=step,
                module=type(block.module).__name__,
                method=Method.JACOBIAN if Method.JACOBIAN in methods else Method.PERTURBATION,
                q_len=keep.q_len,
                masks=masks,
            )
        )
    return observations


def _read_row(
    model: Any, stack: tuple[Block, ...], inputs: Mapping[str, Any], part: Part, seed: int
) -> list[tuple[Method, KeepMask]]:
    """Method and mask of each layer for one batch row."""
    _, length = _batch(model, inputs, part)
    wide = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    if wide in (torch.float32, torch.float64):
        influence = [_scaled(*pair) for pair in _perturbed(model, stack, inputs, length, seed)]
        if all(bool(((cells < _SURELY_HIDDEN) | (cells > _SURELY_SEEN)).all()) for cells in influence):
            return [(Method.PERTURBATION, _mask(cells > _SURELY_SEEN)) for cells in influence]
    return [(Method.JACOBIAN, _mask(cells != 0)) for cells in _jacobian(model, stack, inputs, length, seed)]


def _perturbed(
    model: Any, stack: tuple[Block, ...], inputs: Mapping[str, Any], length: int, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Per layer: influence (queries x keys, largest change of output i when input j is noise), and the output's size.

    Runs the model once on `length + 1` equal rows; each layer gets row 0 in all of them, with noise at position j in
    row j + 1.
    """
    found: list[tuple[Tensor, Tensor]] = []
    generator = torch.Generator().manual_seed(seed)

    def before(hidden: Tensor) -> Tensor:
        _check(hidden, length + 1, length)
        noise = torch.randn(length, hidden.shape[-1], generator=generator).to(hidden) * hidden[0].std()
        changed = hidden[:1].expand_as(hidden).clone()
        each = torch.arange(length, device=hidden.device)
        changed[each + 1, each] = noise
        return changed

    def after(hidden: Tensor) -> None:
        _check(hidden, length + 1, length)
        difference = (hidden[1:] - hidden[:1]).abs().amax(-1)
        found.append((difference.T.double(), hidden[0].abs().max().double()))

    with torch.no_grad(), _hooked(stack, before, after):
        _run(model, _repeated(inputs, length + 1))
    return _complete(found, stack)


def _jacobian(model: Any, stack: tuple[Block, ...], inputs: Mapping[str, Any], length: int, seed: int) -> list[Tensor]:
    """Per layer: size of the derivative of output i by input j, queries x keys; exactly zero where j is hidden.

    Runs the model once on equal rows; row i answers for output i, so one backward per layer gives the matrix. One row
    more than tokens tells batch-first from time-major layers.
    """
    leaves: list[Tensor] = []
    outputs: list[Tensor] = []

    def before(hidden: Tensor) -> Tensor:
        _check(hidden, length + 1, length)
        leaf = hidden[:1].detach().expand_as(hidden).clone().requires_grad_()
        leaves.append(leaf)
        return leaf

    def after(hidden: Tensor) -> None:
        _check(hidden, length + 1, length)
        outputs.append(hidden)

    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad(), _hooked(stack, before, after):
        _run(model, _repeated(inputs, length + 1))
    found = []
    each = torch.arange(length, device=leaves[0].device) if leaves else None
    for leaf, output in zip(leaves, outputs):
        upstream = torch.zeros_like(output)
        upstream[each, each] = torch.randn(length, output.shape[-1], generator=generator).to(output)
        try:
            (slope,) = torch.autograd.grad(output, leaf, upstream)
        except RuntimeError as error:
            raise NotMeasurable(f"the layer's backward cannot run: {str(error).partition(chr(10))[0]}") from error
        if not bool(slope.isfinite().all()):
            raise NotMeasurable("the layer's backward gives NaN or Inf")
        found.append(slope[:length].abs().amax(-1))
    return _complete(found, stack)


@contextmanager
def _hooked(
    stack: tuple[Block, ...], before: Callable[[Tensor], Tensor], after: Callable[[Tensor], None]
) -> Iterator[None]:
    """Pass each layer's hidden states through `before`, and show its output to `after`."""

    def enter(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args and isinstance(args[0], Tensor):
            return (before(args[0]), *args[1:]), kwargs
        if isinstance(kwargs.get("hidden_states"), Tensor):
            return args, {**kwargs, "hidden_states": before(kwargs["hidden_states"])}
        raise NotMeasurable(f"{type(module).__name__} is not called with hidden states first")

    def leave(module: Any, args: tuple[Any, ...], output: Any) -> None:
        first = output[0] if isinstance(output, tuple | list) else output
        if not isinstance(first, Tensor):
            raise NotMeasurable(f"{type(module).__name__} returns no hidden states")
        after(first)

    with ExitStack() as undo:
        for block in stack:
            undo.callback(block.module.register_forward_pre_hook(enter, with_kwargs=True).remove)
            undo.callback(block.module.register_forward_hook(leave).remove)
        yield


def _check(hidden: Tensor, batch: int, length: int) -> None:
    if hidden.dim() != 3 or tuple(hidden.shape[:2]) != (batch, length):
        raise NotMeasurable(f"hidden states of shape {tuple(hidden.shape)}, expected ({batch}, {length}, width)")


def _complete(found: list[Any], stack: tuple[Block, ...]) -> list[Any]:
    if len(found) != len(stack):
        raise NotMeasurable(f"{len(found)} layer calls for {len(stack)} layers")
    return found


def _scaled(influence: Tensor, size: Tensor) -> Tensor:
    if not bool(influence.isfinite().all()) or not bool(size > 0):
        raise NotMeasurable("the layer's output is NaN, Inf or all zero")
    return influence / size


def _mask(seen: Tensor) -> KeepMask:
    return KeepMask(tuple(bitsets(seen.cpu())), seen.shape[-1])


def _run(model: Any, inputs: Mapping[str, Any]) -> None:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        model(**inputs)
    finally:
        for module, training in modes:
            module.training = training


def _batch(model: Any, inputs: Mapping[str, Any], part: Part) -> tuple[int, int]:
    """Batch rows and tokens of the stack."""
    decoder = bool(getattr(model.config, "is_encoder_decoder", False)) and part is Part.DECODER
    for name in ("decoder_input_ids", "decoder_inputs_embeds") if decoder else ("input_ids", "inputs_embeds"):
        if isinstance(inputs.get(name), Tensor):
            return int(inputs[name].shape[0]), int(inputs[name].shape[1])
    raise NotMeasurable("the inputs hold no tokens")


def _one_row(inputs: Mapping[str, Any], row: int, rows: int) -> dict[str, Any]:
    """The inputs of one batch row, still with a batch dimension; what all rows share stays whole."""

    def cut(value: Any) -> Any:
        shared = not isinstance(value, Tensor) or value.dim() == 0 or value.shape[0] != rows
        return value if shared else value[row : row + 1]

    return {name: cut(value) for name, value in inputs.items()}


def _repeated(inputs: Mapping[str, Any], times: int) -> dict[str, Any]:
    def repeat(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dim() == 0 or value.shape[0] != 1:
            return value
        return value.expand(times, *value.shape[1:]).contiguous()

    return {name: repeat(value) for name, value in inputs.items()}
