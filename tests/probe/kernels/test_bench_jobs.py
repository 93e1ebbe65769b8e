"""The jobs of the bench in this process: layouts, inputs, checks that catch planted faults, and a fake timer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from attncheck.checks.shape_results import wrong
from attncheck.probe import timing
from attncheck.probe.kernels import bench, bench_calls, bench_check, bench_layer, bench_rates
from attncheck.probe.kernels.subject import Inexpressible, subject
from attncheck.probe.timing import Times
from attncheck.semantics.convention import Outcome
from attncheck.semantics.shape import ShapeReading
from attncheck.semantics.spec import CAUSAL, FULL, Window
from attncheck.semantics.timing import LAUNCH_BOUND, BenchCase, BenchCell
from attncheck.semantics.workload import cells

PLUGINS = ("tests.plugins.bench_kernels", "attncheck.probe.baselines")
BASE = BenchCase(
    "kernel", "made-right", "prefill", False, "plain", 1, 96, 96, 4, 2, 16, 16, "float32", CAUSAL, "causal"
)
BAND = {"window": Window(15, 0), "mask": "window 16"}


def case(name: str = "made-right", **changes: Any) -> BenchCase:
    made = replace(BASE, subject=name, **changes)
    made = replace(made, q_len=1) if made.phase == "decode" else made
    return replace(made, cells=cells(made))


def arguments(*cases: Any) -> dict[str, Any]:
    return {"device": "cpu", "seed": 0, "plugins": PLUGINS, "cases": {str(n): made for n, made in enumerate(cases)}}


def check(made: BenchCase) -> ShapeReading:
    reading, seconds = bench_check.run("0", arguments(made))
    assert seconds >= 0
    return reading


@pytest.fixture
def fake_timer(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Every measured call is made once and "takes" 2 ms; the calls are kept."""
    calls: list[Callable[[], object]] = []

    def measure(call: Callable[[], object], device: str, **_: Any) -> Times:
        calls.append(call)
        call()
        return Times(0.002, 0.0019, 0.0021, 30, 0.5, 0.01, None, False, 0.6)

    monkeypatch.setattr(timing, "measure", measure)
    return calls


KINDS = [
    {},
    BAND,
    {"window": FULL, "mask": "full"},
    {"backward": True, **BAND},
    {"inputs": "padded", "batch": 3, **BAND},
    {"inputs": "packed", "backward": True, **BAND},
    {"chunk": 40, "mask": "chunk 40"},
    {"phase": "decode", "kv_len": 90},
    {"phase": "decode", "kv_len": 90, **BAND},
    {"softcap": 20.0, "scale": 0.3},
]


@pytest.mark.parametrize("name", ["made-right", "made-packed", "eager"])
@pytest.mark.parametrize("changes", KINDS)
def test_right_kernels_pass_every_check(name: str, changes: dict[str, Any]) -> None:
    reading = check(case(name, **changes))
    assert reading.outcome is Outcome.READ, reading.reasons
    assert not list(wrong(reading, training=True))


@pytest.mark.parametrize(
    ("name", "changes", "slug"),
    [
        ("made-no-window", BAND, "window-ignored"),
        ("made-no-window", {"phase": "decode", **BAND}, "window-ignored"),
        ("made-no-softcap", {"softcap": 5.0}, "numeric-drift"),
        ("made-no-padding", {"inputs": "padded", "batch": 2, "window": FULL}, "numeric-drift"),
        ("made-no-padding", {"inputs": "packed"}, "numeric-drift"),
        ("made-one-document", {"inputs": "packed"}, "numeric-drift"),
        ("made-wrong-gradient", {"backward": True}, "gradient-mismatch"),
    ],
)
def test_planted_faults_are_caught(name: str, changes: dict[str, Any], slug: str) -> None:
    assert [fault.slug for fault in wrong(check(case(name, **changes)), training=True)] == [slug]


