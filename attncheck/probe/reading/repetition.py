"""Recognises the attention in the operations of one module, and repeats it with other queries, keys and values."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from attncheck.probe.reading.computation import PRODUCTS, Found, Frame, snapshot
from attncheck.probe.reading.requested import PRESCALED

#: Arguments of modules that hold what is added to the logits, as transformers' attention functions call it.
_BIASES = ("position_bias",)


def fused(frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Found:
    """A call of `scaled_dot_product_attention` by the module. args, kwargs: as it made it; result: its output."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = {**dict(zip(names, args)), **kwargs}
    query, key, value = given.pop("query"), given.pop("key"), given.pop("value")
    mask = given.pop("attn_mask", None)
    # A key that carries a factor of its own (Whisper scales both) is part of the same whole.
    factor = frame.factor(query) * frame.factor(key)
    dropout = given.pop("dropout_p", 0.0)
    scale = given.pop("scale", None)

    def function(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any = None, **arguments: Any) -> Tensor:
        output = torch.nn.functional.scaled_dot_product_attention(
            query * factor, key, value, attn_mask=mask, dropout_p=arguments.get("dropout", 0.0), scale=scale, **given
        )
        return output.transpose(1, 2)

    asked = {"is_causal": bool(given.get("is_causal", False)), "dropout": dropout, PRESCALED: factor}
    if scale is not None:
        asked["scaling"] = scale * factor
    elif factor != 1.0:
        asked["scaling"] = factor * query.shape[-1] ** -0.5
    live = query / factor if factor != 1.0 else query
    return Found("sdpa", frame.module, function, live, key, value, mask, asked, result.transpose(1, 2))


def written_out(frame: Frame) -> Found | None:
    """The computation around the only softmax of the module; None where it is not the usual one."""
    soft = frame.soft
    assert soft is not None
    rows, keys = soft.shape[-2:]
    places = [
        number
        for number, (_, _, output) in enumerate(frame.products[: frame.before])
        if output.shape[-2:] == (rows, keys) and output.numel() == soft.numel()
    ]
    after = [
        number
        for number, (left, right, _) in enumerate(frame.products)
        if number >= frame.before and left.shape[-2:] == (rows, keys) and left.numel() == soft.numel()
        if right.shape[-2] == keys
    ]
    batch, tokens = _fed(frame)
    if len(places) != 1 or len(after) != 1 or tokens != rows:
        return None
    first, second = places[0], after[0]
    left, right, _ = frame.products[first]
    value, output = frame.products[second][1], frame.products[second][2]
    heads = soft.numel() // (batch * rows * keys)
    if heads * batch * rows * keys != soft.numel():
        return None
    width = left.shape[-1]
    shared = 1 if heads > 1 and right.numel() == batch * keys * width else heads  # one kv head for all, broadcast
    if left.numel() != batch * heads * rows * width or right.numel() != batch * shared * keys * width:
        return None
    if right.shape[-2] != width or value.numel() != batch * shared * keys * value.shape[-1]:
        return None
    factor = frame.factor(left) * frame.factor(right)
    replay = _Repetition(frame, first, second, factor, (left.shape[:-2], right.shape[:-2], value.shape[:-2]))
    biases = _biases(frame)
    given = [
        value for value in (*frame.args, *frame.kwargs.values()) if all(value is not bias for bias in biases.values())
    ]
    mask = next((value for value in given if isinstance(value, Tensor) and _is_mask(value, rows, keys)), None)
    return Found(
        "eager",
        frame.module,
        replay,
        left.reshape(batch, heads, rows, -1) / factor,
        right.transpose(-1, -2).reshape(batch, shared, keys, -1),
        value.reshape(batch, shared, keys, -1),
        mask,
        {PRESCALED: factor, **biases},
        output.reshape(batch, heads, rows, -1).transpose(1, 2),
        wide=True,
    )


def _biases(frame: Frame) -> dict[str, Any]:
    """The module's arguments that are added to the logits, wherever they stand in the call."""
    try:
        given = inspect.signature(frame.module.forward).bind(*frame.args, **frame.kwargs).arguments
    except (TypeError, ValueError):
        given = frame.kwargs
    return {name: given[name] for name in _BIASES if name in given}


def _is_mask(tensor: Tensor, rows: int, keys: int) -> bool:
    return tensor.dim() == 4 and tensor.shape[-1] >= keys and tensor.shape[-2] in (1, rows)


def _fed(frame: Frame) -> tuple[int, int]:
    """Batch rows and tokens of the module's hidden states, its first argument of that shape; zeros without one."""
    hidden = next((v for v in (*frame.args, *frame.kwargs.values()) if isinstance(v, Tensor) and v.dim() == 3), None)
    return (0, 0) if hidden is None else (int(hidden.shape[0]), int(hidden.shape[1]))


class _Enough(Exception):
    """A repeated forward pass came to the product that was wanted."""

    def __init__(self, output: Tensor) -> None:
        self.output = output


@dataclass(slots=True)
class _Repetition:
    """Runs the module's forward again up to the product with the values, with other operands in both products.

    outer: the leading sizes of left and right operand of the first product, and of the values.
    """

    frame: Frame
    first: int
    second: int
    factor: float
    outer: tuple[torch.Size, torch.Size, torch.Size]

    def __call__(self, module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        batch, heads, rows, _width = query.shape
        left = (query * self.factor).reshape(*self.outer[0], *query.shape[-2:])
        right = key.reshape(*self.outer[1], *key.shape[-2:]).transpose(-1, -2)
        values = value.reshape(*self.outer[2], *value.shape[-2:])
        frame = self.frame
        args = tuple(snapshot("", given) for given in frame.args)
        kwargs = {name: snapshot(name, given) for name, given in frame.kwargs.items()}
        try:
            with _Substitution({self.first: (left, right), self.second: (None, values)}, self.second):
                frame.module.forward(*args, **kwargs)
        except _Enough as found:
            return found.output.reshape(batch, heads, rows, -1).transpose(1, 2)
        raise RuntimeError(f"{type(module).__name__} did not repeat its products")


class _Substitution(TorchFunctionMode):  # type: ignore[misc]  # torch is untyped here
    """Puts operands into products by their number, and ends the pass with the output of the last one."""

    def __init__(self, operands: Mapping[int, tuple[Tensor | None, Tensor]], last: int) -> None:
        super().__init__()
        self._operands = operands
        self._last = last
        self._count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """As above: torch calls it, without the mode."""
        name = getattr(func, "__name__", "")
        if name not in PRODUCTS:
            return func(*args, **(kwargs or {}))
        number, self._count = self._count, self._count + 1
        if number in self._operands:
            places, named = list(args), dict(kwargs or {})
            for (at, word), operand in zip(PRODUCTS[name], self._operands[number]):
                holder, key = (places, at) if at < len(args) else (named, word)
                if operand is not None:
                    holder[key] = operand.to(holder[key].dtype)  # type: ignore[index]
            args, kwargs = tuple(places), named
        output = func(*args, **(kwargs or {}))
        if number == self._last:
            raise _Enough(output)
        return output
