"""TransformerEngine's three backends: words, limits, the environment that fixes each, and the reasons it logs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from attncheck.backends import transformer_engine as te
from attncheck.backends.interface import Ask, Call, Usable, apis
from attncheck.backends.transformer_engine_call import Reasons, attend
from attncheck.semantics.observation import Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window
from tests.backends.environments import A100, CPU_ONLY, H100, T4, with_libraries

TOP, BOTTOM = Alignment.TOP_LEFT, Alignment.BOTTOM_RIGHT
NAMES = (te.FLASH, te.FLASH_4, te.FUSED, te.UNFUSED)


def placed(
    window: Window, alignment: Alignment = BOTTOM, lengths: tuple[int, int] = (64, 64), name: str = te.UNFUSED
) -> tuple[str, tuple[int, int]]:
    words = te.spell(name, Ask(window, alignment), *lengths)
    assert not isinstance(words, Rejected), words
    return words["attn_mask_type"], words["window_size"]


def test_both_ends_are_inclusive() -> None:
    assert placed(Window(8, 0)) == ("causal", (8, 0))
    assert placed(CAUSAL) == ("causal", (-1, 0))
    assert placed(Window(8, 3)) == ("no_mask", (8, 3))
    assert placed(FULL) == ("no_mask", (-1, -1))


def test_one_open_side_is_a_number_beyond_every_key() -> None:
    """TransformerEngine asserts that both sides are at least 0 unless both are -1."""
    assert placed(Window(8, None), lengths=(32, 64)) == ("no_mask", (8, 64))
    assert placed(Window(None, 3), lengths=(64, 32)) == ("no_mask", (64, 3))


def test_the_mask_type_says_the_alignment() -> None:
    assert placed(CAUSAL, BOTTOM, (32, 64))[0] == "causal_bottom_right"
    assert placed(CAUSAL, TOP, (32, 64))[0] == "causal"
    both = te.spell(te.FUSED, Ask(Window(8, 3), TOP), 32, 64)
    assert not isinstance(both, Rejected)
    assert both["bottom_right_diagonal"] is False
    assert isinstance(te.spell(te.FLASH, Ask(CAUSAL, TOP), 32, 64), Rejected)
    assert isinstance(te.spell(te.FLASH, Ask(Window(8, 3), TOP), 32, 64), Rejected)
    assert not isinstance(te.spell(te.FLASH, Ask(FULL, TOP), 32, 64), Rejected)


@pytest.mark.parametrize(
    ("name", "ask", "expressible"),
    [
        (te.FLASH, Ask(softcap=30.0), True),
        (te.FLASH_4, Ask(softcap=30.0), False),
        (te.FUSED, Ask(softcap=30.0), False),
        (te.UNFUSED, Ask(softcap=30.0), True),
        (te.FLASH, Ask(sinks=torch.zeros(2)), False),
        (te.FUSED, Ask(sinks=torch.zeros(2)), True),
        (te.FLASH, Ask(slopes=torch.ones(2)), True),
        (te.FLASH_4, Ask(slopes=torch.ones(2)), False),
        (te.FLASH, Ask(mask=torch.ones(4, 4, dtype=torch.bool)), False),
        (te.FUSED, Ask(mask=torch.ones(4, 4, dtype=torch.bool)), False),
        (te.FUSED, Ask(mask=torch.zeros(4, 4)), True),
        (te.UNFUSED, Ask(mask=torch.ones(4, 4, dtype=torch.bool)), True),
    ],
)
def test_what_each_backend_has_words_for(name: str, ask: Ask, expressible: bool) -> None:
    assert isinstance(te.spell(name, ask, 4, 4), Rejected) is not expressible


def test_its_arbitrary_mask_is_true_where_a_key_is_hidden() -> None:
    keep = torch.ones(4, 4, dtype=torch.bool).tril()
    words = te.spell(te.UNFUSED, Ask(mask=keep), 4, 4)
    assert not isinstance(words, Rejected)
    assert words["attn_mask_type"] == "arbitrary"
    assert torch.equal(words["attention_mask"], ~keep)


HALF = Call("cuda", "bfloat16", 64)


@pytest.mark.parametrize(
    ("name", "environment", "call", "limit"),
    [
        *((name, H100, HALF, "") for name in NAMES),
        *((name, CPU_ONLY, HALF, "transformer-engine is not installed") for name in NAMES),
        (te.FLASH, T4, HALF, "generation"),
        (te.FUSED, T4, HALF, "generation"),
        (te.UNFUSED, T4, HALF, ""),
        (te.FLASH_4, A100, HALF, "generation"),
        (te.FLASH, with_libraries(H100, {"flash-attn": None}), HALF, "flash-attn is not installed"),
        (te.FUSED, with_libraries(H100, {"flash-attn": None}), HALF, ""),
        (te.FLASH, H100, Call("cuda", "float32", 64), "half precision"),
        (te.UNFUSED, H100, Call("cuda", "float32", 64), ""),
        (te.FLASH, H100, Call("cuda", "bfloat16", 512), "head size"),
        (te.FUSED, H100, Call("cuda", "bfloat16", 512), "head size"),
        (te.FLASH, H100, Call("cuda", "bfloat16", 64, sinks=True), "sinks"),
        (te.FUSED, H100, Call("cuda", "bfloat16", 64, sinks=True), ""),
        (te.FUSED, H100, Call("cuda", "bfloat16", 64, softcap=True), "softcap"),
        (te.FUSED, H100, Call("cuda", "bfloat16", 64, window=True, dropout=True), "window with dropout"),
        (te.FUSED, H100, Call("cuda", "bfloat16", 64, window=True, q_len=64, kv_len=32), "as many keys"),
    ],
)
def test_limits(name: str, environment: Any, call: Call, limit: str) -> None:
    verdict = te.decide(name, environment, call)
    if not limit:
        assert isinstance(verdict, Usable), verdict
        return
    assert isinstance(verdict, Rejected)
    assert any(limit in reason.text for reason in verdict.reasons), verdict
    assert all(reason.source for reason in verdict.reasons)


def test_each_api_says_what_its_process_needs() -> None:
    found = apis()
    for name in NAMES:
        variables = found[name][1].environment
        on = [key for key in ("NVTE_FLASH_ATTN", "NVTE_FUSED_ATTN", "NVTE_UNFUSED_ATTN") if variables[key] == "1"]
        assert len(on) == 1, name
    assert found[te.FLASH][1].environment["NVTE_FLASH_ATTN_V4"] == "0"
    assert found[te.FLASH_4][1].environment["NVTE_FLASH_ATTN_V2"] == "0"


def test_a_process_without_that_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVTE_FUSED_ATTN", raising=False)
    with pytest.raises(RuntimeError, match=r"te-fused needs a process that was started with .*NVTE_FUSED_ATTN=1"):
        te.load(te.FUSED)


#: As TransformerEngine 2.20.2 says them.
SAID = (
    "Running with config={'x': 1}",
    "Disabling FusedAttention due to NVTE_FUSED_ATTN=0",
    "Disabling FlashAttention 3 for unsupported qkv_dtype = torch.float32. Supported: qkv_dtype = {..}",
    "Disabling FlashAttention 2 for unsupported qkv_dtype = torch.float32. Supported: qkv_dtype = {..}",
    "Disabling FusedAttention as it does not support softcap",
    "Available backends = {FlashAttention=False}",
    "Disabling FlashAttention as it only supports bottom-right-diagonal causal mask since flash-attn 2.1 (our minimum)",
)


def reasons(*said: str) -> Reasons:
    handler = Reasons()
    for text in said:
        handler.emit(logging.LogRecord("x", logging.DEBUG, "", 0, text, None, None))
    return handler


def test_only_the_reasons_against_the_backend_asked_for_are_repeated() -> None:
    handler = reasons(*SAID)
    flash = handler.against(te.FLASH)
    assert flash.startswith("Disabling FlashAttention 2 for unsupported qkv_dtype = torch.float32; ")
    assert "bottom-right-diagonal" in flash
    assert "FlashAttention 3" not in flash
    assert handler.against(te.FUSED) == "Disabling FusedAttention as it does not support softcap"
    assert handler.against(te.UNFUSED) == ""


def test_a_new_selection_forgets_the_last() -> None:
    handler = reasons(*SAID, "Running with config={'x': 2}", "Disabling all backends for max_logit with FP8 attention")
    for name in NAMES:
        assert handler.against(name) == "Disabling all backends for max_logit with FP8 attention"


class DotProductAttention:
    """As much of the module as is called: attention without a mask, refused for a window of 5."""

    made: list[dict[str, Any]] = []  # noqa: RUF012  # the class is made anew for each test

    def __init__(self, **arguments: Any) -> None:
        type(self).made.append(arguments)
        self.arguments = arguments
        self.softmax_offset = torch.zeros(arguments["num_attention_heads"])
        self.training = True

    def train(self, mode: bool) -> None:
        self.training = mode

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, **forward: Any) -> Tensor:
        self.forward, self.strides = forward, q.is_contiguous()
        if self.arguments.get("window_size") == (5, 0):
            logger = logging.getLogger("DotProductAttention")
            logger.setLevel(logging.DEBUG)
            logger.debug("Running with config=%s", {})
            logger.warning("Disabling FlashAttention as sliding window attention requires flash-attn 2.3+")
            raise ValueError("No dot product attention backend is available for the provided inputs. Please run with")
        weights = torch.einsum("bqhd,bkhd->bhqk", q, k).softmax(-1)
        return torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[DotProductAttention]]:
    """A fake transformer_engine, in a process that looks as `te-flash` wants it."""
    fake = type("Fake", (DotProductAttention,), {"made": []})
    package, module = ModuleType("transformer_engine"), ModuleType("transformer_engine.pytorch")
    module.DotProductAttention = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformer_engine", package)
    monkeypatch.setitem(sys.modules, "transformer_engine.pytorch", module)
    for name, value in te.ENVIRONMENTS[te.FLASH].items():
        monkeypatch.setenv(name, value)
    logger = logging.getLogger("DotProductAttention")
    before = list(logger.handlers)
    yield fake
    logger.handlers[:] = before


def test_tensors_come_back_in_the_callers_layout(library: type[DotProductAttention]) -> None:
    call = attend(te.FLASH, te.ENVIRONMENTS[te.FLASH])
    q, k, v = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 5, 8), torch.randn(2, 4, 5, 16)
    output = call(q, k, v, attn_mask_type="no_mask", window_size=(-1, -1), softmax_scale=None)
    expected = (q @ k.transpose(-1, -2)).softmax(-1) @ v
    assert torch.allclose(output, expected, atol=1e-5)
    made = library.made[0]
    assert made["qkv_format"] == "bshd"
    assert made["kv_channels"] == (8, 16)
    assert made["attn_mask_type"] == "no_mask"
    assert "softmax_scale" not in made  # None is its default
    call(q, k, v, attn_mask_type="no_mask", window_size=(-1, -1))
    assert len(library.made) == 1
    call(q, k, v, attn_mask_type="causal", window_size=(-1, 0))
    assert len(library.made) == 2


def test_no_backend_is_refused_in_its_own_words(library: type[DotProductAttention]) -> None:
    call = attend(te.FLASH, te.ENVIRONMENTS[te.FLASH])
    q = torch.randn(1, 2, 4, 8)
    with pytest.raises(NotImplementedError, match=r"drops te-flash for this call: Disabling FlashAttention as sliding"):
        call(q, q, q, attn_mask_type="causal", window_size=(5, 0))


def test_determinism_is_asked_for_where_the_module_is_made(
    library: type[DotProductAttention], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    seen = []
    original = library.__init__

    def noting(self: Any, **arguments: Any) -> None:
        seen.append(os.environ.get("NVTE_ALLOW_NONDETERMINISTIC_ALGO"))
        original(self, **arguments)

    monkeypatch.setattr(library, "__init__", noting)
    monkeypatch.delenv("NVTE_ALLOW_NONDETERMINISTIC_ALGO", raising=False)
    call = attend(te.FLASH, te.ENVIRONMENTS[te.FLASH])
    q = torch.randn(1, 2, 4, 8)
    call(q, q, q, attn_mask_type="no_mask", deterministic=True)
    call(q, q, q, attn_mask_type="no_mask")
    assert seen == ["0", None]
    assert "NVTE_ALLOW_NONDETERMINISTIC_ALGO" not in os.environ
