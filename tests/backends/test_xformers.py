"""xformers: limits of its operators on stored machines, and calls checked end to end through a fake of the package."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from attncheck.backends.interface import Ask, Call, NoOperators, Usable, apis, stand_ins
from attncheck.backends.xformers import BACKEND
from attncheck.backends.xformers_masks import Mask
from attncheck.semantics.observation import Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window
from tests.backends import fake_xformers
from tests.backends.attention import LENGTHS, WINDOWS, agrees, limits_broken, refused, tensors, visible
from tests.backends.environments import A100, B200, CPU_ONLY, H100, L4, RTX_5090, T4, with_libraries

HALF = Call("cuda", "bfloat16", head_dim=64)
ALL = ("xformers", "xformers-mask")
REAL = importlib.util.find_spec("xformers") is not None


def api(name):
    return apis()[name][1]


@pytest.fixture
def fake(monkeypatch):
    for name, module in fake_xformers.modules().items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("name", ALL)
class TestCalls:
    @pytest.mark.parametrize("window", WINDOWS)
    @pytest.mark.parametrize(("q_len", "kv_len"), LENGTHS)
    def test_windows_at_all_lengths(self, name, window, q_len, kv_len):
        agrees(api(name), Ask(window), q_len=q_len, kv_len=kv_len)

    @pytest.mark.parametrize("window", [CAUSAL, Window(7, 0), FULL])
    def test_top_left(self, name, window):
        agrees(api(name), Ask(window, Alignment.TOP_LEFT), q_len=20)

    def test_a_two_sided_window_has_no_top_left_class(self, name):
        limit = "bottom-right alignment, or no key ahead of the diagonal"
        assert refused(api(name), q_len=20, window=Window(5, 3), alignment=Alignment.TOP_LEFT) == [limit]
        agrees(api(name), Ask(Window(5, 3), Alignment.TOP_LEFT))

    @pytest.mark.parametrize("kv_heads", [1, 2, 4])
    def test_grouped_heads_and_scale(self, name, kv_heads):
        agrees(api(name), Ask(Window(7, 0), scale=0.4), kv_heads=kv_heads)
        agrees(api(name), Ask(Window(7, 0), Alignment.TOP_LEFT), q_len=20, kv_heads=kv_heads)

    def test_value_heads_of_another_width(self, name):
        agrees(api(name), Ask(), value=8)

    @pytest.mark.parametrize("kv_heads", [2, 4])
    def test_mask_tensors(self, name, kv_heads):
        keep = torch.rand(2, 1, 48, 44, generator=torch.Generator().manual_seed(0)) > 0.4
        keep[..., 0] = True
        bias = torch.randn(1, 4, 48, 44, generator=torch.Generator().manual_seed(1))
        for mask in (keep, keep[0, 0], bias):
            agrees(api(name), Ask(FULL, mask=mask), kv_len=44, kv_heads=kv_heads)

    def test_what_cannot_be_said_is_refused_with_the_reason(self, name):
        assert refused(api(name), softcap=2.0) == ["no softcap"]
        assert refused(api(name), sinks=torch.zeros(4)) == ["no sinks"]
        assert refused(api(name), slopes=torch.ones(4)) == ["no slopes"]
        assert api(name).spell(Ask(dropout=0.1), 8, 8)["p"] == 0.1

    def test_gradients_reach_the_inputs(self, name):
        q, k, v = (x.requires_grad_() for x in tensors(kv_heads=4))
        api(name).load()(q, k, v, **api(name).spell(Ask(Window(3, 0)), 48, 48)).sum().backward()
        assert all(x.grad is not None for x in (q, v))

    def test_spellings_mean_what_they_promise(self, name):
        assert check_spellings(api(name)) == len(api(name).spellings) * 3 - 2


class NotLoaded(Exception):
    build_info = SimpleNamespace(torch_version="2.10.0+cu128")


class TestWithoutOperators:
    """xformers keeps what went wrong when it loaded its extension, and imports all the same."""

    def test_built_for_another_torch(self, fake, monkeypatch):
        library = SimpleNamespace(_cpp_library_load_exception=NotLoaded())
        monkeypatch.setattr(sys.modules["xformers"], "_cpp_lib", library, raising=False)
        with pytest.raises(NoOperators) as error:
            api("xformers").load()
        assert str(error.value) == (
            "imports, but none of its operators can be used: built for torch 2.10.0+cu128, "
            f"here torch {torch.__version__}"
        )
        assert api("xformers-mask").load()

    def test_built_without_an_extension(self, fake, monkeypatch):
        library = SimpleNamespace(_cpp_library_load_exception=Exception("Need to compile C++ extensions"))
        monkeypatch.setattr(sys.modules["xformers"], "_cpp_lib", library, raising=False)
        with pytest.raises(ImportError, match="it was built without its extension, here torch"):
            api("xformers").load()

    def test_a_loaded_extension(self, fake, monkeypatch):
        library = SimpleNamespace(_cpp_library_load_exception=None)
        monkeypatch.setattr(sys.modules["xformers"], "_cpp_lib", library, raising=False)
        assert api("xformers").load()


def check_spellings(found):
    """How many readings were made; every one is as promised. A class may refuse more queries than keys."""
    readings = 0
    for lengths in ((48, 48), (32, 64), (64, 32)):
        q, k, v = tensors(*lengths)
        v = torch.eye(lengths[1]).expand(2, 2, -1, -1)
        for row in found.spellings:
            refusal = ""
            try:
                out = found.load()(q, k, v, **dict(row.arguments))
            except (ValueError, RuntimeError) as error:
                refusal = str(error)
            if refusal:
                assert lengths == (64, 32), row.text
                assert "num_queries" in refusal or "No keys are attended" in refusal
                continue
            ask = Ask(row.promise, row.alignment or Alignment.BOTTOM_RIGHT)
            keep = visible(ask, *lengths)
            rows = keep.any(-1)
            for batch in range(2):
                assert torch.equal((out[batch, 0] > 0)[rows], keep[rows]), (row.text, lengths)
            readings += 1
    return readings


@pytest.mark.usefixtures("fake")
def test_blocks_of_a_batch_do_not_see_each_other():
    q, k, v = tensors()
    alone = api("xformers-mask").load()(q[1:], k[1:], v[1:], attn_bias=Mask("BlockDiagonalMask"))
    both = api("xformers-mask").load()(q, k, v, attn_bias=Mask("BlockDiagonalMask"))
    assert torch.allclose(alone, both[1:], atol=1e-6)


@pytest.mark.usefixtures("fake")
def test_rows_without_a_key_are_zero_when_materialised():
    q, k, v = tensors(48, 20)
    out = api("xformers-mask").load()(q, k, v, attn_bias=Mask("LowerTriangularFromBottomRightMask"))
    assert bool((out[:, :, :28] == 0).all())
    assert bool((out[:, :, 28:] != 0).any())


@pytest.mark.skipif(not REAL, reason="xformers is not installed")
def test_the_real_mask_classes_mean_what_they_promise():
    """Three refusals: a block of 64 queries and 32 keys, for the local and for both bottom-right block classes."""
    assert check_spellings(api("xformers-mask")) == len(api("xformers-mask").spellings) * 3 - 3


def test_text_is_what_a_user_writes():
    texts = [row.text for row in api("xformers").spellings]
    assert "attn_bias=LowerTriangularFromBottomRightMask().make_local_attention(8)" in texts
    assert "attn_bias=LocalAttentionFromBottomRightMask(7, 0)" in texts
    assert "attn_bias=BlockDiagonalMask.from_seqlens(...).make_local_attention(8)" in texts
    assert "attn_bias=None" in texts
    assert len(set(texts)) == len(texts)
    assert all(row.source and row.promise is not None for row in api("xformers").spellings)


def having(environment):
    return with_libraries(environment, {"xformers": "0.0.35"})


@pytest.mark.parametrize(
    ("environment", "call", "operators"),
    [
        (H100, {}, ("fa3", "fa2", "cutlass")),
        (A100, {}, ("fa3", "fa2", "cutlass")),
        (L4, {}, ("fa3", "fa2", "cutlass")),
        (B200, {}, ("fa2",)),
        (RTX_5090, {}, ("fa2",)),
        (T4, {"dtype": "float16"}, ("cutlass",)),
        (H100, {"dtype": "float32"}, ("cutlass",)),
        (H100, {"mask": True}, ("cutlass",)),
        (H100, {"dropout": True}, ("fa2", "cutlass")),
        (H100, {"head_dim": 192, "head_dim_v": 128}, ("fa3", "cutlass")),
        (A100, {"head_dim": 192, "head_dim_v": 128}, ("cutlass",)),
        (H100, {"head_dim": 512}, ("cutlass",)),
        (H100, {"head_dim": 16}, ("fa2", "cutlass")),
        (H100, {"head_dim": 32, "backward": True}, ("fa2", "cutlass")),
        (H100, {"num_heads": 8, "num_kv_heads": 2}, ("fa3", "fa2", "cutlass")),
    ],
)
def test_operators_left_for_a_call(environment, call, operators):
    verdict = BACKEND.decide("xformers", having(environment), replace(HALF, **call))
    assert isinstance(verdict, Usable), verdict
    assert verdict.kernels == operators


@pytest.mark.parametrize(
    ("environment", "call", "broken"),
    [
        (H100, {}, ["xformers installed"]),
        (having(H100), {"softcap": True, "sinks": True}, ["no softcap", "no sinks"]),
        (having(H100), {"num_heads": 8, "num_kv_heads": 3}, ["query heads a multiple of kv heads"]),
        (having(CPU_ONLY), {}, ["a visible CUDA GPU"]),
        (
            having(H100),
            {"num_heads": 8, "num_kv_heads": 2, "backward": True},
            ["as many kv heads as query heads, or the forward pass alone"],
        ),
    ],
)
def test_refusals(environment, call, broken):
    assert limits_broken(BACKEND.decide("xformers", environment, replace(HALF, **call))) == broken


def test_without_an_operator_every_operator_says_why():
    verdict = BACKEND.decide("xformers", having(B200), replace(HALF, dtype="float32"))
    assert isinstance(verdict, Rejected)
    assert [reason.text.split(":")[0] for reason in verdict.reasons] == [
        "operator fa3",
        "operator fa3",
        "operator fa2",
        "operator cutlass",
    ]
    assert limits_broken(BACKEND.decide("xformers", having(T4), HALF))[-1] == "compute capability 8.0 for bfloat16"


def test_mask_classes_need_no_gpu_and_say_that_no_operator_ran():
    verdict = BACKEND.decide("xformers-mask", having(CPU_ONLY), Call())
    assert isinstance(verdict, Usable)
    assert "no operator" in verdict.note
    assert stand_ins() == {"xformers-mask": verdict.note}
    assert "no operator" in api("xformers-mask").call
    assert api("xformers-mask").devices == ("cpu", "cuda")
    assert limits_broken(BACKEND.decide("xformers-mask", CPU_ONLY, Call())) == ["xformers installed"]
