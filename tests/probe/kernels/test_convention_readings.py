"""The convention table reads kernels of known conventions exactly."""

from __future__ import annotations

from typing import Any

import pytest

from attncheck.probe.apis import known
from attncheck.probe.kernels import conventions
from attncheck.probe.kernels.subject import refuses
from attncheck.semantics.convention import WINDOW, Convention, Outcome
from attncheck.semantics.observation import Rejected
from attncheck.semantics.spec import Alignment

PLUGIN = "tests.plugins.fake_apis"
ARGUMENTS = {"device": "cpu", "dtype": "float32", "seed": 0, "plugins": (PLUGIN,)}
BOTTOM, TOP = Alignment.BOTTOM_RIGHT, Alignment.TOP_LEFT


def read(api: str, which: str | int, lengths: str = "64x64", **further: Any) -> Convention:
    row = conventions.run(f"{api}|{which}|{lengths}", {**ARGUMENTS, **further})
    assert isinstance(row, Convention)
    return row


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("api", "back"), [("fake-inclusive", 8), ("fake-exclusive", 7), ("fake-top-left", 8)])
def test_what_a_window_of_8_means(api: str, back: int, dtype: str) -> None:
    row = read(api, "window=(8, 0)", dtype=dtype)
    assert (row.left, row.right, row.keys, row.agrees) == (back, 0, back + 1, True)
    assert row.outcome is Outcome.READ
    assert row.expected == f"{back + 1} keys: {back} back, 0 ahead"
    assert row.figures["relative error"] <= row.figures["limit"]
    two_sided = read(api, "window=(8, 3)", dtype=dtype)
    assert (two_sided.left, two_sided.right, two_sided.keys) == (back, 3, back + 4)


def test_unbounded_sides() -> None:
    causal, full = read("fake-inclusive", "window=(-1, 0)"), read("fake-inclusive", "window=(-1, -1)")
    assert (causal.left, causal.right, causal.keys, causal.agrees) == (None, 0, None, True)
    assert (full.left, full.right, full.keys, full.agrees) == (None, None, None, True)


@pytest.mark.parametrize(
    ("api", "lengths", "alignment", "empty"),
    [
        ("fake-inclusive", "32x64", BOTTOM, 0),
        ("fake-inclusive", "64x32", BOTTOM, 32),
        ("fake-top-left", "32x64", TOP, 0),
        ("fake-top-left", "64x32", TOP, 0),
    ],
)
def test_alignment_of_unequal_lengths(api: str, lengths: str, alignment: Alignment, empty: int) -> None:
    row = read(api, "window=(-1, 0)", lengths)
    assert (row.left, row.right, row.alignment, row.empty_rows, row.agrees) == (None, 0, alignment, empty, True)
    assert row.question == ("short-queries" if lengths == "32x64" else "more-queries")
    assert row.expected == f"all earlier keys, {alignment.value}"


def test_full_attention_cannot_tell_its_alignment() -> None:
    row = read("fake-inclusive", "window=(-1, -1)", "32x64")
    assert (row.alignment, row.agrees, row.detail) == (None, True, "")


def test_a_window_of_unequal_lengths_with_rows_beyond_the_keys() -> None:
    """Top-left with more queries than keys: rows from 40 on have no key within 8 back."""
    row = read("fake-top-left", "window=(8, 0)", "64x32")
    assert (row.left, row.right, row.alignment, row.empty_rows) == (8, 0, TOP, 24)


def test_without_a_promise_nothing_agrees() -> None:
    row = read("fake-inclusive", 4)
    assert (row.keys, row.expected, row.agrees) == (9, "", None)


def test_one_key_fewer_than_promised() -> None:
    row = read("fake-off-by-one", "window=(8, 0)")
    assert (row.keys, row.agrees) == (8, False)
    assert row.expected == "9 keys: 8 back, 0 ahead"


def test_another_alignment_than_promised() -> None:
    for lengths in ("32x64", "64x32"):
        row = read("fake-wrong-corner", "window=(-1, 0)", lengths)
        assert (row.alignment, row.agrees) == (TOP, False)
    assert read("fake-wrong-corner", "window=(-1, 0)").agrees is True


def test_all_rows_exactly_zero() -> None:
    row = read("fake-minus-one", "window=(-1, 0)")
    assert row.detail == "all 64 output rows are exactly 0"
    assert (row.empty_rows, row.keys, row.agrees) == (64, None, False)


def test_rows_without_keys_that_hold_nan() -> None:
    row = read("fake-nan", "window=(-1, 0)", "64x32")
    assert row.detail == "32 of 64 rows hold NaN or Inf"
    assert (row.alignment, row.agrees, row.figures["NaN rows"], row.empty_rows) == (BOTTOM, True, 32, 0)


@pytest.mark.parametrize("api", ["fake-uniform", "fake-first-key"])
def test_rows_without_keys_that_see_some(api: str) -> None:
    row = read(api, "window=(-1, 0)", "64x32")
    assert row.detail == "32 rows that see no key sum to 1, not 0"
    assert (row.left, row.right, row.alignment, row.agrees) == (None, 0, BOTTOM, True)
    assert row.figures["relative error"] <= row.figures["limit"]


def test_a_head_with_another_mask() -> None:
    row = read("fake-odd-head", "window=(8, 0)")
    assert row.detail == "query heads 1 see other keys than head 0"
    assert (row.keys, row.agrees) == (9, False)


