"""flash-attention 2, 3 and 4: limits on stored machines, and calls checked end to end through fakes of the packages."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from attncheck.backends.interface import Ask, Call, Usable, apis, decide
from attncheck.probe.flash import signatures
from attncheck.probe.flash.contract import ContractError
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window
from tests.backends.attention import LENGTHS, WINDOWS, agrees, difference, limits_broken, refused, tensors, visible
from tests.backends.environments import A100, B200, CPU_ONLY, H100, L4, MI300, RTX_5090, T4, with_libraries

HALF = Call("cuda", "bfloat16", head_dim=64, num_heads=8, num_kv_heads=2)
DENSE = ("flash-attn-2", "flash-attn-3", "flash-attn-4")
ALL = (*DENSE, "flash-attn-2-varlen", "flash-attn-4-varlen")
NAMES = ("flash_attention_2", "flash_attention_3", "flash_attention_4")


def api(name):
    return apis()[name][1]


def refuses_badly_placed(function):
    """What kernels check and the contract does not: a contiguous last axis, numbers and types."""

    def checked(q, k, v, *rest, **arguments):
        if any(x.stride(-1) != 1 for x in (q, k, v)):
            raise ContractError("Input tensor must have contiguous last dimension")
        if arguments.get("softcap") is None and "softcap" in arguments:
            raise ContractError("softcap must be a number")
        if (slopes := arguments.get("alibi_slopes")) is not None and slopes.dtype != torch.float32:
            raise ContractError("ALiBi slopes must have dtype fp32")
        return function(q, k, v, *rest, **arguments)

    return checked


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """The three packages as the contract in plain torch, under the names that their users import."""
    two, three, four = (signatures.FUNCTIONS[name] for name in NAMES)
    for name, functions in (("flash_attn", two), ("flash_attn_interface", three), ("flash_attn.cute", four)):
        module = ModuleType(name)
        module.flash_attn_func = refuses_badly_placed(functions.dense)
        module.flash_attn_varlen_func = refuses_badly_placed(functions.varlen)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("q_len", "kv_len"), [*LENGTHS, (48, 20)])
def test_windows_at_all_lengths(name, window, q_len, kv_len):
    agrees(api(name), Ask(window), q_len=q_len, kv_len=kv_len)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_heads(name, kv_heads):
    agrees(api(name), Ask(Window(7, 0), scale=0.4), kv_heads=kv_heads)


@pytest.mark.parametrize("name", ALL)
def test_scale_and_softcap(name):
    agrees(api(name), Ask(CAUSAL, scale=0.7, softcap=2.0))


@pytest.mark.parametrize("name", ["flash-attn-2", "flash-attn-2-varlen"])
def test_alibi(name):
    agrees(api(name), Ask(Window(9, 0), slopes=torch.tensor([0.5, 0.25, 0.1, 0.05])))
    agrees(api(name), Ask(CAUSAL, slopes=torch.tensor([0.5, 0.25, 0.1, 0.05])), q_len=20)


@pytest.mark.parametrize("name", ["flash-attn-4", "flash-attn-4-varlen"])
def test_sinks(name):
    agrees(api(name), Ask(Window(9, 0), sinks=torch.tensor([0.5, -1.0, 2.0, 0.0])))


@pytest.mark.parametrize("name", DENSE)
def test_value_heads_of_another_width(name):
    if name == "flash-attn-2":
        with pytest.raises(ContractError, match="one head size"):
            difference(api(name), Ask(), *tensors(value=8))
    else:
        agrees(api(name), Ask(), value=8)


@pytest.mark.parametrize("name", ALL)
def test_tensors_that_lie_as_the_library_wants_them_are_not_copied(name, monkeypatch):
    seen = []
    for module in ("flash_attn", "flash_attn_interface", "flash_attn.cute"):
        for function in ("flash_attn_func", "flash_attn_varlen_func"):
            real = getattr(sys.modules[module], function)

            def spy(q, *rest, real=real, **arguments):
                seen.append(q.data_ptr())
                return real(q, *rest, **arguments)

            monkeypatch.setattr(sys.modules[module], function, spy)
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors())
    api(name).load()(q, k, v, causal=True)
    assert seen == [q.data_ptr()]


@pytest.mark.parametrize("name", ALL)
def test_gradients_reach_the_inputs(name):
    q, k, v = (x.requires_grad_() for x in tensors())
    api(name).load()(q, k, v, **api(name).spell(Ask(Window(3, 0), deterministic=True), 48, 48)).sum().backward()
    assert all(x.grad is not None and bool(x.grad.abs().sum() > 0) for x in (q, v))
    assert api(name).spell(Ask(deterministic=True), 8, 8)["deterministic"] is True
    assert "deterministic" not in api(name).spell(Ask(), 8, 8)


@pytest.mark.parametrize("name", ALL)
def test_what_cannot_be_said_is_refused_with_the_reason(name):
    top = {"alignment": Alignment.TOP_LEFT}
    assert refused(api(name), q_len=20, **top) == ["bottom-right alignment, or as many queries as keys"]
    assert refused(api(name), mask=torch.ones(48, 48, dtype=torch.bool)) == ["no mask"]
    agrees(api(name), Ask(**top))  # equal lengths: both alignments are one
    agrees(api(name), Ask(FULL, **top), q_len=20)
    two, four = name.startswith("flash-attn-2"), name.startswith("flash-attn-4")
    sinks, slopes = {"sinks": torch.zeros(4)}, {"slopes": torch.ones(4)}
    assert four or refused(api(name), **sinks) == ["no sinks"]
    assert two or refused(api(name), **slopes) == ["no slopes"]
    assert two or refused(api(name), dropout=0.1) == ["no dropout"]
    if two:
        assert refused(api(name), dropout=0.1, softcap=2.0) == ["softcap without dropout"]


def test_unbounded_is_never_minus_one_for_flash_attention_4():
    for window in WINDOWS:
        left, right = api("flash-attn-4").spell(Ask(window), 48, 48)["window_size"]
        assert left is None or left >= 0
        assert right is None or right >= 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("lengths", [(48, 48), (32, 64), (64, 32)])
def test_spellings_mean_what_they_promise_except_the_known_defect(name, lengths):
    """The contract holds the defect of flash-attention 4 (a lone -1 is a bound): only those rows may differ."""
    q, k, _ = tensors(*lengths, width=lengths[1])
    wrong = []
    for spelling in api(name).spellings:
        assert spelling.promise is not None
        assert spelling.source
        arguments = dict(spelling.arguments)
        out = api(name).load()(q, k, torch.eye(lengths[1]).expand(2, 2, -1, -1), **arguments)
        ask = Ask(spelling.promise, spelling.alignment or Alignment.BOTTOM_RIGHT)
        seen = out[0, 0] > 0
        if not torch.equal(seen, visible(ask, *lengths)):
            wrong.append(spelling.text)
    broken = ["window_size=(-1, 0)", "causal=True, window_size=(-1, 0)"]
    assert wrong == (broken if name.startswith("flash-attn-4") else [])


def test_every_question_is_asked():
    for name in ALL:
        assert {row.question for row in api(name).spellings} == {"window", "two-sided", "unbounded", "causal"}
        assert len({row.text for row in api(name).spellings}) == len(api(name).spellings)
        assert any(row.lengths for row in api(name).spellings)
        for row in api(name).spellings:
            written = eval(f"dict({row.text})")
            assert written == dict(row.arguments)


def with_three(environment):
    return with_libraries(environment, {"flash-attn-3": "3.0.0"})


@pytest.mark.parametrize(
    ("name", "environment", "broken"),
    [
        ("flash_attention_2", H100, []),
        ("flash_attention_2", A100, []),
        ("flash_attention_2", L4, []),
        ("flash_attention_2", B200, []),
        ("flash_attention_2", RTX_5090, []),
        ("flash_attention_2", T4, ["compute capability 8.0 or newer"]),
        ("flash_attention_2", MI300, []),
        ("flash_attention_2", CPU_ONLY, ["flash-attn installed", "a visible CUDA GPU"]),
        ("flash_attention_3", with_three(H100), []),
        ("flash_attention_3", with_three(A100), []),
        ("flash_attention_3", with_three(B200), ["compute capability 8.0 to 9.0"]),
        ("flash_attention_3", H100, ["flash-attn-3 installed"]),
        ("flash_attention_3", with_three(MI300), ["a visible CUDA GPU"]),
        ("flash_attention_4", H100, []),
        ("flash_attention_4", A100, []),
        ("flash_attention_4", B200, []),
        ("flash_attention_4", RTX_5090, []),
        ("flash_attention_4", T4, ["compute capability 8.0 to 12.9"]),
        ("flash_attention_4", CPU_ONLY, ["flash-attn-4 installed", "a visible CUDA GPU"]),
    ],
)
def test_machines(name, environment, broken):
    verdict = decide(name, environment, HALF)
    assert (limits_broken(verdict) if broken else verdict.kernels) == (broken or (verdict.kernels[0],))


FA4_HEADS = "multiples of 8; on 9.0 at most 256; on 10.x and 11.x at most 128, (192, 128) or (256, 256)"
FA3_VALUE = "one head size, or on 9.0: q/k 129 to 192 with v 97 to 128, or q/k <= 64 with v <= 512"
FA2_DROPOUT = "compute capability 8.0 or 9.0, no dropout, or head size <= 192"
FA4_TERMS = "neither on 12.x, nor at head size 256 on 10.x and 11.x"


@pytest.mark.parametrize(
    ("name", "environment", "call", "broken"),
    [
        ("flash_attention_2", H100, {"head_dim": 20}, []),  # padded to 24 by the package
        ("flash_attention_2", H100, {"head_dim": 512}, ["at most 256"]),
        ("flash_attention_2", H100, {"head_dim": 192, "head_dim_v": 128}, ["one head size"]),
        ("flash_attention_2", H100, {"num_heads": 8, "num_kv_heads": 3}, ["query heads a multiple of kv heads"]),
        ("flash_attention_2", H100, {"dtype": "float32"}, ["float16 or bfloat16"]),
        ("flash_attention_2", H100, {"device": "cpu"}, ["a visible CUDA GPU"]),
        ("flash_attention_2", L4, {"backward": True, "dropout": True, "head_dim": 256}, [FA2_DROPOUT]),
        ("flash_attention_2", L4, {"backward": True, "head_dim": 256}, []),
        ("flash_attention_2", H100, {"backward": True, "dropout": True, "head_dim": 256}, []),
        ("flash_attention_3", with_three(H100), {"head_dim": 20}, ["a multiple of 8, at most 256"]),
        ("flash_attention_3", with_three(H100), {"head_dim": 192, "head_dim_v": 128}, []),
        ("flash_attention_3", with_three(H100), {"head_dim": 64, "head_dim_v": 512}, []),
        ("flash_attention_3", with_three(H100), {"head_dim": 256, "head_dim_v": 128}, [FA3_VALUE]),
        ("flash_attention_3", with_three(A100), {"head_dim": 192, "head_dim_v": 128}, [FA3_VALUE]),
        ("flash_attention_4", H100, {"head_dim": 256}, []),
        ("flash_attention_4", H100, {"head_dim": 512}, [FA4_HEADS]),
        ("flash_attention_4", H100, {"head_dim": 192, "head_dim_v": 128}, []),
        ("flash_attention_4", H100, {"head_dim": 20}, [FA4_HEADS]),
        ("flash_attention_4", B200, {"head_dim": 192, "head_dim_v": 128}, []),
        ("flash_attention_4", B200, {"head_dim": 256}, []),
        ("flash_attention_4", B200, {"head_dim": 160}, [FA4_HEADS]),
        ("flash_attention_4", B200, {"head_dim": 192}, [FA4_HEADS]),
        ("flash_attention_4", A100, {"backward": True}, ["compute capability 9.0 or newer"]),
        ("flash_attention_4", RTX_5090, {"backward": True}, []),
        ("flash_attention_4", RTX_5090, {"backward": True, "sinks": True}, [FA4_TERMS]),
        ("flash_attention_4", RTX_5090, {"sinks": True}, []),
        ("flash_attention_4", B200, {"backward": True, "softcap": True, "head_dim": 256}, [FA4_TERMS]),
        ("flash_attention_4", H100, {"backward": True, "sinks": True, "softcap": True}, []),
    ],
)
def test_calls(name, environment, call, broken):
    verdict = decide(name, environment, replace(HALF, **call))
    if broken:
        assert limits_broken(verdict) == broken
    else:
        assert isinstance(verdict, Usable), verdict


def test_notes_say_what_is_not_known():
    assert decide("flash_attention_2", H100, HALF).note == ""
    assert "no kernel image" in decide("flash_attention_2", B200, HALF).note
    assert "ROCm" in decide("flash_attention_2", MI300, HALF).note
    assert "never ran it" in decide("flash_attention_3", with_three(H100), HALF).note


def test_api_names_are_decided_as_their_implementation():
    for name in ALL:
        backend, found = apis()[name]
        verdict = backend.decide(found.name, with_three(T4), HALF)
        assert limits_broken(verdict)[0].startswith("compute capability")
