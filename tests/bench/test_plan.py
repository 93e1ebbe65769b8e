"""What options, presets and models lead to: which cases, in which order, and what is refused before any work."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from attncheck.bench import gate, grid, memory, subjects
from attncheck.bench import plan as planning
from attncheck.bench.options import BenchOptions
from attncheck.bench.plan import check, plan
from attncheck.bench.presets import PRESETS
from attncheck.errors import UsageError
from attncheck.semantics.shape import Shape
from attncheck.semantics.spec import CAUSAL, FULL, AttentionSpec, Bias, MaskSpec, Part, SoftmaxSpec, Window
from attncheck.verdicts import LayerGroup
from tests.builders import ENVIRONMENT, GPU_ENVIRONMENT

APIS = subjects.table()
#: A preset with a layer.
LAYERED = "unsloth-noncausal"


def test_the_standard_grid() -> None:
    planned = plan(BenchOptions(), GPU_ENVIRONMENT, APIS)
    assert planned.kernels == tuple(APIS)
    assert planned.kernels[:2] == ("eager", "sdpa")
    assert "xformers-mask" not in planned.kernels
    found = [case for case, _ in grid.cases(planned.grid, "kernel", "sdpa")]
    assert {(case.num_heads, case.head_dim) for case in found} == {(32, 64), (16, 128), (8, 256)}
    assert {case.batch * case.kv_len for case in found if case.kv_len <= 16384} == {16384}
    assert {case.batch for case in found if case.kv_len == 32768} == {1}
    assert {case.mask for case in found} == {"causal", "full"}
    assert [case.kv_len for case in found] == sorted(case.kv_len for case in found)
    assert {case.backward for case in found} == {False, True}
    assert planned.dtype == "bfloat16"


def test_a_cpu_gets_short_lengths_in_float32() -> None:
    planned = plan(BenchOptions(), ENVIRONMENT, APIS)
    assert (planned.device, planned.dtype) == ("cpu", "float32")
    assert planned.grid.lengths == grid.LENGTHS_ON_CPU


def test_what_the_user_says_wins() -> None:
    options = BenchOptions(
        seq_lens=(64, 32), batch=3, phases=("decode", "prefill"), passes=("forward",), masks=("full",), impl=("sdpa",)
    )
    planned = plan(options, ENVIRONMENT, APIS)
    assert planned.kernels == ("sdpa",)
    found = [case for case, _ in grid.cases(planned.grid, "kernel", "sdpa")]
    assert {(case.kv_len, case.q_len, case.batch) for case in found} == {
        (32, 1, 3),
        (32, 32, 3),
        (64, 1, 3),
        (64, 64, 3),
    }
    assert {case.mask for case in found} == {"full"}
    assert not any(case.backward for case in found)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_made_of_what_exists(name: str) -> None:
    preset = PRESETS[name]
    assert set(preset.subjects) <= set(APIS)
    if preset.layer is None:
        planned = plan(BenchOptions(preset=name), GPU_ENVIRONMENT, APIS)
        assert set(planned.kernels) == set(preset.subjects)
        assert planned.published == preset.published


def test_the_headline_preset_has_the_cells_of_its_figures() -> None:
    planned = plan(BenchOptions(preset="headline"), GPU_ENVIRONMENT, APIS)
    settings = {
        f"{case.subject}, {case.mask}, head_dim {case.head_dim}, {case.q_len} tokens"
        for name in planned.kernels
        for case, _ in grid.cases(planned.grid, "kernel", name)
    }
    assert len(set(planned.published) & settings) >= 15
    assert all("(" in figure for figure in planned.published.values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (BenchOptions(preset="nothing"), "--preset nothing"),
        (BenchOptions(preset="swa", target="llama"), "leave llama out"),
        (BenchOptions(impl=("flash",)), "--impl flash"),
        (BenchOptions(levels=("model",)), "--level model"),
        (BenchOptions(inputs=("ragged",)), "--inputs ragged"),
        (BenchOptions(seq_lens=(0,)), "--seq-lens 0"),
        (BenchOptions(batch=0), "--batch 0"),
        (BenchOptions(target="llama", masks=("full",)), "--mask full: the masks of llama are its own"),
        (BenchOptions(assignments=("a=1",)), "--set a=1: there is nothing to apply it to, no model is named"),
        (BenchOptions(unchecked=("a=1",)), "--set-unknown a=1: there is nothing"),
        (BenchOptions(revision="main"), "--revision main: there is nothing"),
        (BenchOptions(preset="swa", assignments=("a=1",)), "--set a=1: .*, --preset swa has sizes of its own"),
        (BenchOptions(preset=LAYERED, levels=("kernel",), unchecked=("a=1",)), "--set-unknown a=1"),
        (BenchOptions(preset=LAYERED, revision="main"), "--revision main"),
        (BenchOptions(preset="swa", levels=("layer",)), "--level layer: --preset swa has no layer"),
        (BenchOptions(phases=("decode",), inputs=("packed",)), "--inputs packed: decode is timed with plain inputs"),
        (BenchOptions(phases=("decode",), inputs=("plain", "padded")), "--inputs padded: decode"),
    ],
)
def test_refused_before_any_work(options: BenchOptions, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        check(options, APIS)
    assert "\n" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        BenchOptions(target="llama", assignments=("a=1",), unchecked=("b=1",), revision="main"),
        BenchOptions(preset=LAYERED, assignments=("a=1",), unchecked=("b=1",), masks=("full",)),
        BenchOptions(preset="swa", levels=("kernel", "layer")),
        BenchOptions(phases=("prefill", "decode"), inputs=("packed",)),
        BenchOptions(target="llama", inputs=("packed",)),
        BenchOptions(phases=("decode",), inputs=("plain",)),
    ],
)
def test_what_means_something_is_accepted(options: BenchOptions) -> None:
    check(options, APIS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            BenchOptions(impl=("flash_attention_2",)),
            "--impl flash_attention_2: .* there is no model",
        ),
        (BenchOptions(impl=("sdpa", "flash_attention_2")), "--impl flash_attention_2"),
        (BenchOptions(target="llama", levels=("layer",), impl=("flash-attn-2",)), "flash-attn-2: a kernel API, and"),
        (BenchOptions(target="llama", levels=("kernel",), impl=("flex_attention_x",)), "--level kernel times no layer"),
        (BenchOptions(target="bert", levels=("layer",)), "--level layer: bert has no decoder layer"),
        (BenchOptions(target="bert", levels=("layer",), impl=("sdpa",)), "--impl sdpa: .*, and bert has no decoder"),
        (BenchOptions(target="chunked", phases=("decode",)), "--phase decode: layers with chunks are timed in prefill"),
    ],
)
def test_a_plan_of_nothing_is_refused(options: BenchOptions, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Part.ENCODER if options.target == "bert" else Part.DECODER
    mask = MaskSpec(chunk=128) if options.target == "chunked" else MaskSpec()
    declared = SimpleNamespace(groups=(group(part, mask=mask),), longest=None, decisions={"eager": None, "sdpa": None})
    monkeypatch.setattr(planning, "read", lambda *_: declared)
    with pytest.raises(UsageError, match=words):
        plan(options, ENVIRONMENT, APIS)
    assert plan(replace(options, levels=(), impl=("sdpa",), phases=()), ENVIRONMENT, APIS).kernels == ("sdpa",)


def test_refusals_of_the_plan() -> None:
    with pytest.raises(UsageError, match="no GPU is visible"):
        plan(BenchOptions(device="cuda"), ENVIRONMENT, APIS)
    with pytest.raises(UsageError, match="needs a model"):
        plan(BenchOptions(levels=("layer",)), ENVIRONMENT, APIS)
    with pytest.raises(UsageError, match="--preset swa has window 1024, causal"):
        plan(BenchOptions(preset="swa", masks=("full",)), ENVIRONMENT, APIS)


def group(part: Part = Part.DECODER, layers: tuple[int, ...] = (0,), **changes: object) -> LayerGroup:
    spec = AttentionSpec(part, layers[0], num_heads=8, num_kv_heads=2, head_dim=64)
    return LayerGroup(part, layers, replace(spec, **changes))  # type: ignore[arg-type]


def test_the_attentions_of_a_model() -> None:
    window = MaskSpec(Window(511, 0))
    groups = [
        group(layers=(0, 2), mask=window, softmax=SoftmaxSpec(0.1, 50.0)),
        group(layers=(1, 3)),
        group(Part.ENCODER, mask=MaskSpec(FULL)),
        group(layers=(4,)),
        group(Part.CROSS),
        group(layers=(7,), attends=False),
        group(layers=(8,), unknown=frozenset({"window"})),
        group(layers=(9,), head_dim=None),
        group(layers=(10,), softmax=SoftmaxSpec(bias=Bias.ALIBI), head_dim_v=32),
    ]
    found, left_out = grid.of_model(groups, "bfloat16")
    assert [(entry.mask, entry.layer, entry.part) for entry in found] == [
        ("window 512", 0, Part.DECODER),
        ("causal", 1, Part.DECODER),
        ("full", 0, Part.ENCODER),
        ("causal", 10, Part.DECODER),
    ]
    assert (found[0].shape.scale, found[0].shape.softcap) == (0.1, 50.0)
    assert (found[3].shape.alibi, found[3].shape.head_dim_v) == (True, 32)
    assert len(left_out) == 3
    assert "cross-attention" in left_out[0]


def test_masks_in_words_and_back() -> None:
    for mask in ("causal", "full", "window 1024"):
        assert grid.mask_words(grid.window_of(mask)) == mask
    assert grid.mask_words(Window(8, 3)) == "window 8 back, 3 ahead"
    assert grid.mask_words(Window(8, None)) == "window 8 back, unbounded ahead"
    assert grid.mask_words(CAUSAL, 8192) == "chunk 8192"


def test_chunks_and_decode_are_timed_with_plain_inputs() -> None:
    chunked = grid.Attention(Shape(4, 4, 64, 64, chunk=128))
    plain = grid.Attention(Shape(4, 4, 64, 64))
    made = grid.Grid((chunked, plain), (256,), ("prefill", "decode"), ("forward",), ("plain", "padded", "packed"))
    found = [(case.mask, case.phase, case.inputs) for case, _ in grid.cases(made, "kernel", "sdpa")]
    assert found == [
        ("chunk 128", "prefill", "plain"),
        *(("causal", "prefill", inputs) for inputs in ("plain", "padded", "packed")),
        ("causal", "decode", "plain"),
    ]


def test_checks_are_short_and_reach_the_window_where_they_can() -> None:
    made = grid.Grid((grid.Attention(Shape(4, 4, 64, 64, Window(1023, 0))),), (16384,), inputs=("plain", "packed"))
    plain, _, packed, _ = (gate.checked_case(case, "cuda") for case, _ in grid.cases(made, "kernel", "sdpa"))
    assert (plain.kv_len, plain.window) == (1152, Window(1023, 0))
    assert (packed.kv_len, packed.window) == (256, Window(63, 0))
    wide = replace(plain, window=Window(131071, 0))
    assert gate.checked_case(wide, "cuda").kv_len == 256
    assert gate.checked_case(replace(plain, window=CAUSAL, phase="decode"), "cuda").q_len == 1


def test_a_cpu_does_not_try_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    made = grid.Grid((grid.Attention(Shape(32, 32, 64, 64, dtype="float32")),), (32768,))
    (case, _), *_ = grid.cases(made, "kernel", "eager")
    monkeypatch.setattr(memory, "available", lambda: 8 << 30)
    assert "384 GiB" in memory.too_large(case, "cpu")
    assert memory.too_large(case, "cuda") == ""
    assert memory.too_large(replace(case, q_len=512, kv_len=512), "cpu") == ""
    monkeypatch.setattr(memory, "available", lambda: None)
    assert memory.too_large(case, "cpu") == ""


def test_switching_flash_off_is_timed_beside_what_torch_takes_then_and_never_advises_flash() -> None:
    preset = PRESETS["llava-no-flash"]
    assert {"sdpa", "sdpa-cudnn"} <= set(preset.subjects)
    assert preset.switched_off == ("flash",)
    assert not any(other.switched_off for name, other in PRESETS.items() if name != "llava-no-flash")
