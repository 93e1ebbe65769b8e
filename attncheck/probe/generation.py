"""Runs `generate()` with a cache of a named kind, and compares what it computed with one pass without a cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.caches import NotFeedable
from attncheck.semantics.layout import Layout


@dataclass(frozen=True, slots=True)
class Generated:
    """What came out. tokens: prompt and what followed, batch x tokens. logits: of the last token of each call."""

    tokens: Tensor
    logits: tuple[Tensor, ...]


def generate(model: Any, prompt: Tensor, layout: Layout, kind: str, begin: Callable[[int], None]) -> Generated:
    """Greedy tokens after `prompt` in as many forward calls as the layout has steps; `begin` before each of them.

    kind: `cache_implementation` of `generate()`. Raises what the library raises, also for a kind that it does not know.
    """
    calls: list[Tensor] = []
    steps = len(layout.steps)

    def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        begin(len(calls))

    def after(module: Any, args: tuple[Any, ...], output: Any) -> None:
        calls.append(output.logits[:, -1].detach().clone())

    known = known_kinds()
    if known and kind not in known:
        raise NotFeedable(f"this transformers knows no kind of cache {kind!r}, only {', '.join(sorted(known))}")
    settings = {"max_new_tokens": steps, "min_new_tokens": steps, "do_sample": False, "pad_token_id": 0}
    handles = (model.register_forward_pre_hook(before, with_kwargs=True), model.register_forward_hook(after))
    try:
        mask = torch.ones_like(prompt)
        tokens = model.generate(input_ids=prompt, attention_mask=mask, cache_implementation=kind, **settings)
    finally:
        for handle in handles:
            handle.remove()
        # Some versions keep the cache on the model, and would use it again for another kind.
        vars(model).pop("_cache", None)
    return Generated(tokens, tuple(calls))


def known_kinds() -> frozenset[str]:
    """What this transformers takes as `cache_implementation`; empty where it keeps no list. Older ones do not check."""
    from transformers.generation import configuration_utils, utils

    for module, name in (
        (configuration_utils, "ALL_CACHE_IMPLEMENTATIONS"),
        (configuration_utils, "NEED_SETUP_CACHE_CLASSES_MAPPING"),
        (utils, "NEED_SETUP_CACHE_CLASSES_MAPPING"),
    ):
        if listed := getattr(module, name, None):
            return frozenset(map(str, listed))
    return frozenset()


def drift(model: Any, generated: Generated) -> float:
    """Largest difference between the logits of generation and of one pass over the same tokens without a cache.

    Relative to the largest logit; infinite where one of them is NaN or Inf.
    """
    count = len(generated.logits)
    with torch.no_grad():
        whole = model(input_ids=generated.tokens[:, :-1], use_cache=False).logits[:, -count:]
    seen = torch.stack(generated.logits, 1)
    if seen.shape != whole.shape or not bool(seen.isfinite().all() & whole.isfinite().all()):
        return float("inf")
    return float((seen - whole).abs().max() / whole.abs().max())
