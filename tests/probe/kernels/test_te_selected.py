"""Asking TransformerEngine itself what it selects, with a module in its place that logs as the real one does."""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from attncheck.comparison.own_calls import _kernel
from attncheck.probe.kernels.te_selected import run
from attncheck.semantics.observation import Rejected
from attncheck.semantics.shape import Shape
from attncheck.semantics.written import AskedCall

SHAPE = Shape(4, 2, 16, 16)


class Fake(torch.nn.Module):
    """DotProductAttention as far as its log goes; built: the arguments of every constructor call."""

    built: tuple[dict[str, Any], ...] = ()
    selected = "FusedAttention (sub-backend 1)"

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        if "softcap" in arguments:
            raise TypeError("DotProductAttention.__init__() got an unexpected keyword argument 'softcap'")
        type(self).built = (*type(self).built, arguments)

    def forward(self, query: Any, key: Any, value: Any, **lengths: Any) -> Any:
        logger = logging.getLogger("DotProductAttention")
        logger.setLevel(logging.DEBUG)
        logger.debug("Running with config=%s", {"lengths": sorted(lengths)})
        logger.debug("Disabling FlashAttention 2 due to NVTE_FLASH_ATTN=0.")
        if self.selected == "NoBackend":
            raise ValueError("No dot product attention backend is available for the provided inputs. Please run with")
        logger.debug("Selected backend = %s.", self.selected)
        return query


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    class Mine(Fake):
        pass

    package, module = ModuleType("transformer_engine"), ModuleType("transformer_engine.pytorch")
    module.DotProductAttention = Mine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformer_engine", package)
    monkeypatch.setitem(sys.modules, "transformer_engine.pytorch", module)
    return Mine


def asked(**arguments: Any) -> dict[str, Any]:
    return {"calls": {"a": AskedCall(SHAPE, arguments, 32, 32)}, "device": "cpu"}


def test_its_own_words(fake: type[Fake]) -> None:
    answer = run("a", asked(window_size=(8, 0), attn_mask_type="causal", qkv_format="sbhd"))
    assert answer == ("FusedAttention (sub-backend 1)", ("Disabling FlashAttention 2 due to NVTE_FLASH_ATTN=0",))
    assert fake.built[0]["window_size"] == (8, 0)
    assert fake.built[0]["num_gqa_groups"] == 2
    assert not any(
        type(handler).__name__ == "Listener" for handler in logging.getLogger("DotProductAttention").handlers
    )


@pytest.mark.parametrize("kind", ["thd", "bshd"])
def test_lengths_are_told_where_they_are_wanted(fake: type[Fake], kind: str) -> None:
    answer = run("a", asked(attn_mask_type="padding_causal", qkv_format=kind))
    assert not isinstance(answer, Rejected)


def test_a_refusal_is_an_answer(fake: type[Fake]) -> None:
    fake.selected = "NoBackend"
    answer = run("a", asked(attn_mask_type="causal"))
    assert isinstance(answer, Rejected)
    assert "No dot product attention backend" in answer.reasons[0].text
    assert "NVTE_FLASH_ATTN=0" in answer.reasons[0].source
    answer = run("a", asked(softcap=30.0))
    assert isinstance(answer, Rejected)
    assert "TypeError" in answer.reasons[0].text


@pytest.mark.parametrize(
    ("said", "kernel"),
    [
        ("FlashAttention (2.8.3.post2)", "flash"),
        ("FlashAttention (3.0.0b1)", "flash-3"),
        ("FlashAttention (4.0.0b36)", "flash-4"),
        ("FusedAttention (sub-backend 1)", "fused"),
        ("UnfusedDotProductAttention", "unfused"),
    ],
)
def test_the_word_of_reports(said: str, kernel: str) -> None:
    assert _kernel(said) == kernel