def test_rows_alone_tell_where_a_dense_reference_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_check, "DENSE_CELLS", 0)
    assert not list(wrong(check(case(backward=True, **BAND)), training=True))
    (fault,) = wrong(check(case("made-wrong-gradient", backward=True)), training=True)
    assert fault.slug == "gradient-mismatch"
    (fault,) = wrong(check(case("made-no-softcap", softcap=5.0)), training=True)
    assert fault.slug == "numeric-drift"


def test_refusals_of_a_check() -> None:
    reading = check(case("made-bshd", inputs="packed"))
    assert reading.outcome is Outcome.REFUSED
    assert reading.reasons[0].text == "packed inputs: no argument for mask"
    assert "no backward pass" in check(case("made-forward-only", backward=True)).reasons[0].text
    assert check(case("made-forward-only")).outcome is Outcome.READ


@pytest.mark.parametrize("name", ["made-right", "made-bshd", "made-packed"])
def test_tensors_lie_as_the_library_wants_them(name: str) -> None:
    tested = subject(name, {**arguments(), "dtype": "float32"})
    query, key, value = bench_calls.inputs(tested, case(name, batch=2))
    if name == "made-right":
        assert query.shape == (2, 4, 96, 16)
        assert query.is_contiguous()
    else:
        assert query.transpose(1, 2).is_contiguous()
        assert key.shape[1:3] == (2, 96 if name == "made-bshd" else 192)
    assert not torch.equal(key, value)


def test_padding_never_reaches_a_packed_kernel() -> None:
    made = case("made-packed", inputs="padded", batch=3)
    tested = subject("made-packed", {**arguments(), "dtype": "float32"})
    query, *_ = bench_calls.inputs(tested, made)
    assert query.shape == (1, 4, 96 + 64 + 32, 16)
    (ends, longest), _ = bench_calls.bounds(made, "cpu")
    assert ends.tolist() == [0, 96, 160, 192]
    assert ends.dtype == torch.int32
    assert longest == 96


def test_masks_are_drawn_before_the_timer_starts() -> None:
    tested = subject("sdpa", {**arguments(), "dtype": "float32"})
    made = case("sdpa", **BAND)
    bound = bench_calls.call(tested, made, bench_calls.inputs(tested, made))
    mask = bound.keywords["attn_mask"]  # type: ignore[attr-defined]
    assert mask.shape == (96, 96)
    assert int(mask.sum()) == made.cells
    with pytest.raises(Inexpressible, match="softcap"):
        bench_calls.call(tested, case("sdpa", softcap=5.0), bench_calls.inputs(tested, made))


@pytest.mark.parametrize("changes", [{}, BAND, {"inputs": "packed"}, {"chunk": 40}])
def test_masks_keep_as_many_cells_as_are_counted(changes: dict[str, Any]) -> None:
    made = case(**changes)
    assert int(bench_calls.mask(made, "cpu").sum()) == made.cells


def test_a_timed_cell(fake_timer: list[Callable[[], object]]) -> None:
    made = case("sdpa", backward=True, **BAND)
    cell, spent = bench.run("0", arguments(made))
    assert (cell.outcome, cell.median, cell.n, cell.kernel) == (Outcome.READ, 0.002, 30, "flash")
    assert cell.tflops == pytest.approx(made.flops / 0.002 / 1e12)
    assert cell.first_call is not None
    assert cell.first_call >= 0.5
    assert spent >= 0.6
    gradients = fake_timer[0]()
    assert [tuple(gradient.shape) for gradient in gradients] == [(1, 4, 96, 16), (1, 2, 96, 16), (1, 2, 96, 16)]  # type: ignore[attr-defined]


def test_a_forward_keeps_no_graph(fake_timer: list[Callable[[], object]]) -> None:
    bench.run("0", arguments(case("made-right")))
    output = fake_timer[0]()
    assert isinstance(output, torch.Tensor)
    assert not output.requires_grad


