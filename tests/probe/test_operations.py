"""Attention read among torch operations: the same masks and terms as through the interface, planted faults included."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import pytest
import torch
from torch import nn

from attncheck.probe.reading import operations
from attncheck.probe.reading.live import Recorder, attention_probe
from attncheck.semantics.observation import Method
from attncheck.semantics.spec import Part

BATCH, TOKENS, HEADS, WIDTH = 2, 9, 4, 6


class TinyAttention(nn.Module):
    """A softmax written out, as modeling files before 4.48 have it. `how` plants what a test wants to see."""

    def __init__(self, how: str = "matmul") -> None:
        super().__init__()
        self.how = how
        self.is_causal = True
        self.q, self.k, self.v, self.o = (nn.Linear(HEADS * WIDTH, HEADS * WIDTH) for _ in range(4))

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        batch, tokens, _ = hidden_states.shape
        split = lambda x: x.view(batch, tokens, HEADS, WIDTH).transpose(1, 2)  # noqa: E731
        query, key, value = split(self.q(hidden_states)), split(self.k(hidden_states)), split(self.v(hidden_states))
        mask = torch.full((tokens, tokens), torch.finfo(query.dtype).min).triu(1)
        scale = WIDTH**-0.5
        if self.how == "sdpa":
            out = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        elif self.how == "sdpa-prescaled":
            out = nn.functional.scaled_dot_product_attention(query * scale, key, value, is_causal=True, scale=1.0)
        elif self.how == "bmm":  # queries scaled first, heads in the batch, as in BART and OPT
            flat = lambda x: x.reshape(batch * HEADS, tokens, WIDTH)  # noqa: E731
            scores = torch.bmm(flat(query * scale), flat(key).transpose(1, 2)) + mask
            out = torch.bmm(scores.softmax(-1), flat(value)).view(batch, HEADS, tokens, WIDTH)
        elif self.how == "baddbmm":  # as in BLOOM, with operands by name
            flat = lambda x: x.reshape(batch * HEADS, tokens, WIDTH)  # noqa: E731
            scores = mask.expand(batch * HEADS, -1, -1).baddbmm(
                batch1=flat(query), batch2=flat(key).transpose(1, 2), beta=1.0, alpha=scale
            )
            out = torch.bmm(nn.functional.softmax(scores, dim=-1), flat(value)).view(batch, HEADS, tokens, WIDTH)
        elif self.how == "two products":  # content and position, as in DeBERTa: no single product of queries and keys
            scores = query @ key.transpose(-1, -2) + query @ key.flip(2).transpose(-1, -2)
            out = (scores + mask).softmax(-1) @ value
        else:
            scores = query @ key.transpose(-1, -2) * scale
            if self.how == "capped":
                scores = 20.0 * torch.tanh(scores / 20.0)
            out = (scores + mask).softmax(-1) @ value
        return self.o(out.transpose(1, 2).reshape(batch, tokens, -1))


class TinyModel(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = type("Config", (), {"is_encoder_decoder": False, "is_decoder": True})()
        self.layers = nn.ModuleList([TinyAttention(how), TinyAttention(how)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def read(how: str, fit: bool = True, **settings: Any) -> tuple[Recorder, torch.Tensor]:
    model = TinyModel(how).eval()
    with torch.no_grad(), attention_probe(model, "eager", fit=fit, below=True, **settings) as recorder:
        output = model(torch.randn(BATCH, TOKENS, HEADS * WIDTH, generator=torch.Generator().manual_seed(1)))
    return recorder, output


@pytest.mark.parametrize("how", ["matmul", "bmm", "baddbmm", "sdpa", "sdpa-prescaled"])
def test_mask_and_whole_scale_are_read(how: str) -> None:
    recorder, _ = read(how)
    assert not recorder.failures
    assert recorder.used == {"sdpa" if how.startswith("sdpa") else "eager"}
    assert [(call.part, call.layer) for call in recorder.calls] == [(Part.DECODER, 0), (Part.DECODER, 1)]
    for call in recorder.calls:
        assert call.method is Method.IDENTITY
        assert call.num_heads == HEADS
        assert {mask.row for mask in call.masks} == set(range(BATCH))
        for mask in call.masks:
            assert mask.keep.rows == tuple((1 << query + 1) - 1 for query in range(TOKENS))
        assert call.softmax is not None
        assert call.softmax.scale == pytest.approx((WIDTH**-0.5,) * HEADS, rel=1e-4)
        assert call.softmax.softcap is None
        assert call.requested is not None
        before = WIDTH**-0.5 if how in ("bmm", "sdpa-prescaled") else 1.0
        assert call.requested.prescaled == pytest.approx(before)


def test_a_planted_cap_shows() -> None:
    recorder, _ = read("capped")
    assert all(
        call.softmax is not None and call.softmax.softcap == pytest.approx(20, rel=0.02) for call in recorder.calls
    )


@pytest.mark.parametrize("how", ["matmul", "bmm", "sdpa"])
def test_the_model_computes_what_it_computes_unwatched(how: str) -> None:
    _, watched = read(how)
    with torch.no_grad():
        model = TinyModel(how).eval()
        plain = model(torch.randn(BATCH, TOKENS, HEADS * WIDTH, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(watched, plain)


def test_what_is_no_single_product_is_said_not_guessed() -> None:
    recorder, _ = read("two products")
    assert recorder.reached == 0
    assert not recorder.calls
    assert any("not one product" in text for text in recorder.failures)


def test_hooks_and_functions_are_put_back() -> None:
    model = TinyModel("matmul").eval()
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    with pytest.raises(RuntimeError, match="stop"), operations.watched(model, lambda found: None, lambda text: None):
        raise RuntimeError("stop")
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks


def test_an_onlooker_that_breaks_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("broken")

    monkeypatch.setattr(operations, "_inherit", broken)
    recorder, _ = read("matmul")
    assert any("KeyError" in text for text in recorder.failures)


def test_gradients_flow_through_a_repetition() -> None:
    model = TinyModel("matmul").eval()
    with attention_probe(model, "eager", gradients=True, below=True) as recorder:
        model(torch.randn(1, TOKENS, HEADS * WIDTH))
    for call in recorder.calls:
        assert call.gradient is not None
        assert max(call.gradient.dq, call.gradient.dk, call.gradient.dv) < 1e-4