def test_a_refusal_is_one_sentence() -> None:
    row = read("fake-refusing", "window=(8, 0)")
    assert (row.outcome, row.detail, row.basis) == (Outcome.REFUSED, "FakeAttention only supports fp8", None)
    assert row.agrees is None


def test_an_unknown_argument_is_a_refusal() -> None:
    with pytest.raises(TypeError) as unknown:
        refuses(RuntimeError(), wrong=True)  # type: ignore[call-arg]
    assert refuses(unknown.value)
    assert not refuses(TypeError("unsupported operand type(s)"))


def test_what_is_no_refusal_is_left_to_the_worker() -> None:
    with pytest.raises(KeyError):
        read("fake-slipping", "window=(8, 0)")
    with pytest.raises(ImportError):
        read("fake-unloadable", "window=(8, 0)")


@pytest.mark.parametrize("text", ["CUDA error: an illegal memory access was encountered", "INTERNAL ASSERT FAILED"])
def test_a_fault_of_the_device_is_no_refusal(text: str) -> None:
    assert not refuses(RuntimeError(text))
    assert refuses(RuntimeError("FlashAttention only support fp16 and bf16 data type"))


@pytest.mark.parametrize(
    ("api", "kernel"),
    [
        ("sdpa-math", "aten::_scaled_dot_product_attention_math"),
        ("sdpa-flash", "aten::_scaled_dot_product_flash_attention_for_cpu"),
    ],
)
def test_the_kernels_of_torch_on_a_cpu(api: str, kernel: str) -> None:
    texts = [spelling.text for spelling in known()[api][1].spellings]
    causal = texts.index("is_causal=True")
    for lengths, alignment in (("64x64", None), ("32x64", TOP), ("64x32", TOP)):
        row = read(api, causal, lengths)
        assert (row.left, row.right, row.alignment, row.agrees, row.kernel) == (None, 0, alignment, True, kernel)
    row = read(api, texts.index("attn_mask=(j <= i) & (i - j < 8)"))
    assert (row.left, row.right, row.keys, row.agrees) == (7, 0, 8, True)


def test_an_irregular_reading_says_which_rows_see_what() -> None:
    """As TransformerEngine 2.20 unfused: an unbounded side is as many tokens as there are keys."""
    row = read("fake-bounded", "window=(-1, 0)", "64x32")
    assert (row.agrees, row.alignment, row.keys) == (False, None, None)
    assert row.detail == (
        "neither diagonal, top-left nor bottom-right, explains every row; "
        "query 33 is the first of 31 that differ: it sees keys 1 to 31, not keys 0 to 31; "
        "what is seen is 33 keys: 32 back, 0 ahead, top-left"
    )
    assert (row.figures["irregular queries"], row.figures["first irregular query"]) == (31, 33)
    assert read("fake-bounded", "window=(-1, 0)", "32x64").agrees is True


def test_as_many_kv_heads_as_query_heads_where_grouped_ones_are_refused() -> None:
    assert read("fake-ungrouped", "window=(8, 0)").outcome is Outcome.REFUSED
    row = read("fake-ungrouped", "window=(8, 0)", grouped=False)
    assert (row.keys, row.agrees) == (9, True)
    assert (row.figures["query heads"], row.figures["kv heads"]) == (4, 4)
    assert read("fake-inclusive", "window=(8, 0)").figures["kv heads"] == 2


def test_a_library_without_operators_refuses_to_be_loaded() -> None:
    answer = conventions.run("fake-no-operators|load", ARGUMENTS)
    assert isinstance(answer, Rejected)
    assert answer.reasons[0].text.startswith("imports, but none of its operators can be used")


def test_equal_lengths_are_read_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that compiles anew for each shape would do so again."""
    monkeypatch.setattr(conventions, "_BANDS", {})
    read("fake-inclusive", "window=(8, 0)")

    def again(*_: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(conventions, "_read_at_equal_lengths", again)
    assert read("fake-inclusive", "window=(8, 0)", "32x64").alignment is BOTTOM
    with pytest.raises(AssertionError, match="read again"):
        read("fake-exclusive", "window=(8, 0)", "32x64")


@pytest.mark.parametrize("api", sorted(known()))
def test_a_pattern_is_the_call_with_the_number_left_out(api: str) -> None:
    for spelling in known()[api][1].spellings:
        if spelling.pattern:
            assert spelling.question == "window"
            number = WINDOW if spelling.number is None else spelling.number
            assert spelling.pattern.replace("{}", str(number)) == spelling.text
            passed = [value for value in spelling.arguments.values() if isinstance(value, (int, tuple))]
            flat = [side for value in passed for side in (value if isinstance(value, tuple) else (value,))]
            if spelling.number is not None and not api.startswith("xformers"):  # its masks are objects
                assert spelling.number in flat
        else:
            assert spelling.number is None


def test_every_window_is_a_number_or_written_out() -> None:
    """Masks and mask functions carry no number that the library would interpret."""
    for api, (_, found) in known().items():
        windows = [spelling for spelling in found.spellings if spelling.question == "window"]
        assert all(spelling.pattern for spelling in windows), api
        written_out = api.startswith("sdpa-") or api == "flex_attention"
        assert {spelling.number is None for spelling in windows} == {written_out}, api
