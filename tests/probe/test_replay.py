"""One call repeated at another head size: the backward of flash kernels, which pad the heads of a tiny model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from attncheck.probe.reading.live import attention_probe
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


#: Head size at which the library's function below is wrong, and factor that the module passes to it.
CALLED: dict[str, Any] = {"wrong_at": 0}


def _flash_attention_forward(
    query_states: Tensor,
    key_states: Tensor,
    value_states: Tensor,
    attention_mask: Any,
    query_length: int,
    is_causal: bool,
    softmax_scale: float | None = None,
) -> Tensor:
    """By the name and arguments of transformers' own, which some modeling files call directly."""
    heads_first = (tensor.transpose(1, 2) for tensor in (query_states, key_states, value_states))
    output = torch.nn.functional.scaled_dot_product_attention(*heads_first, is_causal=True, scale=softmax_scale)
    wrong = query_states.shape[-1] == CALLED["wrong_at"]
    return (Doubled.apply(output) if wrong else output).transpose(1, 2)  # type: ignore[no-untyped-call]


class DirectAttention(torch.nn.Module):
    """Calls the library itself. scale: as passed on, None: not at all. factor: by which its queries are multiplied."""

    def __init__(self, scale: float | None, factor: float) -> None:
        super().__init__()
        self.layer_idx, self.scale, self.factor = 0, scale, factor
        self.q_proj, self.k_proj, self.v_proj = (torch.nn.Linear(2 * OWN, 2 * OWN) for _ in range(3))

    def forward(self, states: Tensor) -> Tensor:
        split = (proj(states).view(1, TOKENS, 2, OWN) for proj in (self.q_proj, self.k_proj, self.v_proj))
        query, key, value = split
        output = _flash_attention_forward(
            query * self.factor, key, value, None, TOKENS, is_causal=True, softmax_scale=self.scale
        )
        return output.reshape(1, TOKENS, 2 * OWN)


@pytest.mark.parametrize(("wrong_at", "seen"), [(0, False), (OWN, False), (TILED, True)])
@pytest.mark.parametrize(("scale", "factor"), [(None, 1.0), (1.0, 1.0), (None, 0.5), (1.0, 0.25)])
def test_a_direct_call_of_the_flash_library_is_judged_at_that_size_too(
    monkeypatch: pytest.MonkeyPatch, wrong_at: int, seen: bool, scale: float | None, factor: float
) -> None:
    monkeypatch.setitem(CALLED, "wrong_at", wrong_at)
    torch.manual_seed(0)
    model: Any = torch.nn.ModuleList([DirectAttention(scale, factor)])
    model.config = SimpleNamespace(is_encoder_decoder=False, num_hidden_layers=1)
    with torch.no_grad(), attention_probe(model, "flash_attention_2", gradients=True, below=True) as recorder:
        model[0](torch.randn(1, TOKENS, 2 * OWN))
    assert recorder.failures == []
    (call,) = recorder.calls
    assert call.softmax is not None
    assert call.softmax.scale == pytest.approx([(OWN**-0.5 if scale is None else scale) * factor] * 2, rel=0.02)
    assert call.gradient is not None
    worst = max(call.gradient.dq, call.gradient.dk, call.gradient.dv)
    assert worst == pytest.approx(1, rel=0.01) if seen else worst < 1e-4