def test_a_call_bound_by_its_launch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "measure", lambda *_, **__: Times(1e-5, 1e-5, 1e-5, 9, 1e-5, launch_bound=True))
    cell, _ = bench.run("0", arguments(case()))
    assert cell.detail == LAUNCH_BOUND
    assert cell.launch_bound
    monkeypatch.setattr(timing, "measure", lambda *_, **__: Times(1e-5, 1e-5, 1e-5, 9, 1e-5))
    assert not bench.run("0", arguments(case()))[0].launch_bound


@pytest.mark.parametrize(
    ("name", "outcome", "words"),
    [
        ("made-runs-out", Outcome.CRASHED, "out of memory: Tried to allocate 80 GiB"),
        ("made-refuses-long", Outcome.REFUSED, "at most 300 tokens"),
    ],
)
def test_what_breaks_at_length_is_an_outcome(name: str, outcome: Outcome, words: str) -> None:
    made = case(name, q_len=320, kv_len=320)
    cell, _ = bench.run("0", arguments(made))
    assert cell.outcome is outcome
    assert words in cell.detail
    assert cell.median is None


def test_a_slip_is_let_through() -> None:
    with pytest.raises(KeyError):
        bench.run("0", arguments(case("made-slips", q_len=320, kv_len=320)))


def test_rates_of_the_device(fake_timer: list[Callable[[], object]]) -> None:
    rates, spent = bench_rates.run("rates", {"device": "cpu", "dtype": "float32"})
    assert rates.matrix == pytest.approx(2 * bench_rates.SIZE_ON_CPU**3 / 0.002)
    assert rates.copy == pytest.approx(2 * bench_rates.COPIED_ON_CPU / 0.002)
    assert "float32" in rates.matrix_shape
    assert rates.name.startswith("CPU")
    assert spent > 0
    assert bench_rates.run("clock", {"device": "cpu", "dtype": "float32"})[0].matrix is None


GEMMA = {
    "model_type": "gemma2",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_hidden_layers": 6,
    "sliding_window": 16,
    "intermediate_size": 4000,
    "vocab_size": 200000,
}


def layer(name: str, index: int = 0, config: dict[str, Any] = GEMMA, **changes: Any) -> BenchCell:
    made = case(name, level="layer", **changes)
    asked = {**arguments((made, index)), "config": config}
    cell, _ = bench_layer.run("0", asked)
    return cell


@pytest.mark.parametrize("changes", [{}, {"backward": True}, {"inputs": "padded", "batch": 2}, {"inputs": "packed"}])
def test_a_layer_inside_transformers(fake_timer: list[Callable[[], object]], changes: dict[str, Any]) -> None:
    cell = layer("eager", **changes)
    assert (cell.outcome, cell.median, cell.tflops) == (Outcome.READ, 0.002, None)
    assert "Gemma2Model" in cell.detail
    assert "feed-forward cut to 256" in cell.detail


def test_the_real_layer_is_built(fake_timer: list[Callable[[], object]]) -> None:
    for index, kind in ((0, "sliding_attention"), (5, "full_attention")):
        layer("eager", index)
        (model, _), *_ = bench_layer._built.values()
        assert model.config.num_hidden_layers == len(model.layers) == 1
        assert model.config.layer_types == [kind]
        assert model.config.vocab_size == 256
        assert model.layers[0].self_attn.q_proj.weight.shape == (64, 64)


def test_the_kernel_that_a_layer_got(fake_timer: list[Callable[[], object]]) -> None:
    llama = {**GEMMA, "model_type": "llama"}
    assert layer("sdpa", config=llama).kernel == "flash"
    assert torch.nn.functional.scaled_dot_product_attention.__module__ != bench_layer.__name__


def test_what_transformers_refuses_is_refused() -> None:
    cell = layer("flash_attention_2")
    assert cell.outcome is Outcome.REFUSED
    assert "flash" in cell.detail.lower()
