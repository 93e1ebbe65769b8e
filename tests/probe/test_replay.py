"""One call repeated at another head size: the backward of flash kernels, which pad the heads of a tiny model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from attncheck.probe.reading.replay import TILED, Replay

TOKENS, OWN = 12, 16


class Doubled(torch.autograd.Function):
    """Forward unchanged, backward times 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * 2


def replay(wrong_at: int, scaling: float | None, *, tiled: bool) -> Replay:
    """Causal attention whose gradients are twice too large at one head size; `scaling` as the model passes it."""

    def function(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> Tensor:
        width = query.shape[-1]
        output = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=kwargs.get("scaling")
        )
        return (Doubled.apply(output) if width == wrong_at else output).transpose(1, 2)  # type: ignore[no-untyped-call]

    given = (torch.zeros(1, 2, TOKENS, OWN) for _ in range(3))
    kwargs = {} if scaling is None else {"scaling": scaling}
    module = SimpleNamespace(training=False)
    return Replay(function, module, *given, (None,), (), kwargs, seed=0, tiled=tiled)


def worst(call: Replay) -> float:
    matrix = call.spread_matrix()
    terms, _ = call.fit(matrix, None)
    assert terms is not None
    found = call.gradient(matrix, terms, None)
    return max(found.dq, found.dk, found.dv)


@pytest.mark.parametrize("scaling", [None, 0.5])
@pytest.mark.parametrize(
    ("wrong_at", "tiled", "seen"),
    [(OWN, True, False), (TILED, True, True), (OWN, False, True), (TILED, False, False)],
)
def test_the_backward_is_judged_at_the_size_that_was_asked_for(
    wrong_at: int, scaling: float | None, tiled: bool, seen: bool
) -> None:
    found = worst(replay(wrong_at, scaling, tiled=tiled))
    assert found == pytest.approx(1, rel=0.01) if seen else found < 1e-4
