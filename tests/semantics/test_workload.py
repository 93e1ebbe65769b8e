"""Cells, operations and bytes of a timed call, against counting them one by one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from attncheck.semantics.spec import CAUSAL, FULL, Window
from attncheck.semantics.timing import BenchCase
from attncheck.semantics.workload import cells, lengths, traffic, visible

CASE = BenchCase("kernel", "any", "prefill", False, "plain", 1, 24, 24, 4, 2, 16, 8, "bfloat16", CAUSAL, "causal")


def counted(window: Window, q_len: int, kv_len: int) -> int:
    shift = kv_len - q_len
    left = 99 if window.left is None else window.left
    right = 99 if window.right is None else window.right
    return sum(-right <= i + shift - j <= left for i in range(q_len) for j in range(kv_len))


@pytest.mark.parametrize("window", [CAUSAL, FULL, Window(3, 0), Window(0, 0), Window(2, 5), Window(None, 2), Window(9)])
def test_visible_cells_are_counted(window: Window) -> None:
    for q_len, kv_len in itertools.product(range(1, 9), range(1, 9)):
        assert visible(window, q_len, kv_len) == counted(window, q_len, kv_len), (q_len, kv_len)


@pytest.mark.parametrize("window", [CAUSAL, FULL, Window(5, 0)])
def test_padding_documents_and_chunks_count_by_themselves(window: Window) -> None:
    case = replace(CASE, window=window)
    assert cells(case) == counted(window, 24, 24)
    padded = replace(case, inputs="padded", batch=3)
    assert lengths(padded) == (24, 16, 8)
    assert cells(padded) == sum(counted(window, n, n) for n in (24, 16, 8))
    packed = replace(case, inputs="packed")
    assert lengths(packed) == (12, 6, 3, 3)
    assert cells(packed) == sum(counted(window, n, n) for n in (12, 6, 3, 3))
    chunked = replace(case, chunk=10, batch=2)
    assert lengths(chunked) == (10, 10, 4) * 2
    assert cells(chunked) == 2 * sum(counted(window, n, n) for n in (10, 10, 4))


def test_a_decode_step_sees_its_window_of_the_cache() -> None:
    decode = replace(CASE, phase="decode", q_len=1, kv_len=100, batch=3)
    assert cells(decode) == 300
    assert cells(replace(decode, window=Window(9, 0))) == 30


def test_operations_follow_the_cells() -> None:
    case = replace(CASE, cells=counted(CAUSAL, 24, 24))
    assert case.flops == 4 * 300 * 2 * (16 + 8)
    assert replace(case, backward=True).flops == 3.5 * case.flops


def test_bytes_of_a_decode_step() -> None:
    decode = replace(CASE, phase="decode", q_len=1, kv_len=100, batch=3)
    keys, queries = 3 * 100 * 2 * 24, 3 * 4 * 24
    assert traffic(decode) == 2 * (keys + queries)
    assert traffic(replace(decode, window=Window(9, 0))) == 2 * (keys // 10 + queries)
    assert traffic(replace(decode, dtype="float32")) == 4 * (keys + queries)
