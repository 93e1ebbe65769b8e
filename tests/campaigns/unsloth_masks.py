"""Batches for a live causal model, the mask each asks for, and the mask that ran, read black-box in two ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attncheck.semantics.keepmask import KeepMask

PADS, PREFIX = 5, 12


@dataclass(frozen=True)
class Batch:
    """One batch row. asked: queries x keys of booleans. real: tokens that are no padding."""

    kwargs: dict[str, Any]
    asked: Tensor
    real: Tensor = field(default_factory=lambda: torch.ones(0, dtype=torch.bool))


def batch(name: str, tokens: int, window: int | None, wanted: str, device: str, dtype: torch.dtype) -> Batch:
    """A batch by name (`unsloth_cases.EVERY`). wanted: "full" where every key shall be visible without a mask."""
    place = torch.arange(tokens)
    distance = place[:, None] - place[None, :]
    full = torch.ones(tokens, tokens, dtype=torch.bool)
    behind = full if window is None else distance < window  # masks of the caller's respect the window too
    declared = (
        behind & (distance > -window if window is not None else full) if wanted == "full" else (distance >= 0) & behind
    )
    document = place // (tokens // 2)
    block = (distance >= 0) & (document[:, None] == document[None, :])
    prefix = (distance >= 0) | ((place < PREFIX)[:, None] & (place < PREFIX)[None, :])
    ids = (place * 7 % 113)[None].to(device)
    real = full[0].clone()
    ones = torch.ones(1, tokens, dtype=torch.long)
    extra: dict[str, Any] = {}
    asked = declared
    if name == "ones":
        extra = {"attention_mask": ones}
    elif name in ("left-pad", "right-pad"):
        real[slice(0, PADS) if name == "left-pad" else slice(tokens - PADS, tokens)] = False
        asked = declared & real[None, :]
        extra = {"attention_mask": real[None].long()}
    elif name.partition("-")[0] in ("full", "block", "prefix"):
        asked = behind & {"full": full, "block": block, "prefix": prefix}[name.partition("-")[0]]
        additive = torch.where(asked, 0.0, torch.finfo(dtype).min).to(dtype)
        extra = {"attention_mask": (asked if name.endswith("bool") else additive)[None, None]}
    elif name.startswith("packed"):
        asked = declared & (document[:, None] == document[None, :])
        extra = {"position_ids": (place % (tokens // 2))[None]}
        if name == "packed-lengths":
            extra["packed_seq_lengths"] = torch.tensor([tokens // 2, tokens // 2], dtype=torch.int32)
    on_device = {key: value.to(device) for key, value in extra.items()}
    return Batch({"input_ids": ids, **on_device}, asked, real)


def last_layer(model: Any) -> Any:
    """The last decoder layer below adapters."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.model.layers[-1]


def swapped(model: Any, given: Batch, labels: bool) -> Tensor:
    """The mask of a one-layer model: which outputs of the layer change when one token is exchanged for another.

    A second, unchanged run shows how much outputs change by themselves (nothing, else it is the threshold).
    """
    ids = given.kwargs["input_ids"]
    tokens = ids.shape[1]
    clean = _hidden(model, given.kwargs, labels)
    limit = 4 * float((_hidden(model, given.kwargs, labels) - clean).abs().max())
    seen = torch.zeros(tokens, tokens, dtype=torch.bool)
    for key in range(tokens):
        other = ids.clone()
        other[0, key] = (other[0, key] + 13) % 113
        moved = (_hidden(model, {**given.kwargs, "input_ids": other}, labels) - clean).abs().amax(-1)
        seen[:, key] = (moved > limit).cpu()
    return seen


def by_gradients(model: Any, given: Batch) -> Tensor:
    """The mask of a one-layer model in training by its backward, checkpointing included: d output / d embedding."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    tokens = given.kwargs["input_ids"].shape[1]
    seen = torch.zeros(tokens, tokens, dtype=torch.bool)
    kept: list[Tensor] = []

    def keep(module: Any, args: Any, output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        kept.append(leaf)
        return leaf * 1.0  # Unsloth detaches leaves

    for query in range(tokens):
        kept.clear()
        handle = inner.model.embed_tokens.register_forward_hook(keep)
        try:
            hidden = _hidden(model, given.kwargs, labels=False, grad=True)
        finally:
            handle.remove()
        noise = torch.randn(hidden.shape[-1], generator=torch.Generator().manual_seed(query)).to(hidden)
        (hidden[0, query] * noise).sum().backward()
        seen[query] = (kept[0].grad[0] != 0).any(-1).cpu()
    for parameter in model.parameters():
        parameter.grad = None
    return seen


def _hidden(model: Any, kwargs: dict[str, Any], labels: bool, grad: bool = False) -> Tensor:
    """The output of the last layer, tokens x width (with gradients: 1 x tokens x width)."""
    found: list[Tensor] = []

    def look(module: Any, args: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    handle = last_layer(model).register_forward_hook(look)
    given = {name: value.clone() if isinstance(value, Tensor) else value for name, value in kwargs.items()}
    if labels:
        given["labels"] = given["input_ids"].clone()
    try:
        with torch.set_grad_enabled(grad):
            model(**given)
    finally:
        handle.remove()
    return found[0] if grad else found[0][0].float()


def words(mask: Tensor, asked: Tensor, real: Tensor) -> dict[str, Any]:
    """A mask as plain data: reach, cells, rows, and whether real tokens see what was asked for.

    A query's own key always shows as visible (it carries the query), so the diagonal is not judged.
    """
    keep = KeepMask.from_rows(mask.tolist(), mask.shape[1])
    wanted = KeepMask.from_rows(asked.tolist(), asked.shape[1])
    beside = ~torch.eye(len(mask), dtype=torch.bool)
    judged = real[:, None] & beside
    left, right = keep.reach()
    return {
        "left": left,
        "right": right,
        "cells": keep.count(),
        "asked_cells": wanted.count(),
        "as_asked": bool((mask & judged == asked & judged).all()),
        "leaked": int((mask & ~asked & judged).sum()),
        "missed": int((asked & ~mask & judged).sum()),
        "rows": [format(row, "x") for row in keep.rows],
    }
