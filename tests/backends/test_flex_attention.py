"""flex_attention uncompiled on a CPU: every `Ask` and every row of the convention table gives what float64 gives."""

from __future__ import annotations

import pytest
import torch

from attncheck.backends import flex_attention
from attncheck.backends.flex_attention import SPELLINGS, spell
from attncheck.backends.interface import Ask
from attncheck.semantics.observation import Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window
from tests.backends.reference import tensors, wanted

TOP, BOTTOM = Alignment.TOP_LEFT, Alignment.BOTTOM_RIGHT
SLOPES = torch.tensor([0.5, 0.25, 0.125, 0.0625])


@pytest.fixture(autouse=True, scope="module")
def uncompiled():
    """flex_attention traces its functions even when nobody compiles it; the tests need no trace."""
    with torch._dynamo.config.patch(disable=True):
        yield


def run(ask, query, key, value):
    arguments = spell(ask, query.shape[-2], key.shape[-2])
    return flex_attention.load(compiled=False)(query, key, value, **arguments)


@pytest.mark.parametrize(
    ("window", "q_len", "kv_len", "alignment"),
    [
        (CAUSAL, 24, 24, TOP),
        (FULL, 16, 24, TOP),
        (Window(7, 0), 24, 24, TOP),
        (Window(7, 0), 16, 40, TOP),
        (Window(7, 0), 16, 40, BOTTOM),
        (Window(5, 3), 16, 40, BOTTOM),
        (CAUSAL, 40, 16, BOTTOM),
        (Window(None, 2), 16, 16, TOP),
        (Window(4, None), 16, 16, TOP),
    ],
)
def test_windows(window, q_len, kv_len, alignment):
    given = tensors(q_len, kv_len)
    ask = Ask(window, alignment)
    torch.testing.assert_close(run(ask, *given).double(), wanted(ask, *given), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    "ask",
    [
        Ask(scale=0.7),
        Ask(softcap=2.0),
        Ask(sinks=torch.tensor([-1.0, 0.0, 1.0, 3.0])),
        Ask(slopes=SLOPES),
        Ask(Window(5, 2), softcap=2.0, slopes=SLOPES, sinks=torch.ones(4), scale=1.5),
        Ask(mask=torch.rand(2, 1, 16, 24, generator=torch.Generator().manual_seed(1)) > 0.4),
        Ask(mask=torch.rand(2, 4, 16, 24, generator=torch.Generator().manual_seed(1)) > 0.4),
        Ask(mask=torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(2))),
        Ask(mask=torch.randn(16, 24, generator=torch.Generator().manual_seed(2)), slopes=SLOPES, softcap=3.0),
    ],
    ids=["scale", "softcap", "sinks", "alibi", "all", "mask", "mask a head", "additive", "additive and terms"],
)
def test_terms(ask):
    given = tensors(16, 24)
    torch.testing.assert_close(run(ask, *given).double(), wanted(ask, *given), atol=5e-6, rtol=0)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads(kv_heads):
    given = tensors(24, 24, heads=6, kv_heads=kv_heads, head_dim_v=8)
    torch.testing.assert_close(run(Ask(), *given).double(), wanted(Ask(), *given), atol=2e-6, rtol=0)


def test_rows_that_see_nothing_are_zero_with_and_without_sinks():
    given = tensors(24, 8)
    for sinks in (None, torch.zeros(4)):
        assert run(Ask(Window(3, 0), BOTTOM, sinks=sinks), *given)[:, :, :16].abs().max() == 0


def test_dropout_is_refused():
    refusal = spell(Ask(dropout=0.1), 8, 8)
    assert isinstance(refusal, Rejected)
    assert [reason.limit for reason in refusal.reasons] == ["no dropout"]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda row: row.text)
def test_promises_hold(spelling):
    attend = flex_attention.load(compiled=False)
    for lengths in ((24, 24), *spelling.lengths):
        given = tensors(*lengths)
        ask = Ask(spelling.promise, spelling.alignment or TOP)
        output = attend(*given, **spelling.arguments)
        torch.testing.assert_close(output.double(), wanted(ask, *given), atol=2e-6, rtol=0)


def test_equal_asks_share_a_function_so_that_the_compiler_can_reuse_its_kernel():
    assert spell(Ask(Window(7, 0)), 8, 16)["mask_mod"] is spell(Ask(Window(7, 0)), 8, 16)["mask_mod"]


@pytest.mark.slow
def test_compiled():
    """The compiler on a CPU takes a minute; one call shows that the functions can be traced in full."""
    with torch._dynamo.config.patch(disable=False):
        given = tensors(32, 48)
        ask = Ask(Window(7, 0), BOTTOM, softcap=2.0)
        output = flex_attention.load()(*given, **spell(ask, 32, 48))
    torch.testing.assert_close(output.double(), wanted(ask, *given), atol=5e-6, rtol=0)
