"""scaled_dot_product_attention on a CPU, for real: every `Ask` it can spell gives what float64 attention gives."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from types import ModuleType

import pytest
import torch

from attncheck.backends import sdpa
from attncheck.backends.interface import Ask, apis
from attncheck.backends.masks import Drawn
from attncheck.backends.sdpa import SPELLINGS, forced
from attncheck.probe.reading import sdpa_kernels
from attncheck.semantics.observation import Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window
from tests.backends.reference import tensors, wanted

TOP, BOTTOM = Alignment.TOP_LEFT, Alignment.BOTTOM_RIGHT
WINDOWS = [CAUSAL, FULL, Window(7, 0), Window(0, 0), Window(5, 3), Window(None, 2), Window(4, None)]
ON_CPU = ["sdpa-math", "sdpa-flash"]


def run(name, ask, query, key, value, **further):
    api = apis()[name][1]
    return api.load()(query, key, value, **api.spell(ask, query.shape[-2], key.shape[-2]), **further)


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("q_len", "kv_len", "alignment"), [(24, 24, TOP), (16, 40, TOP), (16, 40, BOTTOM)])
def test_windows(name, window, q_len, kv_len, alignment):
    given = tensors(q_len, kv_len)
    ask = Ask(window, alignment)
    torch.testing.assert_close(run(name, ask, *given).double(), wanted(ask, *given), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("alignment", [TOP, BOTTOM])
def test_more_queries_than_keys_leave_empty_rows_at_zero(name, alignment):
    given = tensors(40, 16)
    ask = Ask(Window(7, 0), alignment)
    output = run(name, ask, *given)
    torch.testing.assert_close(output.double(), wanted(ask, *given), atol=2e-6, rtol=0)
    empty = slice(0, 24) if alignment is BOTTOM else slice(23, 40)
    assert output[:, :, empty].abs().max() == 0


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("enable_gqa", [None, False])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads(name, enable_gqa, kv_heads):
    given = tensors(24, 24, heads=6, kv_heads=kv_heads)
    output = run(name, Ask(), *given, enable_gqa=enable_gqa)
    torch.testing.assert_close(output.double(), wanted(Ask(), *given), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize(
    "ask",
    [
        Ask(scale=0.7),
        Ask(slopes=torch.tensor([0.5, 0.25, 0.125, 0.0625])),
        Ask(Window(5, 5), slopes=torch.tensor([0.5, 0.25, 0.125, 0.0625])),
        Ask(mask=torch.rand(2, 1, 16, 24, generator=torch.Generator().manual_seed(1)) > 0.4),
        Ask(mask=torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(2))),
        Ask(mask=torch.ones(16, 24).tril() > 0, slopes=torch.tensor([1.0, 0.5, 0.25, 0.125])),
    ],
    ids=["scale", "alibi", "alibi-window", "bool mask", "additive mask", "mask and alibi"],
)
def test_terms(name, ask):
    given = tensors(16, 24)
    torch.testing.assert_close(run(name, ask, *given).double(), wanted(ask, *given), atol=5e-6, rtol=0)


def test_is_causal_is_used_where_it_says_the_same_and_only_there():
    spell = apis()["sdpa-flash"][1].spell
    assert spell(Ask(), 8, 8) == {"is_causal": True}
    assert spell(Ask(alignment=TOP), 4, 8) == {"is_causal": True}
    assert set(spell(Ask(), 4, 8)) == {"attn_mask"}
    assert set(spell(Ask(Window(8, 0)), 8, 8)) == {"attn_mask"}
    assert spell(Ask(FULL, dropout=0.5, scale=2.0), 4, 8) == {"dropout_p": 0.5, "scale": 2.0}


@pytest.mark.parametrize("ask", [Ask(softcap=5.0), Ask(sinks=torch.zeros(4))])
def test_what_has_no_argument_is_refused(ask):
    refusal = apis()["sdpa-math"][1].spell(ask, 8, 8)
    assert isinstance(refusal, Rejected)
    assert "scaled_dot_product_attention has no argument for" in refusal.reasons[0].text


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("spelling", [row for row in SPELLINGS if row.promise is not None], ids=lambda row: row.text)
def test_promises_hold_on_a_cpu(name, spelling):
    attend = apis()[name][1].load()
    for lengths in ((24, 24), *spelling.lengths):
        given = tensors(*lengths)
        ask = Ask(spelling.promise, spelling.alignment or TOP)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # causal_lower_right warns of empty rows
            output = attend(*given, **spelling.arguments)
        torch.testing.assert_close(output.double(), wanted(ask, *given), atol=2e-6, rtol=0)


def test_mask_and_is_causal_together_differ_by_kernel():
    both = next(row for row in SPELLINGS if row.promise is None)
    given = tensors(24, 24)
    with pytest.raises(RuntimeError, match="Explicit attn_mask should not be set"):
        apis()["sdpa-math"][1].load()(*given, **both.arguments)
    output = apis()["sdpa-flash"][1].load()(*given, **both.arguments)
    torch.testing.assert_close(output.double(), wanted(Ask(Window(7, 0)), *given), atol=2e-6, rtol=0)


def test_an_additive_mask_of_the_smallest_number_does_not_empty_a_row():
    nothing = Drawn(lambda i, j: (i < 0) & (j < 0), hidden="min")
    query, key, value = tensors(4, 8)
    output = apis()["sdpa-math"][1].load()(query, key, value, attn_mask=nothing)
    torch.testing.assert_close(output, value.mean(2, keepdim=True).expand_as(output), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ON_CPU)
def test_gradients(name):
    given = [x.requires_grad_() for x in tensors(16, 16)]
    ask = Ask(Window(5, 0))
    direction = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    measured = torch.autograd.grad((run(name, ask, *given) * direction).sum(), given)
    true = torch.autograd.grad((wanted(ask, *given) * direction).sum(), given)
    for one, other in zip(measured, true):
        torch.testing.assert_close(one, other, atol=5e-6, rtol=0)


def test_the_kernel_asked_for_is_the_one_that_runs():
    given = tensors(8, 8)
    for name in ON_CPU:
        attend = apis()[name][1].load()
        assert sdpa_kernels.ran(lambda attend=attend: attend(*given), "sdpa") == name.removeprefix("sdpa-")


def test_a_refusal_says_why():
    query, key, value = tensors(8, 8, head_dim_v=8)
    with pytest.raises(RuntimeError, match="No available kernel: Flash attention requires q,k,v to have the same"):
        apis()["sdpa-flash"][1].load()(query, key, value)


def test_other_errors_pass_unchanged_and_leave_no_kernel_forced():
    with pytest.raises(RuntimeError, match="mine"), forced("math"):
        raise RuntimeError("mine")
    assert torch.backends.cuda.flash_sdp_enabled()


@pytest.mark.parametrize("name", ["sdpa-efficient", "sdpa-cudnn"])
def test_kernels_without_a_cpu_version_raise_there(name):
    with pytest.raises(RuntimeError):
        apis()[name][1].load()(*tensors(8, 8))


#: Reads the documented biases as the table does; says whether torch's compiler was imported for that, and works after.
BIASES = """
import sys, torch
from attncheck.backends.sdpa import _lower_right, _upper_left
query, key = torch.zeros(1, 1, 3, 8), torch.zeros(1, 1, 5, 8)
upper, lower = _upper_left(query, key), _lower_right(query, key)
compiler = "torch._dynamo" in sys.modules
print(compiler, type(upper).__module__, type(lower).__name__, upper.variant.name, lower.variant.name)
print(torch._dynamo.__file__ is not None, callable(torch._dynamo.optimize))
"""


@pytest.mark.parametrize(("disabled", "compiler"), [("1", False), ("0", True)])
def test_the_documented_biases_are_torchs_own_and_need_no_compiler(disabled: str, compiler: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BIASES],
        capture_output=True,
        text=True,
        env={**os.environ, "TORCHDYNAMO_DISABLE": disabled, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"{compiler} torch.nn.attention.bias CausalBias UPPER_LEFT LOWER_RIGHT"
    assert second == "True True"


def test_a_torch_whose_biases_need_more_of_the_compiler_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stood_in: list[bool] = []

    def load(name: str) -> ModuleType:
        stood_in.append("torch._dynamo" in sys.modules)
        if stood_in[-1]:
            raise AttributeError("module 'torch._dynamo' has no attribute 'another'")
        return ModuleType(name)

    for name in ("torch._dynamo", "torch.nn.attention.bias"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    monkeypatch.setattr(sdpa.importlib, "import_module", load)
    assert sdpa._biases().__name__ == "torch.nn.attention.bias"
    assert stood_in == [True, False]
