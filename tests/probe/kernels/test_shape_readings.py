"""The probe at true sizes finds faults that small sizes hide, is quiet on right kernels, and stays small itself."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from attncheck.checks.shape_results import wrong
from attncheck.probe.kernels import shapes, sparse
from attncheck.probe.kernels.shapes import length
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import NotRun
from attncheck.semantics.shape import EXPLICIT_MASK, Shape, ShapeReading
from attncheck.semantics.spec import FULL, Window

PLUGIN = "tests.plugins.shape_kernels"
#: Qwen2.5-0.5B has 14 query heads on 2 kv heads.
SEVENS = Shape(14, 2, 16, 16, dtype="float32")
SMALL = Shape(4, 2, 16, 16, Window(31, 0), dtype="float32")
#: Just beyond what small probes see: 1100 keys.
WINDOWED = Shape(2, 1, 16, 16, Window(1099, 0), dtype="float32")


def answer(api: str, shape: Shape, variant: str = "", **arguments: Any) -> ShapeReading | NotRun:
    step = "|".join(filter(None, (api, shape.key, variant)))
    asked = {"device": "cpu", "seed": 0, "shapes": {shape.key: shape}, "plugins": (PLUGIN,), **arguments}
    return shapes.run(step, asked)


def read(api: str, shape: Shape, variant: str = "", **arguments: Any) -> ShapeReading:
    found = answer(api, shape, variant, **arguments)
    assert isinstance(found, ShapeReading)
    return found


def slugs(reading: ShapeReading) -> list[str]:
    return [fault.slug for fault in wrong(reading, training=True)]


RIGHT = [
    SMALL,
    SEVENS,
    WINDOWED,
    replace(SMALL, window=FULL),
    replace(SMALL, window=Window(40, 40)),
    replace(SMALL, window=Window(7, 0), head_dim=24, head_dim_v=8),
    replace(SMALL, chunk=100, window=Window(None, 0)),
    replace(SMALL, dtype="bfloat16"),
    replace(SMALL, dtype="float16", num_heads=6, num_kv_heads=3),
    replace(SMALL, softcap=30.0),
    replace(SMALL, sinks=True, scale=1.0),
    replace(SMALL, softcap=50.0, dtype="bfloat16", scale=1 / 16),
    replace(SMALL, num_kv_heads=4, head_dim=512, head_dim_v=512),
    Shape(2, 2, 192, 128, dtype="bfloat16"),
]


@pytest.mark.parametrize("shape", RIGHT, ids=lambda shape: shape.key)
@pytest.mark.parametrize("api", ["right", "right-bshd", "sdpa-math", "sdpa-flash"])
def test_right_kernels_give_no_fault(api: str, shape: Shape) -> None:
    for variant in ("", EXPLICIT_MASK):
        reading = answer(api, shape, variant, longest={shape.key: 1280})
        if isinstance(reading, NotRun):
            assert (api, variant) == ("right-bshd", EXPLICIT_MASK)
            continue
        if reading.outcome is Outcome.REFUSED:
            assert api == "sdpa-flash", reading.reasons
            assert shape.head_dim != shape.head_dim_v
            continue
        assert reading.outcome is Outcome.READ
        assert reading.mask_ok
        assert reading.heads_ok
        assert not reading.nan
        assert reading.backward is Outcome.READ
        assert slugs(reading) == [], (reading.kernel, reading.plain)


@pytest.mark.parametrize(
    ("fault", "shape", "variant", "slug"),
    [
        ("late-window", WINDOWED, "", "window-off-by-one"),
        ("tiled-by-seven", SEVENS, "", "head-map-wrong"),
        ("nan-gradients", SMALL, EXPLICIT_MASK, "gradient-mismatch"),
        ("zero-at-96", Shape(2, 1, 96, 96, dtype="bfloat16"), "", "keys-missing"),
        ("nan-at-96", Shape(2, 1, 96, 96, dtype="bfloat16"), "", "nan-rows"),
        ("leaks-late", SEVENS, "", "causal-ignored"),
        ("drifts-at-128", Shape(2, 1, 128, 128, dtype="bfloat16"), "", "numeric-drift"),
        ("drifts-at-128", Shape(2, 1, 128, 128, dtype="float32"), "", "numeric-drift"),
        ("loses-the-last-tile", WINDOWED, "", "gradient-mismatch"),
        ("loses-the-last-tile", replace(WINDOWED, dtype="bfloat16"), "", "gradient-mismatch"),
    ],
)
def test_faults_that_only_true_sizes_show_are_found(fault: str, shape: Shape, variant: str, slug: str) -> None:
    assert slugs(read(fault, shape, variant)) == [slug]


@pytest.mark.parametrize(
    ("fault", "shape"),
    [
        ("late-window", SMALL),
        ("tiled-by-seven", SMALL),
        ("nan-gradients", SMALL),
        ("zero-at-96", SMALL),
        ("leaks-late", SMALL),
        ("drifts-at-128", SMALL),
        ("loses-the-last-tile", SMALL),
    ],
)
def test_the_same_kernels_are_right_at_small_sizes(fault: str, shape: Shape) -> None:
    assert slugs(read(fault, shape)) == []


def test_an_off_by_one_is_located() -> None:
    found = read("late-window", WINDOWED).wrong
    assert found is not None
    query, key = found.first
    assert query - key == 1100
    assert found.behind_distances == (1100, 1100)
    assert (found.ahead, found.missed) == (0, 0)


def test_wrong_heads_are_named() -> None:
    assert read("tiled-by-seven", SEVENS).head_map == tuple(head % 2 for head in range(14))


def test_a_refusal_is_told_in_the_kernels_words() -> None:
    reading = read("refuses-wide", Shape(2, 1, 512, 512, dtype="bfloat16"))
    assert reading.outcome is Outcome.REFUSED
    assert reading.reasons[0].text == "head_dim must be at most 256"
    assert reading.mask_ok is None
    assert read("refuses-wide", Shape(2, 1, 256, 256, dtype="bfloat16")).outcome is Outcome.READ


def test_a_missing_backward_leaves_the_forward_pass_read() -> None:
    reading = read("no-backward", SMALL)
    assert (reading.outcome, reading.backward) == (Outcome.READ, Outcome.REFUSED)
    assert "no backward pass for this head size" in reading.backward_detail
    assert slugs(reading) == []


def test_what_does_not_fit_is_read_for_the_last_queries() -> None:
    reading = read("large-needs-too-much", WINDOWED)
    assert (reading.q_len, reading.kv_len) == (256, 1280)
    assert "the last 256" in reading.detail
    assert slugs(reading) == []


def test_terms_without_an_argument_are_left_out_and_said() -> None:
    assert read("sdpa-math", replace(SMALL, softcap=20.0, sinks=True)).left_out == ("sinks", "softcap")
    assert read("right", replace(SMALL, alibi=True)).left_out == ("alibi",)
    # Without a mask argument nobody can say where chunks end.
    chunked = read("right-bshd", replace(SMALL, chunk=100, window=Window(None, 0)))
    assert chunked.left_out == ("chunk",)
    assert slugs(chunked) == []


def test_alibi_is_judged_where_it_can_be_said() -> None:
    reading = read("sdpa-math", Shape(8, 8, 16, 16, alibi=True, dtype="float32"))
    assert reading.left_out == ()
    assert slugs(reading) == []


def test_an_explicit_mask_at_the_odd_length() -> None:
    reading = read("right", SMALL, EXPLICIT_MASK)
    assert reading.variant == EXPLICIT_MASK
    assert reading.kv_len % 128 == 64
    assert answer("right-bshd", SMALL, EXPLICIT_MASK) == NotRun("it takes no mask: no argument for a mask")


@pytest.mark.parametrize(
    ("window", "longest", "free", "tokens", "remark"),
    [
        (Window(4095, 0), None, None, 4224, ""),
        (Window(4095, 0), 32768, None, 4224, ""),
        (Window(4095, 0), 2048, None, 2048, "the window is not reached at 2048 tokens: sequences of at most 2048"),
        (Window(32767, 0), None, 10 << 30, 32896, ""),
        (Window(32767, 0), None, 1 << 30, 10922, "the window is not reached at 10922 tokens: 1.0 GiB"),
        (Window(None, 0), None, None, 2176, ""),
        (Window(8, 8), None, None, 256, ""),
    ],
)
def test_the_length_just_beyond_the_window(
    window: Window, longest: int | None, free: int | None, tokens: int, remark: str
) -> None:
    found, why = length(Shape(32, 8, 64, 64, window), longest, free)
    assert found == pytest.approx(tokens, rel=0.05) if free == 1 << 30 else found == tokens
    assert why.startswith(remark[:30])
    assert bool(why) is bool(remark)


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 8, 128])
@pytest.mark.parametrize("width", [8, 16, 64, 256])
def test_channels_fit_into_the_values(kv_heads: int, width: int) -> None:
    columns = sparse.plan(Shape(128, kv_heads, 64, width, Window(4095, 0)), 4224)
    assert 1 <= len(columns.keys) <= width - (columns.bits + 1 if columns.bits else 0)
    assert columns.keys == tuple(sorted(set(columns.keys)))
    assert 0 <= columns.keys[0] <= columns.keys[-1] < 4224
    # Some chosen key must leave the window inside the sequence, or its end is never seen.
    assert any(key + 4096 < 4224 for key in columns.keys)


def test_every_single_wrong_cell_of_a_chosen_key_is_seen() -> None:
    """A reading where one cell more, or one less, than declared is visible, at each chosen key in turn."""
    shape, tokens = replace(SMALL, num_heads=1, num_kv_heads=1), 256
    columns = sparse.plan(shape, tokens)
    queries, keys = torch.arange(tokens), torch.tensor(columns.keys)
    output = torch.zeros(1, 1, tokens, 16)
    output[0, 0, :, : len(keys)] = sparse.declared(shape, queries, keys).float()
    assert sparse.wrong_cells(output, columns, shape, tokens) is None
    for channel, key in enumerate(columns.keys):
        for query in (max(0, key - 1), key, min(tokens - 1, key + 31), min(tokens - 1, key + 32)):
            spoilt = output.clone()
            spoilt[0, 0, query, channel] = 1 - spoilt[0, 0, query, channel]
            found = sparse.wrong_cells(spoilt, columns, shape, tokens)
            assert found is not None
            assert found.first == (query, key)
            assert (found.keys, found.over) == (len(columns.keys), 1)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that comes into being."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor):
                # Views are counted by what lies behind them: an expanded row is no square.
                self.cells = max(self.cells, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made


def test_the_probe_makes_no_square_tensor() -> None:
    shape = Shape(4, 2, 32, 32, Window(4095, 0), dtype="bfloat16")
    with Largest() as seen:
        reading = read("right", shape)
    assert slugs(reading) == []
    tokens = reading.kv_len
    assert tokens > 4096
    tile = 4 * 64 * tokens  # what the kernel itself holds: heads x its tile of queries x keys
    assert seen.cells <= tile < tokens * tokens
    assert reading.q_len == tokens


def test_readings_repeat() -> None:
    first, second = (read("right", SMALL) for _ in range(2))
    assert first == second
    assert first.kernel is not None
    assert not math.isnan(first.kernel.output)


@pytest.mark.parametrize(("variant", "kv_heads"), [("", 2), (EXPLICIT_MASK, 4)])
def test_what_torch_picks_beside_a_mask_is_asked_of_repeated_heads(
    variant: str, kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = torch._fused_sdp_choice

    def choice(query: torch.Tensor, key: torch.Tensor, *rest: Any, **arguments: Any) -> int:
        asked.append(key.shape[1])
        return real(query, key, *rest, **arguments)

    monkeypatch.setattr(torch, "_fused_sdp_choice", choice)
    assert read("sdpa-math", replace(SMALL, window=Window(None, 0)), variant).picked is not None
    assert asked == [kv_heads]
